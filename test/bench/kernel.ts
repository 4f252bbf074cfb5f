// The way to the kernel: raw route batches, and the reconciler with an overlay of 5,000 peers, each beside iproute2
// doing the same in the same namespaces. Needs root.
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelReconciler } from '../../src/kernel/reconciler.ts';
import { type KernelState, ROUTE_PROTOCOL } from '../../src/kernel/state.ts';
import { runOk } from '../../src/linux/exec.ts';
import { createNetns, deleteNetns, Netns } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { createLogger } from '../../src/observe/log.ts';
import type { Report } from './main.ts';

const ROUTES = 20_000;
const PEERS = 5000;
const ROUNDS = 3;

async function timed(work: () => unknown): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

async function inNamespace<T>(work: (netns: Netns, rt: Rtnetlink) => Promise<T>): Promise<T> {
  const name = `pwt-bench-kernel-${process.pid}`;
  using netns = Netns.open(createNetns(name));
  try {
    using rt = Rtnetlink.open(netns);
    rt.addLink({ name: 'eth0', kind: 'veth', up: true, peer: { name: 'eth1', up: true } });
    rt.addAddress({ link: 'eth0', address: '10.0.0.1/8', broadcast: 'auto' });
    return await work(netns, rt);
  } finally {
    deleteNetns(name);
  }
}

const best = (times: readonly number[]): number => Math.min(...times);

async function benchRoutes(report: Report): Promise<void> {
  const destinations = Array.from(
    { length: ROUTES },
    (_, i) => `172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/32`,
  );
  const batch = destinations.map(d => `route add ${d} via 10.0.0.2 dev eth0 proto 213\n`).join('');
  const ours: number[] = [];
  const peer: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await inNamespace(async (_, rt) => {
      ours.push(
        await timed(() =>
          rt.batch(b => {
            for (const destination of destinations)
              b.addRoute({ destination, gateway: '10.0.0.2', link: 'eth0', protocol: 213 });
          }),
        ),
      );
    });
    await inNamespace(async netns => {
      peer.push(await timed(() => runOk('ip', ['-batch', '-'], { netns, input: batch })));
    });
  }
  report({
    name: `kernel/routes-${ROUTES}`,
    ours: best(ours),
    peer: best(peer),
    unit: 'ms',
    note: 'peer: ip -batch',
  });
}

interface Peer {
  subnet: string;
  mac: string;
  vtep: string;
}

function peers(count: number): Peer[] {
  return Array.from({ length: count }, (_, i) => ({
    subnet: `10.${100 + (i >> 8)}.${i & 255}.0`,
    mac: `02:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`,
    vtep: `10.1.${i >> 8}.${i & 255}`,
  }));
}

const DEVICE: KernelState = {
  links: [
    {
      name: 'flannel.1',
      kind: 'vxlan',
      up: true,
      mtuBytes: 1450,
      vxlan: { vni: 1, port: 8472, local: '10.0.0.1', dev: 'eth0', learning: false },
    },
  ],
  addresses: [{ link: 'flannel.1', address: '10.99.0.0/32' }],
};

function overlay(list: readonly Peer[]): KernelState {
  const link = 'flannel.1';
  return {
    ...DEVICE,
    routes: list.map(p => ({
      destination: `${p.subnet}/24`,
      gateway: p.subnet,
      link,
      onlink: true,
      protocol: ROUTE_PROTOCOL.overlay,
    })),
    neighbours: list.map(p => ({ link, address: p.subnet, mac: p.mac, state: 'permanent' as const })),
    fdb: list.map(p => ({ link, mac: p.mac, destination: p.vtep })),
  };
}

async function byHand(netns: Netns, list: readonly Peer[]): Promise<void> {
  const ip = list.map(
    p =>
      `neighbour replace ${p.subnet} lladdr ${p.mac} dev flannel.1 nud permanent\nroute replace ${p.subnet}/24 via ${p.subnet} dev flannel.1 onlink proto 213\n`,
  );
  const bridge = list.map(p => `fdb replace ${p.mac} dev flannel.1 dst ${p.vtep} self permanent\n`);
  await runOk('bridge', ['-batch', '-'], { netns, input: bridge.join('') });
  await runOk('ip', ['-batch', '-'], { netns, input: ip.join('') });
}

async function benchOverlay(report: Report): Promise<void> {
  const list = peers(PEERS);
  const log = createLogger({ component: 'bench', level: 'fatal' });
  const cold = { ours: [] as number[], peer: [] as number[] };
  const change = { ours: [] as number[], peer: [] as number[] };
  const verify: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const moved = { ...list[2500]!, vtep: '10.2.0.1', mac: '02:00:00:00:ff:01' };
    await inNamespace(async netns => {
      const reconciler = new KernelReconciler({ netns, rooms: ['overlay'], log });
      await reconciler.start();
      const state = overlay(list);
      reconciler.setDesired('overlay', DEVICE);
      await reconciler.settled();
      cold.ours.push(
        await timed(() => {
          reconciler.setDesired('overlay', { ...state, ...DEVICE });
          return reconciler.settled();
        }),
      );
      // The notifications of 15,000 requests are read meanwhile: a change comes alone.
      await sleep(500);
      const one = overlay([moved]);
      change.ours.push(
        await timed(() => {
          reconciler.setDesired('overlay', {
            ...DEVICE,
            routes: state.routes!,
            neighbours: state.neighbours!.with(2500, one.neighbours![0]!),
            fdb: state.fdb!.with(2500, one.fdb![0]!),
          });
          return reconciler.settled();
        }),
      );
      verify.push(await timed(() => reconciler.verify()));
      await reconciler.stop();
    });
    await inNamespace(async (netns, rt) => {
      rt.addLink({
        name: 'flannel.1',
        kind: 'vxlan',
        up: true,
        vxlan: { vni: 1, port: 8472, local: '10.0.0.1', dev: 'eth0' },
      });
      cold.peer.push(await timed(() => byHand(netns, list)));
      change.peer.push(await timed(() => byHand(netns, [moved])));
    });
  }
  const note = 'peer: ip -batch and bridge -batch';
  report({ name: `kernel/peers-${PEERS}`, ours: best(cold.ours), peer: best(cold.peer), unit: 'ms', note });
  report({
    name: `kernel/peers-${PEERS}-change`,
    ours: best(change.ours),
    peer: best(change.peer),
    unit: 'ms',
    note,
  });
  report({
    name: `kernel/peers-${PEERS}-verify`,
    ours: best(verify),
    peer: best(cold.peer),
    unit: 'ms',
    note: 'peer: loading the same; nobody else verifies',
  });
}

export async function bench(report: Report): Promise<void> {
  await benchRoutes(report);
  await benchOverlay(report);
}
