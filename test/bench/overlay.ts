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
const FEW_PEERS = 50;
/** The nodes that join when the others are there. */
const LATE = Array.from({ length: 20 }, (_, n) => n + 1);
const SETTLED_MS = 1000;
const TRAFFIC_ROUNDS = 15;
const IPERF_SECONDS = 1;
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

/** All of them by `ip -batch` and `bridge -batch`, then one more by flannel's three requests. */
async function peersByBatch(
  lab: NetnsLab,
  round: number,
  entries: Entry[],
): Promise<{ cold: number; join: number }> {
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
  const joins = LATE.map(n => {
    const { gateway: address, mac, publicIp: destination, subnet } = entry(PEERS + n);
    const from = performance.now();
    host.rt.setNeighbour({ link: 'flannel.1', address, mac });
    host.rt.setFdb({ link: 'flannel.1', mac, destination });
    host.rt.addRoute({
      destination: subnet,
      gateway: address,
      link: 'flannel.1',
      onlink: true,
      replace: true,
    });
    return performance.now() - from;
  });
  return { cold: total, join: median(joins) };
}

async function peersByOverlay(
  lab: NetnsLab,
  name: string,
  nodes: Node[],
): Promise<{ cold: number; join: number }> {
  const host = underlay(lab, name);
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
  // What the kernel told of the 5,000 is compared once more; a joining node comes later than that.
  await sleep(SETTLED_MS);
  await reconciler.settled();
  const joins: number[] = [];
  for (const n of LATE) {
    const e = entry(PEERS + n);
    const at = performance.now();
    overlay.upsertNode(makeNode(`late${n}`, { podCidrs: [e.subnet], publicIp: e.publicIp, mac: e.mac }));
    overlay.flush();
    await reconciler.settled();
    joins.push(performance.now() - at);
  }
  const held = host.rt.listRoutes({ protocol: 213 }).length;
  const wanted = nodes.length - 1 + LATE.length;
  if (held !== wanted) throw new Error(`the kernel holds ${held} of ${wanted} routes`);
  overlay.stop();
  await reconciler.stop();
  return { cold, join: median(joins) };
}

