// Everything that operators reported about overlays that do not mend themselves, done by hand to ours: traffic is back
// within a second of each, and a verification afterwards finds nothing left to do.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { OverlayCluster, type OverlayHost } from './cluster.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 30_000 };
/** The promise is a second from the notification; the rest is one lost packet's retransmission. */
const MENDED_WITHIN_MS = 1500;
let cluster: OverlayCluster;
let one: OverlayHost;
let two: OverlayHost;

before(async () => {
  if (limits.skip) return;
  cluster = new OverlayCluster(
    'flt',
    parseNetConf(
      '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan"}}',
    ),
  );
  for (const n of [1, 2]) await cluster.addHost({ n });
  await cluster.sync();
  [one, two] = cluster.hosts as [OverlayHost, OverlayHost];
});
after(() => cluster?.close());

/** Both directions and families answer, and nothing is left to mend. */
async function assertHealthy(): Promise<void> {
  const from = performance.now();
  for (;;) {
    const answers = await Promise.all([
      one.pod.outcome(two.podAddresses.v4, 80, { timeoutMs: 200 }),
      two.pod.outcome(one.podAddresses.v4, 80, { timeoutMs: 200 }),
      one.pod.outcome(two.podAddresses.v6, 80, { timeoutMs: 200 }),
      two.pod.outcome(one.podAddresses.v6, 80, { timeoutMs: 200 }),
    ]);
    if (answers.join() === 'n2,n1,n2,n1') break;
    if (performance.now() - from > MENDED_WITHIN_MS) assert.fail(`not mended: ${answers.join()}`);
    await sleep(20);
  }
  for (const { reconciler } of cluster.hosts) {
    await reconciler.settled();
    assert.deepEqual(await reconciler.verify(), []);
  }
}

test('healthy to begin with', limits, assertHealthy);

/** What somebody does on host one. */
const FAULTS: [what: string, commands: string[]][] = [
  ['the device deleted', ['ip link del flannel.1']],
  ['the IPv6 device deleted', ['ip link del flannel-v6.1']],
  ['the device set down', ['ip link set flannel.1 down']],
  ['its MAC changed', ['ip link set flannel.1 address 02:11:22:33:44:55']],
  ['its MTU changed', ['ip link set flannel.1 mtu 1280']],
  ['its address removed', ['ip addr flush dev flannel.1']],
  ['the route to a peer deleted', ['ip route del 10.244.2.0/24']],
  ['the route to a peer altered', ['ip route replace 10.244.2.0/24 via 10.99.0.254 proto 213']],
  ['the IPv6 route to a peer deleted', ['ip -6 route del fd00:10:244:2::/64']],
  ['the neighbour deleted', ['ip neigh del 10.244.2.0 dev flannel.1']],
  [
    'the neighbour altered',
    ['ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:99 dev flannel.1 nud permanent'],
  ],
  ['the neighbours flushed', ['ip neigh flush dev flannel.1', 'ip -6 neigh flush dev flannel-v6.1']],
  [
    'forwarding switched off',
    ['sysctl -qw net.ipv4.ip_forward=0', 'sysctl -qw net.ipv6.conf.all.forwarding=0'],
  ],
  ['the underlay interface bounced', ['ip link set eth0 down', 'ip addr show', 'ip link set eth0 up']],
];

for (const [what, commands] of FAULTS)
  test(what, limits, async () => {
    // Addresses of IPv6 go with a link that goes down, also the underlay's own: its owner puts that one back.
    for (const command of commands) {
      const [program, ...args] = command.split(' ');
      const result = await one.host.run(program!, args);
      assert.equal(result.code, 0, result.stderr);
    }
    if (what.includes('underlay')) {
      await one.host.run('ip', ['-6', 'addr', 'add', 'fd99::1/64', 'dev', 'eth0', 'nodad']);
      await one.host.run('ip', ['-6', 'route', 'add', 'default', 'via', 'fd99::254']);
      await one.host.run('ip', ['route', 'add', 'default', 'via', '10.99.0.254']);
    }
    await assertHealthy();
  });

test('FDB entries deleted and altered', limits, async () => {
  const [entry] = one.host.rt.listFdb('flannel.1').filter(found => found.destination === '10.99.0.2');
  assert.ok(entry);
  one.host.rt.delFdb({ link: 'flannel.1', mac: entry.mac, destination: '10.99.0.2' });
  await assertHealthy();
  await one.host.run('bridge', [
    'fdb',
    'replace',
    entry.mac,
    'dev',
    'flannel.1',
    'dst',
    '10.99.0.77',
    'self',
    'permanent',
  ]);
  await assertHealthy();
});

