// The overlay: 5,000 peers from cold beside `ip -batch` and `bridge -batch` of flannel's entries, and pod-to-pod traffic
// beside the same VXLAN wired by hand with ip and bridge, in the same run, interleaved.
import { rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Overlay } from '../../routing/overlay.ts';
import { parseNetConf } from '../../routing/subnet/net-conf.ts';
import type { Node } from '../../src/api/types.ts';
import { KernelReconciler } from '../../src/kernel/reconciler.ts';
import { spawnChild } from '../../src/linux/exec.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { type LabNamespace, NetnsLab } from '../harness/netns-lab.ts';
import { OverlayCluster } from '../netns/overlay/cluster.ts';
import { makeNode } from '../unit/routing/node-fixtures.ts';
import type { Report } from './main.ts';

const PEERS = Number(process.env.PODWIRE_BENCH_PEERS ?? 5000);
const ROUNDS = 3;
const IPERF_SECONDS = 2;
const PINGS = 2000;

interface Entry {
  subnet: string;
  gateway: string;
  mac: string;
  publicIp: string;
}

function entry(n: number): Entry {
  const [high, low] = [(n >> 8) & 255, n & 255];
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  return {
    subnet: `10.${high}.${low}.0/24`,
    gateway: `10.${high}.${low}.0`,
    mac: `02:aa:00:${hex(high)}:${hex(low)}:01`,
    publicIp: `172.31.${16 + Math.trunc(n / 250)}.${(n % 250) + 1}`,
  };
}

function underlay(lab: NetnsLab, name: string): LabNamespace {
  const host = lab.namespace(name);
  const other = lab.namespace(`${name}x`);
  lab.wire(host, 'eth0', other, 'eth0');
  host.address('eth0', '172.31.0.1/16');
  return host;
}

async function peersByBatch(lab: NetnsLab, round: number, entries: Entry[]): Promise<number> {
  const host = underlay(lab, `b${round}`);
  for (const line of [
    'link add flannel.1 type vxlan id 1 local 172.31.0.1 dev eth0 dstport 8472 nolearning',
    'addr add 10.255.1.0/32 dev flannel.1',
    'link set flannel.1 up',
  ])
    await host.run('ip', line.split(' '));
  const batches: [string, string[]][] = [
    ['ip', entries.map(e => `neigh replace ${e.gateway} dev flannel.1 lladdr ${e.mac} nud permanent`)],
    ['bridge', entries.map(e => `fdb replace ${e.mac} dev flannel.1 dst ${e.publicIp} self permanent`)],
    ['ip', entries.map(e => `route replace ${e.subnet} via ${e.gateway} dev flannel.1 onlink`)],
  ];
  const file = join(tmpdir(), `podwire-bench-${process.pid}.batch`);
  let total = 0;
  for (const [program, lines] of batches) {
    writeFileSync(file, `${lines.join('\n')}\n`);
    const from = performance.now();
    await host.run(program, ['-batch', file]);
    total += performance.now() - from;
  }
  rmSync(file);
  return total;
}

async function peersByOverlay(
  lab: NetnsLab,
  round: number,
  nodes: Node[],
): Promise<{ cold: number; join: number }> {
  const host = underlay(lab, `o${round}`);
  const reconciler = new KernelReconciler({
    netns: host.netns,
    lockDirectory: lab.directory,
    log: silentLogger(),
  });
  const overlay = new Overlay({
    nodeName: 'self',
    config: parseNetConf('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}'),
    underlay: { link: 'eth0', addresses: ['172.31.0.1/16'], mtuBytes: 1500 },
    // As the peer: entries only, no rules.
    rules: { masquerade: false, forward: false },
    setDesired: state => reconciler.setDesired('overlay', state),
    patchNode: async () => {},
  });
  await reconciler.start();
  const from = performance.now();
  overlay.setNodes(nodes);
  overlay.flush();
  await reconciler.settled();
  const cold = performance.now() - from;
  const joins: number[] = [];
  for (let n = 1; n <= 5; n++) {
    const e = entry(PEERS + n);
    const at = performance.now();
    overlay.upsertNode(makeNode(`late${n}`, { podCidrs: [e.subnet], publicIp: e.publicIp, mac: e.mac }));
    overlay.flush();
    await reconciler.settled();
    joins.push(performance.now() - at);
  }
  const held = host.rt.listRoutes({ protocol: 213 }).length;
  if (held !== PEERS + 5) throw new Error(`the kernel holds ${held} of ${PEERS + 5} routes`);
  overlay.stop();
  await reconciler.stop();
  return { cold, join: joins.sort((a, b) => a - b)[2]! };
}

async function benchPeers(report: Report): Promise<void> {
  const entries = Array.from({ length: PEERS }, (_, n) => entry(n + 1));
  const nodes = [
    makeNode('self', { podCidrs: ['10.255.1.0/24'] }),
    ...entries.map((e, n) => makeNode(`n${n}`, { podCidrs: [e.subnet], publicIp: e.publicIp, mac: e.mac })),
  ];
  const best = { batch: Infinity, cold: Infinity, join: Infinity };
  for (let round = 0; round < ROUNDS; round++) {
    const lab = new NetnsLab('bov');
    try {
      best.batch = Math.min(best.batch, await peersByBatch(lab, round, entries));
      const ours = await peersByOverlay(lab, round, nodes);
      best.cold = Math.min(best.cold, ours.cold);
      best.join = Math.min(best.join, ours.join);
    } finally {
      lab.close();
    }
  }
  const note = `peer: ip -batch and bridge -batch of flannel's entries; one more node ${best.join.toFixed(1)} ms`;
  report({ name: `overlay/peers-${PEERS}`, ours: best.cold, peer: best.batch, unit: 'ms', note });
}