async function benchPeers(report: Report): Promise<void> {
  const entries = Array.from({ length: PEERS }, (_, n) => entry(n + 1));
  const nodes = [
    makeNode('self', { podCidrs: ['10.255.1.0/24'] }),
    ...entries.map((e, n) => makeNode(`n${n}`, { podCidrs: [e.subnet], publicIp: e.publicIp, mac: e.mac })),
  ];
  const best = { batch: Infinity, cold: Infinity, join: Infinity, three: Infinity, few: Infinity };
  for (let round = 0; round < ROUNDS; round++) {
    const lab = new NetnsLab('bov');
    try {
      const byBatch = await peersByBatch(lab, round, entries);
      const ours = await peersByOverlay(lab, `o${round}`, nodes);
      const few = await peersByOverlay(lab, `f${round}`, nodes.slice(0, FEW_PEERS + 1));
      best.batch = Math.min(best.batch, byBatch.cold);
      best.three = Math.min(best.three, byBatch.join);
      best.cold = Math.min(best.cold, ours.cold);
      best.join = Math.min(best.join, ours.join);
      best.few = Math.min(best.few, few.join);
    } finally {
      lab.close();
    }
  }
  report({
    name: `overlay/peers-${PEERS}`,
    ours: best.cold,
    peer: best.batch,
    unit: 'ms',
    note: "peer: ip -batch and bridge -batch of flannel's entries",
  });
  report({
    name: `overlay/join-${PEERS}`,
    ours: best.join,
    peer: best.three,
    unit: 'ms',
    note: `from the Node object to the kernel; among ${FEW_PEERS} nodes ${best.few.toFixed(2)}; peer: flannel's three requests alone, no plan`,
  });
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

/**
 * What flanneld writes with --ip-masq, for the iptables that ours uses as well. The comments are part of it: in the
 * kernel each is one more match of every packet, of x_tables where the others are nf_tables' own.
 */
function flannelRules(n: number): string {
  const own = `10.244.${n}.0/24`;
  const all = '10.244.0.0/16';
  const forward = '-m comment --comment "flanneld forward"';
  const masq = '-m comment --comment "flanneld masq"';
  return `*filter
:FLANNEL-FWD - [0:0]
-A FORWARD ${forward} -j FLANNEL-FWD
-A FLANNEL-FWD -s ${all} ${forward} -j ACCEPT
-A FLANNEL-FWD -d ${all} ${forward} -j ACCEPT
COMMIT
*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING ${masq} -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${masq} -j RETURN
-A FLANNEL-POSTRTG -s ${own} -d ${all} ${masq} -j RETURN
-A FLANNEL-POSTRTG -s ${all} -d ${own} ${masq} -j RETURN
-A FLANNEL-POSTRTG ! -s ${all} -d ${own} ${masq} -j RETURN
-A FLANNEL-POSTRTG -s ${all} ! -d 224.0.0.0/4 ${masq} -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s ${all} -d ${all} ${masq} -j MASQUERADE --random-fully
COMMIT
`;
}

/** Two hosts wired as flannel would, by hand. */
async function byHand(cluster: OverlayCluster, pair: [number, number], withRules: boolean): Promise<Pods> {
  const hosts = pair.map(n => ({ n, ...cluster.addBareHost({ n }) }));
  const mac = (n: number): string => `02:00:00:00:00:0${n}`;
  for (const { n, host } of hosts) {
    const other = n === pair[0] ? pair[1] : pair[0];
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
    if (!withRules) continue;
    const { code, stderr } = await host.run('iptables-nft-restore', ['--noflush'], flannelRules(n));
    if (code !== 0) throw new Error(`flannel's rules: ${stderr}`);
  }
  return hosts;
}

type Pods = { pod: LabNamespace; podAddresses: { v4: string } }[];

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

/** One round measures everybody, the next in the other order, so that what else the machine does falls on all alike. */
async function inTurns<K extends string>(
  who: Record<K, Pods>,
  rounds: number,
  measure: (pods: Pods, round: number) => Promise<number>,
): Promise<Record<K, number>> {
  const names = Object.keys(who) as K[];
  const got = new Map<K, number[]>(names.map(name => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (const name of round % 2 === 0 ? names : names.toReversed())
      got.get(name)!.push(await measure(who[name], round));
  return Object.fromEntries(names.map(name => [name, median(got.get(name)!)])) as Record<K, number>;
}

async function benchTraffic(report: Report): Promise<void> {
  const cluster = new OverlayCluster(
    'btr',
    parseNetConf('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}'),
  );
  try {
    for (const n of [1, 2]) await cluster.addHost({ n });
    await cluster.sync();
    const who = {
      ours: cluster.hosts as Pods,
      peer: await byHand(cluster, [5, 6], true),
      bare: await byHand(cluster, [7, 8], false),
    };
    for (const streams of [1, 4]) {
      const { ours, peer, bare } = await inTurns(who, TRAFFIC_ROUNDS, ([from, to]) =>
        throughput(from!.pod, to!.pod, to!.podAddresses.v4, streams),
      );
      report({
        name: `overlay/throughput-${streams}`,
        ours,
        peer,
        unit: 'Gbit/s',
        note: `medians of ${TRAFFIC_ROUNDS}; peer: flannel's objects and rules by hand; without any rules ${bare.toFixed(1)}`,
      });
    }
    const { ours, peer, bare } = await inTurns(who, TRAFFIC_ROUNDS, ([from, to], round) =>
      latency(from!.pod, to!.pod, to!.podAddresses.v4, 7000 + round),
    );
    const note = `medians of ${TRAFFIC_ROUNDS}; without any rules ${bare.toFixed(0)}`;
    report({ name: 'overlay/latency', ours, peer, unit: 'us', note });
  } finally {
    await cluster.close();
  }
}

export async function bench(report: Report): Promise<void> {
  await benchPeers(report);
  await benchTraffic(report);
}
