// What pods of three nodes must see of a pool, whatever carries their packets; and what the wire must show.
import assert from 'node:assert/strict';
import { eventually } from './pair.ts';
import { nodeIp, PoolCluster, type PoolModes, type PoolNode, podIp, tunnelIp } from './pool-cluster.ts';

interface Encapsulation {
  readonly kind: 'ipip' | 'vxlan';
  readonly link: string;
  /** The gateway of a tunnel route to a node. */
  readonly gateway: (n: number) => string;
}

const crossesRouter = (from: PoolNode, to: PoolNode): boolean => from.n === 3 || to.n === 3;

/** One cluster, first `Always`, then `CrossSubnet` while it runs. */
export async function checkPoolModes(encapsulation: Encapsulation): Promise<void> {
  await using cluster = new PoolCluster(encapsulation.kind);
  await cluster.capture();
  for (const mode of ['Always', 'CrossSubnet'] as const) {
    const modes: PoolModes = { [encapsulation.kind]: mode };
    await cluster.apply(modes);
    await checkTraffic(cluster, encapsulation, (from, to) => mode === 'Always' || crossesRouter(from, to));
  }
}

async function checkTraffic(
  cluster: PoolCluster,
  { kind, link, gateway }: Encapsulation,
  tunnelled: (from: PoolNode, to: PoolNode) => boolean,
): Promise<void> {
  const others = (node: PoolNode): PoolNode[] => cluster.nodes.filter(other => other !== node);
  for (const node of cluster.nodes) {
    const wanted = [
      `10.244.${node.n}.0/26`,
      ...others(node).map(
        other =>
          `10.244.${other.n}.0/26 ${tunnelled(node, other) ? `${gateway(other.n)} ${link}` : `${nodeIp(other.n)} eth0`}`,
      ),
    ].sort();
    const same = (got: string[]): boolean => JSON.stringify(got) === JSON.stringify(wanted);
    assert.deepEqual(await eventually(() => node.routes(), same), wanted, `routes of node ${node.n}`);
    await node.reconciler.settled();
  }
  for (const { wire } of cluster.nodes) wire.clear();
  for (const from of cluster.nodes)
    for (const to of others(from)) {
      assert.deepEqual(await from.pod.ask(podIp(to.n), 80, { timeoutMs: 5000 }), {
        server: `n${to.n}`,
        client: podIp(from.n),
      });
      const { server, client } = await from.host.ask(podIp(to.n), 80, { timeoutMs: 5000 });
      assert.equal(server, `n${to.n}`);
      // A node that speaks through the tunnel has its tunnel address there.
      assert.equal(client, tunnelled(from, to) ? tunnelIp(from.n) : nodeIp(from.n));
    }
  for (const node of cluster.nodes) {
    const wanted = others(node)
      .flatMap(other =>
        tunnelled(node, other)
          ? [
              `${kind} ${nodeIp(node.n)} > ${nodeIp(other.n)}`,
              `${kind} ${nodeIp(other.n)} > ${nodeIp(node.n)}`,
            ]
          : [
              ...[podIp(node.n), nodeIp(node.n)].map(from => `plain ${from} > ${podIp(other.n)}`),
              ...[podIp(node.n), nodeIp(node.n)].map(to => `plain ${podIp(other.n)} > ${to}`),
              ...[podIp(other.n), nodeIp(other.n)].map(from => `plain ${from} > ${podIp(node.n)}`),
              ...[podIp(other.n), nodeIp(other.n)].map(to => `plain ${podIp(node.n)} > ${to}`),
            ],
      )
      .sort();
    const unique = [...new Set(wanted)];
    const seen = (): string[] => [...node.wire].sort();
    const same = (got: string[]): boolean => JSON.stringify(got) === JSON.stringify(unique);
    assert.deepEqual(await eventually(seen, same, 5000), unique, `the wire of node ${node.n}`);
    assert.deepEqual(await node.reconciler.verify(), []);
  }
}