test('the rules flushed, with FORWARD DROP', limits, async () => {
  const tool = 'iptables-nft';
  await one.host.run(tool, ['-P', 'FORWARD', 'DROP']);
  await one.host.run(tool, ['-F']);
  await assertHealthy();
  await one.host.run(tool, ['-D', 'FLANNEL-FWD', '1']);
  await assertHealthy();
  await one.host.run(tool, ['-P', 'FORWARD', 'ACCEPT']);
});

test('what is not ours stays: a foreign route, neighbour, FDB entry, chain', limits, async () => {
  for (const command of [
    'ip route add 192.0.2.0/24 via 10.99.0.2',
    'ip neigh add 10.99.0.200 lladdr 02:00:00:00:00:07 dev eth0',
    'iptables-nft -N THEIRS',
    'iptables-nft -A THEIRS -s 192.0.2.1 -j DROP',
  ]) {
    const [program, ...args] = command.split(' ');
    await one.host.run(program!, args);
  }
  await assertHealthy();
  assert.ok(one.host.rt.listRoutes().some(route => route.destination === '192.0.2.0/24'));
  assert.match((await one.host.run('iptables-nft-save', [])).stdout, /-A THEIRS -s 192\.0\.2\.1/);
});

test('the agent away and back: no packet lost, nothing rebuilt', limits, async () => {
  const device = one.host.rt.getLink('flannel.1')?.index;
  let running = true;
  const lost: string[] = [];
  let asked = 0;
  const asking = (async () => {
    while (running) {
      asked++;
      // A lost packet is never answered; one that a busy machine delays is.
      const outcome = await one.pod.outcome(two.podAddresses.v4, 53, { protocol: 'udp', timeoutMs: 3000 });
      if (outcome !== 'n2') lost.push(outcome);
    }
  })();
  await cluster.restartAgent(one, () => sleep(200));
  running = false;
  await asking;
  assert.deepEqual(lost, []);
  assert.ok(asked > 20);
  assert.equal(one.host.rt.getLink('flannel.1')?.index, device);
  await assertHealthy();
});

test(
  'while the agent was away: a peer got another MAC and address, and a third one left',
  limits,
  async () => {
    const three = await cluster.addHost({ n: 3 });
    await cluster.sync();
    assert.equal(await one.pod.outcome(three.podAddresses.v4, 80), 'n3');
    await cluster.restartAgent(one, async () => {
      cluster.deleteNode('n3');
      // Host two is set up anew: its device with another MAC, its underlay address changed.
      const node = structuredClone(cluster.nodes.get('n2')!);
      node.metadata!.annotations!['flannel.alpha.coreos.com/backend-data'] =
        '{"VNI":1,"VtepMAC":"02:aa:aa:aa:aa:02"}';
      two.host.rt.delAddress({ link: 'eth0', address: '10.99.0.2/24' });
      two.host.rt.addAddress({ link: 'eth0', address: '10.99.0.22/24' });
      two.host.route('0.0.0.0/0', '10.99.0.254');
      two.overlay.setUnderlay({ link: 'eth0', addresses: ['10.99.0.22/24', 'fd99::2/64'], mtuBytes: 1500 });
      cluster.setNode(node);
      await sleep(50);
      await two.reconciler.settled();
    });
    await assertHealthy();
    const link = two.host.rt.getLink('flannel.1');
    assert.equal(link?.mac, '02:aa:aa:aa:aa:02');
    assert.equal(link?.vxlan?.local, '10.99.0.22');
    assert.ok(!one.host.rt.listRoutes().some(route => route.destination === '10.244.3.0/24'));
    assert.ok(!one.host.rt.listFdb('flannel.1').some(entry => entry.destination === '10.99.0.3'));
    assert.equal(
      one.host.rt.listFdb('flannel.1').filter(entry => entry.destination === '10.99.0.2').length,
      0,
    );
  },
);

test("a peer's pod CIDR changed: the old route is gone, the new one is there", limits, async () => {
  const node = structuredClone(cluster.nodes.get('n2')!);
  node.spec!.podCIDRs = ['10.244.22.0/24', 'fd00:10:244:2::/64'];
  cluster.setNode(node);
  await cluster.sync();
  const routes = one.host.rt.listRoutes().map(route => route.destination);
  assert.ok(routes.includes('10.244.22.0/24') && !routes.includes('10.244.2.0/24'));
  node.spec!.podCIDRs = ['10.244.2.0/24', 'fd00:10:244:2::/64'];
  cluster.setNode(structuredClone(node));
  await cluster.sync();
  await assertHealthy();
});

test("the underlay's MTU changed: the devices follow", limits, async () => {
  one.overlay.setUnderlay({ link: 'eth0', addresses: one.underlayAddresses, mtuBytes: 1400 });
  await sleep(20);
  await one.reconciler.settled();
  assert.equal(one.host.rt.getLink('flannel.1')?.mtuBytes, 1350);
  assert.equal(one.host.rt.getLink('flannel-v6.1')?.mtuBytes, 1330);
  await assertHealthy();
});
