// BGP: how fast routes are learned, reach the kernel, and cross a mesh, beside FRR and BIRD in the same run.
//
//   injector (10.0.2.1) ── veth ── receiver (10.0.2.2): ours (the bundled speaker, one process) | FRR bgpd | BIRD
//   50 namespaces on one bridge: 50 BIRD processes | 50 of our speakers in one process (stated: it saves 49 starts,
//   and makes all of them share one core)
//
// Times run from the first UPDATE written to the receiver's own count of N (mesh: from the first process started to
// the last route in the last kernel, by rtnetlink notification). CPU is schedstat, memory is the peak.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import {
  cpuSeconds,
  fibPrefixes,
  JsonProcess,
  Namespaces,
  netnsName,
  peakMemoryMb,
  until,
  wait,
} from '../harness/bgp/bench-net.ts';
import { BIRD, Bird, FRR_BGPD, Frr, missing, TemporaryDirectory } from '../harness/bgp/peers.ts';
import { RouteWatch } from '../harness/bgp/route-watch.ts';
import type { BenchLine, Wants } from './main.ts';

const ROOT = join(import.meta.dirname, '../..');
const AS = 64512;
const ROUTES = Number(process.env.PODWIRE_BENCH_ROUTES ?? 100_000);
const MESH = Number(process.env.PODWIRE_BENCH_MESH ?? 50);
const NODE_FLAGS = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=8'];

/** The form that is released: one bundled file. */
function bundle(entry: string): string {
  const outfile = join(ROOT, 'dist/bench', `${entry}.mjs`);
  mkdirSync(join(ROOT, 'dist/bench'), { recursive: true });
  buildSync({
    entryPoints: [join(ROOT, 'test/harness/bgp', `${entry}.ts`)],
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile,
    external: ['koffi'],
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    logLevel: 'error',
  });
  return outfile;
}

interface Receiver {
  pids: number[];
  count: () => Promise<number>;
}

type StartReceiver = (namespaces: Namespaces, directory: string, kernel: boolean) => Promise<Receiver>;

const ours: StartReceiver = async (namespaces, _directory, kernel) => {
  const config = {
    asn: AS,
    routerId: '10.0.2.2',
    listen: [{ address: '10.0.2.2', port: 179 }],
    peers: [{ name: 'injector', address: '10.0.2.1', asn: AS, passive: true }],
    originate: [],
    fib: kernel,
  };
  const child = namespaces.spawn(netnsName('rcv'), process.execPath, [
    ...NODE_FLAGS,
    bundle('speaker-process'),
    JSON.stringify(config),
  ]);
  const speaker = new JsonProcess(child);
  await speaker.next();
  return { pids: [child.pid!], count: () => speaker.ask<number>({ ask: 'count' }) };
};

const frr: StartReceiver = async (namespaces, directory, kernel) => {
  const daemon = new Frr(netnsName('rcv'), directory);
  const config = `router bgp ${AS}
 bgp router-id 10.0.2.2
 no bgp default ipv4-unicast
 neighbor 10.0.2.1 remote-as ${AS}
 neighbor 10.0.2.1 passive
 timers bgp 60 240
 address-family ipv4 unicast
  neighbor 10.0.2.1 activate
 exit-address-family
`;
  await daemon.start(namespaces, '10.0.2.2', config, kernel);
  return { pids: daemon.pids, count: () => Promise.resolve(daemon.received('10.0.2.1')) };
};

const bird: StartReceiver = async (namespaces, directory, kernel) => {
  const config = `router id 10.0.2.2;
protocol device { scan time 2; }
protocol direct { ipv4; }
${kernel ? 'protocol kernel { scan time 600; ipv4 { import none; export where source = RTS_BGP; }; }' : ''}
protocol bgp inj { local 10.0.2.2 as ${AS}; neighbor 10.0.2.1 as ${AS}; hold time 240; passive on;
  ipv4 { import all; export none; }; }
`;
  const daemon = new Bird(namespaces, netnsName('rcv'), directory, config);
  await daemon.ask('show status');
  return { pids: [daemon.pid], count: () => daemon.imported('inj') };
};

interface Measured {
  learnedS: number;
  fibS: number;
  cpuS: number;
  memoryMb: number;
}

async function receive(
  start: StartReceiver,
  count: number,
  perUpdate: number,
  kernel: boolean,
): Promise<Measured> {
  using namespaces = new Namespaces();
  using directory = new TemporaryDirectory();
  const mid = namespaces.add('mid');
  const rcv = namespaces.add('rcv');
  namespaces.connect(mid, rcv, 'v', '10.0.2.1/24', '10.0.2.2/24');
  const { pids, count: counted } = await start(namespaces, directory.path, kernel);
  const injector = namespaces.spawnNode(mid, 'injector.ts', {
    local: '10.0.2.1',
    remote: '10.0.2.2',
    asn: AS,
    count,
    perUpdate,
  });
  await injector.next();
  await wait(500);
  const cpu = cpuSeconds(pids);
  const fib = fibPrefixes(pids[0]!);
  injector.child.stdin.write('go\n');
  const first = await injector.next<{ at: number }>();
  let learned = 0;
  let inKernel = 0;
  const done = await until(
    async () => {
      if (learned === 0 && (await counted()) >= count) learned = Date.now();
      if (kernel && inKernel === 0 && fibPrefixes(pids[0]!) - fib >= count) inKernel = Date.now();
      return learned > 0 && (!kernel || inKernel > 0);
    },
    120_000,
    20,
  );
  if (!done) throw new Error(`the receiver had only ${await counted()} of ${count} routes after two minutes`);
  await wait(300);
  const result = {
    learnedS: (learned - first.at) / 1000,
    fibS: (inKernel - first.at) / 1000,
    cpuS: cpuSeconds(pids) - cpu,
    memoryMb: peakMemoryMb(pids),
  };
  await namespaces.killChildren();
  return result;
}

