// IPIP pools over a router, on a kernel that has IPIP. Run in the guest.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeSysctl } from '../../../src/linux/sysctl.ts';
import { eventually } from '../../harness/bgp/pair.ts';
import { nodeIp, PoolCluster } from '../../harness/bgp/pool-cluster.ts';
import { checkPoolModes } from '../../harness/bgp/pool-contract.ts';

test('ipipMode Always and CrossSubnet over a router', { timeout: 50_000 }, () =>
  checkPoolModes({ kind: 'ipip', link: 'tunl0', gateway: nodeIp }),
);

test('tunl0 is made where the kernel makes none', { timeout: 20_000 }, async () => {
  // linux Documentation/admin-guide/sysctl/net.rst: 1 keeps fallback tunnels out of new namespaces.
  writeSysctl(undefined, 'net/core/fb_tunnels_only_for_init_net', '1');
  await using cluster = new PoolCluster('bare');
  const [one] = cluster.nodes;
  assert.equal(one!.host.rt.getLink('tunl0'), undefined);
  await cluster.apply({ ipip: 'Always' });
  const up = (): boolean => one!.host.rt.getLink('tunl0')?.up === true;
  assert.ok(await eventually(up, made => made, 5000));
  await one!.reconciler.settled();
  assert.deepEqual(await one!.reconciler.verify(), []);
});
