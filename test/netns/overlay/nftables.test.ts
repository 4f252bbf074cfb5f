// net-conf's EnableNFTables: the same rules in tables of nftables, kept as well as those of iptables.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { type LabNamespace, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { OverlayCluster } from './cluster.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 60_000 };
const CONFIG =
  '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","EnableNFTables":true,"Backend":{"Type":"vxlan"}}';
/** As nft prints flannel's table, which writes the same rules but for the mask of the mark. */
const TABLE = `table ip flannel-ipv4 {
	comment "rules for flannel-ipv4"
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip saddr 10.244.0.0/16 accept
		ip daddr 10.244.0.0/16 accept
	}

	chain postrtg {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 != 0x00000000 return
		ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return
		ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return
		ip saddr != 10.244.0.0/16 ip daddr 10.244.1.0/24 return
		ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random
	}
}
`;

async function nft(host: LabNamespace, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await host.run('nft', args);
  assert.equal(code, 0, stderr);
  return stdout;
}

const table = (host: LabNamespace): Promise<string> => nft(host, 'list', 'table', 'ip', 'flannel-ipv4');

async function until(what: string, look: () => Promise<boolean>): Promise<void> {
  const from = performance.now();
  while (!(await look())) {
    assert.ok(performance.now() - from < 1000, `${what}: not within a second`);
    await sleep(20);
  }
}

test("EnableNFTables: flannel's tables in place of iptables rules", limits, async t => {
  const cluster = new OverlayCluster('ovn', parseNetConf(CONFIG));
  t.after(() => cluster.close());
  for (const n of [1, 2]) await cluster.addHost({ n });
  await cluster.sync();
  const [one, two] = cluster.hosts as [(typeof cluster.hosts)[0], (typeof cluster.hosts)[0]];

  await t.test('as flannel writes them, and nothing in iptables', async () => {
    assert.equal(await table(one.host), TABLE);
    assert.match(await nft(one.host, 'list', 'table', 'ip6', 'flannel-ipv6'), /ip6 saddr fd00:10:244::\/56/);
    const { stdout } = await one.host.run('iptables-nft-save', []);
    assert.doesNotMatch(stdout, /FLANNEL/);
  });

  await t.test('pods reach pods under their own address, and the outside under the host’s', async () => {
    const { v4, v6 } = two.podAddresses;
    assert.deepEqual(await one.pod.ask(v4, 80), { server: 'n2', client: one.podAddresses.v4 });
    assert.deepEqual(await one.pod.ask(v6, 80), { server: 'n2', client: one.podAddresses.v6 });
    const outside = cluster.lab.namespace('out');
    cluster.lab.wire(outside, 'eth0', one.host, 'out0');
    one.host.address('out0', '203.0.113.1/24', 'fd77::1/64');
    outside.address('eth0', '203.0.113.9/24', 'fd77::9/64');
    outside.tcpServer(80, 'outside');
    assert.deepEqual(await one.pod.ask('203.0.113.9', 80), { server: 'outside', client: '203.0.113.1' });
    assert.deepEqual(await one.pod.ask('fd77::9', 80), { server: 'outside', client: 'fd77::1' });
  });

  for (const [what, ...command] of [
    ['a table deleted', 'delete', 'table', 'ip', 'flannel-ipv4'],
    ['a chain flushed', 'flush', 'chain', 'ip', 'flannel-ipv4', 'postrtg'],
    ['a rule added', 'insert', 'rule', 'ip', 'flannel-ipv4', 'forward', 'drop'],
    ['a chain added', 'add', 'chain', 'ip', 'flannel-ipv4', 'other'],
  ] as const)
    await t.test(`${what}: mended within a second, and told`, async () => {
      cluster.nftRepairs.length = 0;
      await nft(one.host, ...command);
      await until(what, async () => (await one.host.run('nft', ['list', 'ruleset'])).stdout.includes(TABLE));
      assert.equal(cluster.nftRepairs.length, 1, cluster.nftRepairs.join());
      assert.match(cluster.nftRepairs[0]!, /^nftables ip flannel-ipv4: /);
    });

  await t.test('another table of the name is left alone and is a problem', async () => {
    await nft(one.host, 'delete table ip flannel-ipv4; add table ip flannel-ipv4 { comment "mine"; }');
    const keeper = cluster.keepers.get('n1')!;
    await until('the problem', async () => keeper.problem !== undefined);
    assert.match(keeper.problem!, /table ip flannel-ipv4 is there and is not flannel's/);
    await sleep(100);
    assert.match(await table(one.host), /comment "mine"/);
    await nft(one.host, 'delete', 'table', 'ip', 'flannel-ipv4');
    await until('the table', async () =>
      (await one.host.run('nft', ['list', 'ruleset'])).stdout.includes(TABLE),
    );
    assert.equal(keeper.problem, undefined);
  });

  await t.test('back to iptables: the tables go', async () => {
    cluster.keepers.get('n1')!.set([]);
    assert.doesNotMatch(await nft(one.host, 'list', 'ruleset'), /flannel-ipv/);
  });
});
