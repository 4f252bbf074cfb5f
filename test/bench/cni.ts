// CNI: ours (CPU of the launcher and of the resident server together) beside Debian's reference plugins (CPU of the
// process and all it starts): whole processes as a runtime starts them, one side after the other in every round, each in a
// host namespace of its own. Cases in ms are medians of CPU, those ending in -wall medians of time. Needs root.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { build } from 'esbuild';
import { run, runOk } from '../../src/linux/exec.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { CniHost, REFERENCE_PLUGINS } from '../harness/cni.ts';
import type { Report, Wants } from './main.ts';

const ROUNDS = 31;
const WARM = 5;
/** The resident server has served pods before, the reference starts afresh each time. */
const WARM_SERVER = 200;
const PARALLEL = 50;
const PARALLEL_PODS = 100;
const MANY_RESERVATIONS = 10_000;
const MANY_PODS = 200;
const ROOT = join(import.meta.dirname, '../..');

/** Those of `podwire cni serve` (scripts/build.ts). */
const SERVER_FLAGS = [
  '--disable-warning=ExperimentalWarning',
  '--max-semi-space-size=2',
  '--optimize-for-size',
];
const SERVER_ENVIRONMENT = {
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '65536',
  MALLOC_TRIM_THRESHOLD_: '131072',
};

type Config = Record<string, unknown>;

interface Cost {
  cpuMs: number;
  wallMs: number;
}

interface Side {
  host: CniHost;
  directory: string;
  /** CPU of the resident server since it began; 0 where there is none. */
  serverCpuMs: () => number;
}

interface ResidentServer {
  cpuMs: () => number;
  rssMb: () => number;
  stop: () => void;
}

/** The server in a process of its own, bundled, with the flags of `podwire cni serve`: as it is in production. */
async function startServer(socketPath: string): Promise<ResidentServer> {
  const outfile = join(ROOT, 'dist/bench/cni-server.mjs');
  await build({
    stdin: {
      contents: `
        import { CniServer } from './cni/runtime/server.ts';
        import { silentLogger } from './src/observe/log.ts';
        await new CniServer({ socketPath: process.argv[2], log: silentLogger() }).start();
        console.log('ready');`,
      resolveDir: ROOT,
    },
    ...{ outfile, bundle: true, platform: 'node', format: 'esm', target: 'node24', minifySyntax: true },
    external: ['koffi'],
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    logLevel: 'error',
  });
  const child = spawn(process.execPath, [...SERVER_FLAGS, outfile, socketPath], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...SERVER_ENVIRONMENT },
  });
  await new Promise(resolve => child.stdout.once('data', resolve));
  const tasks = `/proc/${child.pid}/task`;
  return {
    // The first field of schedstat is nanoseconds on a CPU; one file a thread.
    cpuMs: () =>
      readdirSync(tasks).reduce(
        (sum, task) => sum + Number(readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ')[0]) / 1e6,
        0,
      ),
    rssMb: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) / 1024,
    stop: () => child.kill('SIGKILL'),
  };
}

/** Executes one plugin under bash's `time`, which counts its CPU and that of its children in milliseconds. */
async function execute(
  side: Side,
  command: string,
  config: Config,
  pod: { id: string; netns: string },
): Promise<{ cost: Cost; result: Config | undefined }> {
  const { host, directory } = side;
  const before = side.serverCpuMs();
  const script =
    'TIMEFORMAT="%U %S"; a=$EPOCHREALTIME; time "$0" 2>/dev/null; b=$EPOCHREALTIME; echo "$a $b" >&2';
  const output = await runOk('/bin/bash', ['--norc', '-c', script, join(directory, String(config.type))], {
    netns: host.netns,
    env: host.environment(command, { config, directory, ...pod }),
    input: JSON.stringify(config),
    timeoutMs: 300_000,
  });
  const [user, system, begin, end] = output.stderr.trim().split(/\s+/).map(Number) as [
    number,
    number,
    number,
    number,
  ];
  if (output.stdout.includes('"code"')) throw new Error(`${command} of ${config.type}: ${output.stdout}`);
  const cpuMs = (user + system) * 1000 + side.serverCpuMs() - before;
  const result = output.stdout.trim() === '' ? undefined : (JSON.parse(output.stdout) as Config);
  return { cost: { cpuMs, wallMs: (end - begin) * 1000 }, result };
}

/** The same without the measuring shell, where its own cost would count. */
async function executeBare(
  side: Side,
  command: string,
  config: Config,
  pod: { id: string; netns: string },
): Promise<Config | undefined> {
  const { host, directory } = side;
  const { stdout } = await run(join(directory, String(config.type)), [], {
    netns: host.netns,
    env: host.environment(command, { config, directory, ...pod }),
    input: JSON.stringify(config),
    timeoutMs: 300_000,
  });
  if (stdout.includes('"code"')) throw new Error(`${command} of ${config.type}: ${stdout}`);
  return stdout.trim() === '' ? undefined : (JSON.parse(stdout) as Config);
}