/** The better of two runs: the machine is shared. */
async function best(
  start: StartReceiver,
  count: number,
  perUpdate: number,
  kernel: boolean,
): Promise<Measured> {
  const a = await receive(start, count, perUpdate, kernel);
  const b = await receive(start, count, perUpdate, kernel);
  const better = (x: Measured): number => (kernel ? x.fibS : x.learnedS);
  return better(a) <= better(b) ? a : b;
}

// --- the mesh -----------------------------------------------------------------

interface MeshNode {
  netns: string;
  address: string;
  block: string;
}

const meshNodes = (): MeshNode[] =>
  Array.from({ length: MESH }, (_, i) => ({
    netns: netnsName(`n${i + 1}`),
    address: `10.100.0.${i + 1}`,
    block: `10.244.${i + 1}.0/26`,
  }));

const hex = (n: number): string => n.toString(16).padStart(2, '0');

function buildMesh(namespaces: Namespaces, nodes: readonly MeshNode[], directory: string): void {
  const sw = namespaces.add('sw');
  const lines = ['link add br0 type bridge', 'link set br0 up'];
  for (const i of nodes.keys()) namespaces.add(`n${i + 1}`);
  nodes.forEach(({ netns }, i) => {
    lines.push(
      `link add p${i + 1} type veth peer name eth0 address 02:00:00:00:00:${hex(i + 1)} netns ${netns}`,
      `link set p${i + 1} master br0 up`,
    );
  });
  batch(sw, lines, directory);
  // The neighbour table's limit (gc_thresh3, 1024) counts all namespaces: permanent entries are outside it.
  nodes.forEach(({ netns, address }, i) => {
    const others = nodes.flatMap((other, j) =>
      j === i
        ? []
        : [`neigh replace ${other.address} lladdr 02:00:00:00:00:${hex(j + 1)} nud permanent dev eth0`],
    );
    batch(netns, [`addr add ${address}/24 dev eth0`, 'link set eth0 up', ...others], directory);
  });
}

function batch(netns: string, lines: readonly string[], _directory: string): void {
  execFileSync('ip', ['-n', netns, '-batch', '-'], {
    input: `${lines.join('\n')}\n`,
    stdio: ['pipe', 'ignore', 'inherit'],
  });
}

interface Mesh {
  change: (blocks: readonly string[]) => Promise<void>;
}

type StartMesh = (namespaces: Namespaces, nodes: readonly MeshNode[], directory: string) => Mesh;

const ourMesh: StartMesh = (namespaces, nodes) => {
  const child = namespaces.spawn(nodes[0]!.netns, process.execPath, [
    ...NODE_FLAGS,
    meshBundle(),
    JSON.stringify({ nodes }),
  ]);
  return {
    change: blocks => {
      child.stdin.write(`${JSON.stringify({ ask: 'change', node: 0, blocks })}\n`);
      return Promise.resolve();
    },
  };
};

let meshFile: string | undefined;
function meshBundle(): string {
  meshFile ??= bundle('mesh-process');
  return meshFile;
}

/** As confd makes it for calico-node: aggregation filter, static blackholes, connect delay 2 s. */
function birdMeshConfig(node: MeshNode, nodes: readonly MeshNode[], blocks: readonly string[]): string {
  const aggregate = blocks
    .map(b => ` if ( net = ${b} ) then accept;\n if ( net ~ ${b} ) then reject;`)
    .join('\n');
  const peers = nodes
    .filter(other => other !== node)
    .map(
      (other, i) =>
        `protocol bgp Mesh_${i} from bgp_template { neighbor ${other.address} as ${AS}; ${other.address > node.address ? 'passive on; ' : ''}}`,
    );
  return `router id ${node.address};
protocol device { scan time 2; }
protocol direct { ipv4; interface -"cali*", "*"; }
function calico_aggr() {
${aggregate}
}
protocol kernel { learn; persist; scan time 2; graceful restart; merge paths on; ipv4 { import all; export all; }; }
protocol static { ipv4; ${blocks.map(b => `route ${b} blackhole; `).join('')} }
template bgp bgp_template { local ${node.address} as ${AS}; multihop; graceful restart; connect delay time 2;
  connect retry time 5; error wait time 5,30; ipv4 { import all; add paths on; gateway recursive;
  export filter { calico_aggr(); if ( net ~ 10.244.0.0/15 ) then accept; reject; }; }; }
${peers.join('\n')}
`;
}

