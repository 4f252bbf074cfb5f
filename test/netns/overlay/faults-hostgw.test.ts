// The faults that host-gw knows: its routes are all it has, and they hang on the underlay's own link.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { OverlayCluster, type OverlayHost } from './cluster.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 30_000 };
const MENDED_WITHIN_MS = 1500;
let cluster: OverlayCluster;
let one: OverlayHost;
let two: OverlayHost;

before(async () => {
  if (limits.skip) return;
  cluster = new OverlayCluster(
    'fhg',
    parseNetConf(
      '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"host-gw"}}',
    ),
  );
  for (const n of [1, 2]) await cluster.addHost({ n });
  await cluster.sync();
  [one, two] = cluster.hosts as [OverlayHost, OverlayHost];
});
after(() => cluster?.close());

async function assertHealthy(): Promise<void> {
  const from = performance.now();
  for (;;) {
    const answers = await Promise.all([
      one.pod.outcome(two.podAddresses.v4, 80, { timeoutMs: 200 }),
      two.pod.outcome(one.podAddresses.v4, 80, { timeoutMs: 200 }),
      one.pod.outcome(two.podAddresses.v6, 80, { timeoutMs: 200 }),
    ]);
    if (answers.join() === 'n2,n1,n2') break;
    if (performance.now() - from > MENDED_WITHIN_MS) assert.fail(`not mended: ${answers.join()}`);
    await sleep(20);
  }
  await one.reconciler.settled();
  assert.deepEqual(await one.reconciler.verify(), []);
}

const FAULTS: [what: string, ...commands: string[]][] = [
  ['the route deleted', 'ip route del 10.244.2.0/24', 'ip -6 route del fd00:10:244:2::/64'],
  ['the route altered', 'ip route replace 10.244.2.0/24 via 10.99.0.254 proto 213'],
  ['all our routes flushed', 'ip route flush proto 213', 'ip -6 route flush proto 213'],
  [
    'the underlay interface bounced',
    'ip link set eth0 down',
    'ip link set eth0 up',
    // Its owner puts its IPv6 address back, which the kernel took away.
    'ip -6 addr replace fd99::1/64 dev eth0 nodad',
  ],
  [
    'the underlay address taken and given back',
    'ip addr del 10.99.0.1/24 dev eth0',
    'ip addr add 10.99.0.1/24 dev eth0',
  ],
  ['the rules flushed with FORWARD DROP', 'iptables-nft -P FORWARD DROP', 'iptables-nft -F'],
];

for (const [what, ...commands] of FAULTS)
  test(what, limits, async () => {
    for (const command of commands) {
      const [program, ...args] = command.split(' ');
      const result = await one.host.run(program!, args);
      assert.equal(result.code, 0, `${command}: ${result.stderr}`);
    }
    await assertHealthy();
  });
