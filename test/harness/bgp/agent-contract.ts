// What pods of three agents' nodes must see of their pools, whatever carries their packets and while that changes.
import assert from 'node:assert/strict';
import type { IptablesBackend } from '../../../src/linux/iptables.ts';
import { AgentCluster, type AgentNode, nodeIps, type PoolModes } from './agent-cluster.ts';
import { eventually } from './pair.ts';

type Family = 4 | 6;
export type Mode = 'Always' | 'CrossSubnet' | 'Never';

export interface Tunnels {
  readonly kind: Record<Family, 'ipip' | 'vxlan'>;
  readonly link: Record<Family, string>;
  /** nft unless told. */
  readonly iptables?: IptablesBackend;
}

/** Modes of both pools one after the other in a running cluster, `Never` and nothing left at the end. */
export async function checkAgentModes(name: string, tunnels: Tunnels, modes: readonly Mode[]): Promise<void> {
  const poolModes = (family: Family, mode: Mode): PoolModes => ({ [tunnels.kind[family]]: mode });
  await using cluster = await AgentCluster.start(name, { 4: {}, 6: {} }, tunnels.iptables);
  await checkTraffic(cluster, tunnels, 'Never');
  for (const mode of [...modes, 'Never'] as const) {
    const asking = askAlways(cluster);
    try {
      for (const family of [4, 6] as const) cluster.setPool(family, poolModes(family, mode));
      await checkTraffic(cluster, tunnels, mode);
    } finally {
      await asking();
    }
    const { longestMs, asked } = await asking();
    assert.ok(asked > 0);
    assert.ok(longestMs < 2500, `${mode}: pods were cut off for ${longestMs.toFixed(0)} ms`);
  }
  await checkNothingLeft(cluster, tunnels);
}

/** Whether the packets of `from` to pods of `to` go through the tunnel. */
function tunnelled(from: AgentNode, to: AgentNode, mode: Mode): boolean {
  return mode === 'Always' || (mode === 'CrossSubnet' && (from.n === 3) !== (to.n === 3));
}

async function checkTraffic(cluster: AgentCluster, { link }: Tunnels, mode: Mode): Promise<void> {
  for (const from of cluster.nodes)
    for (const to of cluster.nodes) {
      if (from === to) continue;
      for (const family of [4, 6] as const) {
        const wanted = tunnelled(from, to, mode) ? link[family] : 'eth0';
        const title = `${mode}, IPv${family}: ${from.name} to the pod of ${to.name}`;
        const taken = await eventually(
          () => {
            try {
              return from.linkTo(to, family);
            } catch (error) {
              return String(error);
            }
          },
          one => one === wanted,
        );
        assert.equal(taken, wanted, `${title}\n${from.routes().join('\n')}`);
        const answer = await eventually(
          () =>
            from.pod!.ask(to.podIps[family], 80, { timeoutMs: 1500 }).catch((error: Error) => error.message),
          one => typeof one === 'object',
        );
        assert.deepEqual(answer, { server: to.name, client: clientOf(from, family) }, title);
      }
    }
  for (const node of cluster.nodes) {
    await node.reconciler.settled();
    assert.deepEqual(await node.reconciler.verify(), [], `${mode}: the kernel of ${node.name}`);
  }
}

const clientOf = (from: AgentNode, family: Family): string => from.podIps[family];

/** Pods of n1 and n3 talk all the time; the answer says how long nothing came through. */
function askAlways({ nodes }: AgentCluster): () => Promise<{ longestMs: number; asked: number }> {
  const [one, , three] = nodes;
  let going = true;
  let asked = 0;
  let longestMs = 0;
  const run = async (family: Family): Promise<void> => {
    let good = performance.now();
    while (going) {
      const reached = await one!.pod!.ask(three!.podIps[family], 80, { timeoutMs: 250 }).then(
        () => true,
        () => false,
      );
      const now = performance.now();
      longestMs = Math.max(longestMs, now - good);
      if (reached) {
        good = now;
        asked++;
      }
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  };
  const running = Promise.all([run(4), run(6)]);
  return async () => {
    going = false;
    await running;
    return { longestMs, asked };
  };
}

/** No device of ours, no address of a tunnel, no annotation, no allocation. */
async function checkNothingLeft(cluster: AgentCluster, { link, kind }: Tunnels): Promise<void> {
  for (const { host, name, nodes } of cluster.nodes) {
    const left = (): string[] =>
      ([4, 6] as const).flatMap(family => {
        const device = host.rt.getLink(link[family]);
        if (device === undefined) return [];
        const addresses = host.rt
          .listAddresses()
          .filter(({ linkIndex, address }) => linkIndex === device.index && !address.startsWith('fe80:'))
          .map(({ address }) => address);
        return kind[family] === 'ipip' ? addresses : [link[family]];
      });
    assert.deepEqual(await eventually(left, list => list.length === 0), [], `left on ${name}`);
    const annotations = (): string[] =>
      Object.keys(nodes.get(name)?.metadata.annotations ?? {}).filter(key => /Tunnel|TUNNEL/i.test(key));
    assert.deepEqual(await eventually(annotations, list => list.length === 0), [], `annotations of ${name}`);
  }
  const routes = cluster.nodes.flatMap(node => node.routes());
  for (const family of [4, 6] as const) assert.ok(!routes.some(route => route.endsWith(link[family])));
  assert.ok(
    routes.some(route => route.includes(nodeIps(1)[4])) &&
      routes.some(route => route.includes(nodeIps(1)[6])),
  );
}