const birdMesh: StartMesh = (namespaces, nodes, directory) => {
  const daemons = nodes.map(
    node => new Bird(namespaces, node.netns, directory, birdMeshConfig(node, nodes, [node.block])),
  );
  return {
    change: async blocks => {
      await daemons[0]!.configure(birdMeshConfig(nodes[0]!, nodes, blocks));
    },
  };
};

interface MeshResult {
  allS: number;
  changeMs: number;
}

async function mesh(start: StartMesh): Promise<MeshResult> {
  const nodes = meshNodes();
  using namespaces = new Namespaces();
  using directory = new TemporaryDirectory();
  buildMesh(namespaces, nodes, directory.path);
  using watch = new RouteWatch(nodes.map(({ netns }) => netns));
  watch.drain();
  const now = (): number => performance.timeOrigin + performance.now();
  const began = now();
  const running = start(namespaces, nodes, directory.path);
  const all = new Set(
    nodes.flatMap(node => nodes.flatMap(other => (other === node ? [] : [`${node.netns} ${other.block}`]))),
  );
  const converged = await watch.all(all, false, 60_000);
  if (converged === undefined) throw new Error('the mesh did not converge within a minute');
  await wait(2500);
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    watch.drain();
    const block = `10.245.${i}.0/26`;
    const changed = now();
    const applied = running.change([nodes[0]!.block, block]);
    const seen = await watch.all(
      new Set(nodes.slice(1).map(({ netns }) => `${netns} ${block}`)),
      false,
      20_000,
    );
    await applied;
    if (seen === undefined) throw new Error(`${block} did not reach every node`);
    times.push(seen - changed);
    await wait(300);
  }
  await namespaces.killChildren();
  // The first change pays for caches on both sides; the median of the others counts.
  const later = times.slice(1).sort((a, b) => a - b);
  return { allS: (converged - began) / 1000, changeMs: later[later.length >> 1]! };
}

const MANY = 500_000;

/** `packed` is six prefixes to an UPDATE, `single` one; beside FRR in learning, beside BIRD with the kernel's routes. */
const RECEIVE: readonly [count: number, title: 'packed' | 'single', peer: StartReceiver, suffix: string][] = [
  [ROUTES, 'packed', frr, ''],
  [ROUTES, 'single', frr, ''],
  [MANY, 'packed', frr, ''],
  [MANY, 'single', frr, ''],
  [MANY, 'packed', bird, '-bird'],
];

async function benchReceive(
  report: (line: BenchLine) => void,
  [count, title, peer, suffix]: (typeof RECEIVE)[number],
): Promise<void> {
  const perUpdate = title === 'packed' ? 6 : 1;
  const mine = await best(ours, count, perUpdate, false);
  const theirs = await best(peer, count, perUpdate, false);
  const name = `bgp/receive-${count}-${title}${suffix}`;
  report({ name, ours: mine.learnedS, peer: theirs.learnedS, unit: 's' });
  report({ name: `${name} cpu`, ours: mine.cpuS, peer: theirs.cpuS, unit: 's' });
  report({ name: `${name} peak memory`, ours: mine.memoryMb, peer: theirs.memoryMb, unit: 'MB' });
}

async function benchFib(report: (line: BenchLine) => void, count: number): Promise<void> {
  const mine = await best(ours, count, 6, true);
  const theirs = await best(bird, count, 6, true);
  report({ name: `bgp/fib-${count}`, ours: mine.fibS, peer: theirs.fibS, unit: 's' });
  report({ name: `bgp/fib-${count} cpu`, ours: mine.cpuS, peer: theirs.cpuS, unit: 's' });
  report({ name: `bgp/fib-${count} peak memory`, ours: mine.memoryMb, peer: theirs.memoryMb, unit: 'MB' });
}

async function benchMesh(report: (line: BenchLine) => void): Promise<void> {
  // Bundling is no part of starting.
  meshBundle();
  const mine = await mesh(ourMesh);
  const theirs = await mesh(birdMesh);
  report({ name: `bgp/mesh-${MESH}`, ours: mine.allS, peer: theirs.allS, unit: 's' });
  report({ name: `bgp/mesh-${MESH}-change`, ours: mine.changeMs, peer: theirs.changeMs, unit: 'ms' });
}

/** A mesh's two figures come from one run. */
export async function bench(report: (line: BenchLine) => void, wants: Wants): Promise<void> {
  const why = missing(BIRD, 'bird2') || missing(FRR_BGPD, 'frr');
  if (why !== false) {
    console.log(`bgp: skipped, ${why}`);
    return;
  }
  console.log(`bgp: ${ROUTES} and ${MANY} routes, mesh of ${MESH}, load ${loadavg()[0]!.toFixed(1)}`);
  for (const one of RECEIVE)
    if (wants(`receive-${one[0]}-${one[1]}${one[3]}`)) await benchReceive(report, one);
  for (const count of [ROUTES, MANY]) if (wants(`fib-${count}`)) await benchFib(report, count);
  if (wants(`mesh-${MESH}`) || wants(`mesh-${MESH}-change`)) await benchMesh(report);
}
