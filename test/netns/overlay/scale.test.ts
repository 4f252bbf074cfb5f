// Many peers: next-hop objects in place of plain routes, and the same promises about mending and joining.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { Overlay } from '../../../routing/overlay.ts';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { NEXTHOP_OBJECTS_FROM } from '../../../routing/way-table.ts';
import { KernelReconciler, type Repair } from '../../../src/kernel/reconciler.ts';
import { parseIpv4Number } from '../../../src/lib/ip.ts';
import { Ethtool } from '../../../src/linux/ethtool.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { type LabNamespace, NetnsLab, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { makeNode, nthNode } from '../../unit/routing/node-fixtures.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 30_000 };
const PEERS = NEXTHOP_OBJECTS_FROM + 20;
const lab = new NetnsLab('ovs');
const repairs: Repair[] = [];
let host: LabNamespace;
let overlay: Overlay;
let reconciler: KernelReconciler;

before(async () => {
  if (limits.skip) return;
  host = lab.namespace('h');
  lab.wire(host, 'eth0', lab.namespace('o'), 'eth0');
  host.address('eth0', '192.168.64.1/24');
  reconciler = new KernelReconciler({
    netns: host.netns,
    lockDirectory: lab.directory,
    log: silentLogger(),
    onRepair: repair => repairs.push(repair),
  });
  overlay = new Overlay({
    nodeName: 'self',
    config: parseNetConf('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan","TxChecksumOffload":false}}'),
    underlay: { link: 'eth0', addresses: ['192.168.64.1/24'], mtuBytes: 1500 },
    setDesired: state => reconciler.setDesired('overlay', state),
    patchNode: async () => {},
  });
  await reconciler.start();
  overlay.setNodes([
    makeNode('self', { podCidrs: ['10.255.1.0/24'] }),
    ...Array.from({ length: PEERS }, (_, n) => nthNode(n)),
  ]);
  overlay.flush();
  await reconciler.settled();
});
after(async () => {
  overlay?.stop();
  await reconciler?.stop();
  lab.close();
});

/** Routes and next hops in full: a moved next hop changes no number. */
function held(): string[] {
  const routes = host.rt
    .listRoutes({ protocol: 213 })
    .map(({ destination, nexthopId }) => `${destination} nhid ${nexthopId}`);
  const nexthops = host.rt
    .listNexthops()
    .flatMap(({ protocol, id, gateway, onlink }) =>
      protocol === 213 ? `id ${id} via ${gateway} onlink ${onlink}` : [],
    );
  return [...routes, ...nexthops].sort();
}

function wanted(count: number): string[] {
  return Array.from({ length: count }, (_, n) => nthNode(n).spec!.podCIDR!)
    .flatMap(subnet => {
      const gateway = subnet.slice(0, subnet.indexOf('/'));
      const id = parseIpv4Number(gateway);
      return [`${subnet} nhid ${id}`, `id ${id} via ${gateway} onlink true`];
    })
    .sort();
}

async function assertHeld(count: number): Promise<void> {
  const from = performance.now();
  const expected = wanted(count);
  while (!isDeepStrictEqual(held(), expected)) {
    if (performance.now() - from > 1500) assert.deepEqual(held(), expected);
    await sleep(20);
  }
  await reconciler.settled();
  assert.deepEqual(await reconciler.verify(), []);
}

test('every peer has its next hop and its route', limits, () => assertHeld(PEERS));

for (const [what, command] of [
  ['one next hop deleted, its route with it', 'ip nexthop del id 167772160'],
  ['a next hop moved', 'ip nexthop replace id 167772160 via 10.9.9.9 dev flannel.1 onlink proto 213'],
  ['all next hops flushed', 'ip nexthop flush proto 213'],
  ['the device set down', 'ip link set flannel.1 down'],
  ['the device deleted', 'ip link del flannel.1'],
] as const)
  test(`${what}: mended`, limits, async () => {
    const [program, ...args] = command.split(' ');
    const result = await host.run(program!, args);
    assert.equal(result.code, 0, result.stderr);
    await assertHeld(PEERS);
  });

test(
  'a joining node is one change; below the limit the routes are plain again, in place',
  limits,
  async () => {
    repairs.length = 0;
    overlay.upsertNode(nthNode(PEERS));
    overlay.flush();
    await assertHeld(PEERS + 1);
    for (let n = NEXTHOP_OBJECTS_FROM - 10; n <= PEERS; n++) overlay.deleteNode(nthNode(n).metadata!.name!);
    overlay.flush();
    await reconciler.settled();
    assert.equal(host.rt.listRoutes({ protocol: 213 }).length, NEXTHOP_OBJECTS_FROM - 10);
    assert.deepEqual(host.rt.listNexthops(), []);
    assert.deepEqual(repairs, []);
  },
);

test(
  'no checksum offload, as the configuration says; switched on by somebody, off again',
  limits,
  async () => {
    using ethtool = Ethtool.open(host.netns);
    const offloads = (): boolean => ethtool.activeFeatures('flannel.1').has('tx-checksum-ip-generic');
    assert.equal(offloads(), false);
    ethtool.setFeature('flannel.1', 'tx-checksum-ip-generic', true);
    const from = performance.now();
    while (offloads()) {
      assert.ok(performance.now() - from < 1000, 'not mended');
      await sleep(20);
    }
  },
);