/** Gbit/s from one pod to another. */
async function throughput(
  from: LabNamespace,
  to: LabNamespace,
  address: string,
  streams: number,
): Promise<number> {
  const server = spawnChild('iperf3', ['-s', '-1', '-p', '5201'], { netns: to.netns });
  await sleep(150);
  const args = ['-c', address, '-p', '5201', '-t', String(IPERF_SECONDS), '-P', String(streams), '-J'];
  const result = await from.run('iperf3', args);
  await server.exited;
  return JSON.parse(result.stdout).end.sum_received.bits_per_second / 1e9;
}

/** Median microseconds of one byte there and back over TCP. */
async function latency(from: LabNamespace, to: LabNamespace, address: string, port: number): Promise<number> {
  const server = spawnChild('busybox', ['nc', '-ll', '-p', String(port), '-e', '/bin/cat'], {
    netns: to.netns,
  });
  await sleep(150);
  const socket: Socket = from.connect(address, port);
  socket.setNoDelay(true);
  const times: number[] = [];
  await new Promise<void>((resolve, reject) => {
    let at = 0;
    socket.once('error', reject);
    socket.once('connect', () => {
      at = performance.now();
      socket.write('x');
    });
    socket.on('data', () => {
      times.push((performance.now() - at) * 1000);
      if (times.length === PINGS) return resolve();
      at = performance.now();
      socket.write('x');
    });
  });
  socket.destroy();
  server.kill('SIGKILL');
  await server.exited;
  return times.sort((a, b) => a - b)[PINGS >> 1]!;
}

/** What flanneld writes with --ip-masq, for the iptables that ours uses as well. */
function flannelRules(n: number): string {
  const own = `10.244.${n}.0/24`;
  const all = '10.244.0.0/16';
  return `*filter
:FLANNEL-FWD - [0:0]
-A FORWARD -j FLANNEL-FWD
-A FLANNEL-FWD -s ${all} -j ACCEPT
-A FLANNEL-FWD -d ${all} -j ACCEPT
COMMIT
*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN
-A FLANNEL-POSTRTG -s ${own} -d ${all} -j RETURN
-A FLANNEL-POSTRTG -s ${all} -d ${own} -j RETURN
-A FLANNEL-POSTRTG ! -s ${all} -d ${own} -j RETURN
-A FLANNEL-POSTRTG -s ${all} ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s ${all} -d ${all} -j MASQUERADE --random-fully
COMMIT
`;
}

/** Two hosts wired as flannel would, by hand. */
async function byHand(
  cluster: OverlayCluster,
): Promise<{ pod: LabNamespace; podAddresses: { v4: string } }[]> {
  const hosts = [5, 6].map(n => ({ n, ...cluster.addBareHost({ n }) }));
  const mac = (n: number): string => `02:00:00:00:00:0${n}`;
  for (const { n, host } of hosts) {
    const other = n === 5 ? 6 : 5;
    for (const line of [
      `ip link add flannel.1 address ${mac(n)} mtu 1450 type vxlan id 1 local 10.99.0.${n} dev eth0 dstport 8472 nolearning`,
      `ip addr add 10.244.${n}.0/32 dev flannel.1`,
      'ip link set flannel.1 up',
      `ip neigh replace 10.244.${other}.0 lladdr ${mac(other)} dev flannel.1 nud permanent`,
      `bridge fdb append ${mac(other)} dev flannel.1 dst 10.99.0.${other} self permanent`,
      `ip route replace 10.244.${other}.0/24 via 10.244.${other}.0 dev flannel.1 onlink`,
      'sysctl -qw net.ipv4.ip_forward=1',
    ]) {
      const [program, ...args] = line.split(' ');
      await host.run(program!, args);
    }
    await host.run('iptables-nft-restore', ['--noflush'], flannelRules(n));
  }
  return hosts;
}

async function benchTraffic(report: Report): Promise<void> {
  const cluster = new OverlayCluster(
    'btr',
    parseNetConf('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}'),
  );
  try {
    for (const n of [1, 2]) await cluster.addHost({ n });
    await cluster.sync();
    const pairs = { ours: cluster.hosts, peer: await byHand(cluster) };
    const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;
    for (const streams of [1, 4]) {
      const got = { ours: [] as number[], peer: [] as number[] };
      for (let round = 0; round < ROUNDS; round++)
        for (const who of ['ours', 'peer'] as const) {
          const [from, to] = pairs[who];
          got[who].push(await throughput(from!.pod, to!.pod, to!.podAddresses.v4, streams));
        }
      const best = { ours: Math.max(...got.ours), peer: Math.max(...got.peer) };
      report({
        name: `overlay/throughput-${streams}`,
        ...best,
        unit: 'Gbit/s',
        note: `best of ${ROUNDS}; peer: flannel's objects and rules by hand`,
      });
    }
    const got = { ours: [] as number[], peer: [] as number[] };
    for (let round = 0; round < ROUNDS; round++)
      for (const who of ['ours', 'peer'] as const) {
        const [from, to] = pairs[who];
        got[who].push(await latency(from!.pod, to!.pod, to!.podAddresses.v4, 7000 + round));
      }
    report({ name: 'overlay/latency', ours: median(got.ours), peer: median(got.peer), unit: 'us' });
  } finally {
    await cluster.close();
  }
}

export async function bench(report: Report): Promise<void> {
  await benchPeers(report);
  await benchTraffic(report);
}