/** A plugin's part of a list as a runtime hands it over. */
function listed(plugin: Config, prevResult: Config | undefined): Config {
  return {
    cniVersion: '1.0.0',
    name: 'bench',
    ...plugin,
    ...(prevResult === undefined ? {} : { prevResult }),
  };
}

/** A whole list: in order for ADD, reversed for DEL; costs added up. */
async function executeList(
  side: Side,
  command: 'ADD' | 'DEL',
  plugins: readonly Config[],
  pod: { id: string; netns: string },
  prevResult?: Config,
): Promise<{ cost: Cost; result: Config | undefined }> {
  const total: Cost = { cpuMs: 0, wallMs: 0 };
  let result = prevResult;
  for (const plugin of command === 'ADD' ? plugins : plugins.toReversed()) {
    const step = await execute(side, command, listed(plugin, result), pod);
    total.cpuMs += step.cost.cpuMs;
    total.wallMs += step.cost.wallMs;
    if (command === 'ADD') result = step.result;
  }
  return { cost: total, result };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function ipam(side: Side): Config {
  return {
    type: 'host-local',
    dataDir: side.host.dataDir,
    ranges: [[{ subnet: '10.90.0.0/16' }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
}

function bridge(side: Side, over: Config = {}): Config {
  return { type: 'bridge', bridge: 'br0', isGateway: true, ipam: ipam(side), ...over };
}

/** bridge with ipMasq, two host ports, both bandwidth limits: what a Kubernetes pod may come to. */
function list(side: Side, firstPort: number): Config[] {
  const portMappings = [
    { hostPort: firstPort, containerPort: 80, protocol: 'tcp' },
    { hostPort: firstPort + 1, containerPort: 53, protocol: 'udp' },
  ];
  const limits = { ingressRate: 1e9, ingressBurst: 1e7, egressRate: 1e9, egressBurst: 1e7 };
  return [
    bridge(side, { ipMasq: true, hairpinMode: true }),
    { type: 'portmap', snat: true, runtimeConfig: { portMappings } },
    { type: 'bandwidth', runtimeConfig: { bandwidth: limits } },
  ];
}

interface Costs {
  add: Cost[];
  del: Cost[];
}

/** ADD and DEL of one pod, again and again, one side after the other. */
async function alternate(sides: readonly Side[], plugins: (side: Side) => Config[]): Promise<Costs[]> {
  const pods = sides.map(side => side.host.addPod());
  const costs: Costs[] = sides.map(() => ({ add: [], del: [] }));
  const [ours] = sides;
  for (let round = 0; ours !== undefined && round < WARM_SERVER; round++) {
    const pod = { id: `w${round}`, netns: pods[0]! };
    const added = await executeList(ours, 'ADD', plugins(ours), pod);
    await executeList(ours, 'DEL', plugins(ours), pod, added.result);
  }
  for (let round = 0; round < WARM + ROUNDS; round++)
    for (const [i, side] of sides.entries()) {
      const pod = { id: `r${round}`, netns: pods[i]! };
      const added = await executeList(side, 'ADD', plugins(side), pod);
      const deleted = await executeList(side, 'DEL', plugins(side), pod, added.result);
      if (round < WARM) continue;
      costs[i]!.add.push(added.cost);
      costs[i]!.del.push(deleted.cost);
    }
  for (const [i, side] of sides.entries()) side.host.removePod(pods[i]!);
  return costs;
}

type Verb = keyof Costs;
type Reporter = (name: string, verb: Verb, costs: Costs[], what?: 'cpuMs' | 'wallMs') => void;

function reporter(report: Report): Reporter {
  return (name, verb, costs, what = 'cpuMs') => {
    const [ours, peer] = costs.map(one => median(one[verb].map(cost => cost[what]))) as [number, number];
    const suffix = what === 'wallMs' ? '-wall' : '';
    report({ name: `cni/${name}${suffix}`, ours, peer, unit: 'ms' });
  };
}

async function fillReservations(side: Side): Promise<void> {
  const directory = join(side.host.dataDir, 'bench');
  mkdirSync(directory, { recursive: true });
  for (let i = 0; i < MANY_RESERVATIONS; i++)
    writeFileSync(join(directory, `10.90.${100 + (i >> 8)}.${i & 255}`), `other${i}\r\neth0`);
}

/**
 * The kernel takes namespaces apart in the background and holds the one lock of all network configuration meanwhile,
 * for minutes after hundreds of them: waits until it is free again.
 */
async function untilQuiet(side: Side): Promise<void> {
  using net = Rtnetlink.open(side.host.netns);
  const deadline = performance.now() + 120_000;
  for (let quick = 0; quick < 20 && performance.now() < deadline; ) {
    const begin = performance.now();
    net.setLink('lo', { up: true });
    quick = performance.now() - begin < 5 ? quick + 1 : 0;
    await pause(50);
  }
}

/** Pods a second, PARALLEL lists at once. */
async function parallel(side: Side): Promise<number> {
  const pods = Array.from({ length: PARALLEL_PODS }, (_, i) => ({ id: `p${i}`, netns: side.host.addPod() }));
  const results = new Map<string, Config | undefined>();
  const each = async (work: (pod: (typeof pods)[number], i: number) => Promise<void>): Promise<number> => {
    let next = 0;
    const begin = performance.now();
    const worker = async (): Promise<void> => {
      while (next < pods.length) {
        const i = next++;
        await work(pods[i]!, i);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
    return (pods.length * 1000) / (performance.now() - begin);
  };
  const rate = await each(async (pod, i) => {
    let prevResult: Config | undefined;
    for (const plugin of list(side, 20_000 + 2 * i))
      prevResult = await executeBare(side, 'ADD', listed(plugin, prevResult), pod);
    results.set(pod.id, prevResult);
  });
  await each(async (pod, i) => {
    for (const plugin of list(side, 20_000 + 2 * i).toReversed())
      await executeBare(side, 'DEL', listed(plugin, results.get(pod.id)), pod);
  });
  for (const pod of pods) side.host.removePod(pod.netns);
  return rate;
}

export async function bench(report: Report, wants: Wants): Promise<void> {
  if (process.getuid?.() !== 0 || !existsSync(join(REFERENCE_PLUGINS, 'bridge'))) {
    console.log('bench cni: needs root and Debian’s containernetworking-plugins');
    return;
  }
  const hosts: CniHost[] = [];
  let server: ResidentServer | undefined;
  const work = async (): Promise<void> => {
    for (let i = 0; i < 2; i++) hosts.push(await CniHost.create({ server: false }));
    const [first, second] = hosts as [CniHost, CniHost];
    server = await startServer(first.socketPath);
    const ours: Side = { host: first, directory: first.plugins, serverCpuMs: server.cpuMs };
    const theirs: Side = { host: second, directory: REFERENCE_PLUGINS, serverCpuMs: () => 0 };
    await runCases([ours, theirs], report, wants);
    report({
      ...{ name: 'cni/server-rss', ours: server.rssMb(), peer: 80, unit: 'MB' },
      note: 'peer is the target; the server as built, after these cases',
    });
  };
  // A terminal and `timeout` send more than one signal. What is under way fails when its namespaces go.
  const stopped = Promise.withResolvers<never>();
  const onSignal = (signal: NodeJS.Signals): void => stopped.reject(new Error(`stopped by ${signal}`));
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    await Promise.race([work(), stopped.promise]);
  } finally {
    server?.stop();
    for (const host of hosts) await host.close();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

async function runCases(sides: readonly Side[], report: Report, wants: Wants): Promise<void> {
  const say = reporter(report);
  const each = async (
    cases: Record<string, Verb>,
    plugins: (side: Side) => Config[],
    what: readonly ('cpuMs' | 'wallMs')[] = ['cpuMs', 'wallMs'],
  ): Promise<void> => {
    const chosen = Object.entries(cases).filter(([name]) => wants(name));
    if (chosen.length === 0) return;
    const costs = await alternate(sides, plugins);
    for (const [name, verb] of chosen) for (const one of what) say(name, verb, costs, one);
  };
  await each({ 'bridge-add': 'add', 'bridge-del': 'del' }, side => [bridge(side)]);
  await each({ 'bridge-masq-add': 'add' }, side => [bridge(side, { ipMasq: true })]);
  await each({ 'list-add': 'add', 'list-del': 'del' }, side => list(side, 8080));
  if (wants(`list-add-${MANY_PODS}pods`)) await manyPods(sides, say);
  if (wants(`parallel-${PARALLEL}`)) {
    const rates: number[] = [];
    for (const side of sides) {
      await untilQuiet(side);
      rates.push(await parallel(side));
    }
    report({ name: `cni/parallel-${PARALLEL}`, ours: rates[0]!, peer: rates[1]!, unit: 'pods/s' });
  }
  if (wants(`host-local-${MANY_RESERVATIONS}`)) {
    for (const side of sides) await fillReservations(side);
    await each(
      { [`host-local-${MANY_RESERVATIONS}`]: 'add' },
      side => [{ type: 'host-local', ipam: ipam(side) }],
      ['cpuMs'],
    );
  }
}

async function manyPods(sides: readonly Side[], say: Reporter): Promise<void> {
  const pods = sides.map(side =>
    Array.from({ length: MANY_PODS }, (_, i) => ({ id: `m${i}`, netns: side.host.addPod() })),
  );
  for (const [s, side] of sides.entries())
    for (const [i, pod] of pods[s]!.entries())
      await executeList(side, 'ADD', list(side, 30_000 + 2 * i), pod);
  const crowded = await alternate(sides, side => list(side, 8080));
  say(`list-add-${MANY_PODS}pods`, 'add', crowded);
  say(`list-add-${MANY_PODS}pods`, 'add', crowded, 'wallMs');
  for (const [s, side] of sides.entries()) {
    for (const pod of pods[s]!) side.host.removePod(pod.netns);
    // The namespaces are gone, and with them the links; rules and reservations go by the names alone.
    for (const [i, pod] of pods[s]!.entries())
      if (s === 0) await executeList(side, 'DEL', list(side, 30_000 + 2 * i), { ...pod, netns: '' });
  }
}
