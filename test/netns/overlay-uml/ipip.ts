// The ipip backend on a kernel that has IPIP: pods of three hosts, one of them behind a router. Run in the guest.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { OverlayCluster } from '../overlay/cluster.ts';

// The guest has no iptables modules loaded; the rules are those of every backend and tested with the others.
const RULES = { masquerade: false, forward: false };

for (const directRouting of [false, true])
  test(`ipip${directRouting ? ' with DirectRouting' : ''} across a router`, { timeout: 30_000 }, async () => {
    const config = parseNetConf(
      JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'ipip', DirectRouting: directRouting } }),
    );
    const cluster = new OverlayCluster(`ipip${directRouting ? 'd' : ''}`, config, RULES);
    after(() => cluster.close());
    for (const n of [1, 2, 3]) await cluster.addHost({ n, behindRouter: n === 3 });
    await cluster.sync();
    for (const from of cluster.hosts)
      for (const to of cluster.hosts)
        if (from !== to)
          assert.deepEqual(await from.pod.ask(to.podAddresses.v4, 80, { timeoutMs: 5000 }), {
            server: to.name,
            client: from.podAddresses.v4,
          });
    const [one] = cluster.hosts;
    const tunnelled = one!.host.rt
      .listRoutes({ protocol: 213 })
      .filter(route => one!.host.rt.getLink(route.linkIndex!)?.name === 'flannel.ipip');
    assert.deepEqual(
      tunnelled.map(route => route.destination).sort(),
      directRouting ? ['10.244.3.0/24'] : ['10.244.2.0/24', '10.244.3.0/24'],
    );
    for (const { reconciler } of cluster.hosts) assert.deepEqual(await reconciler.verify(), []);
    one!.host.rt.delLink('flannel.ipip');
    const from = performance.now();
    while ((await one!.pod.outcome(cluster.hosts[2]!.podAddresses.v4, 80, { timeoutMs: 500 })) !== 'n3')
      assert.ok(performance.now() - from < 5000, 'the tunnel device did not come back');
    await cluster.close();
  });
