// localWorkloadSelector: sessions of a node with pods that run on it (confd's local BGP peers). Pods connect; they are let in
// by their addresses. What a pod announces is taken only as far as a BGPFilter accepts it.
import { canonicalIp, ipFamily } from '../../../src/lib/ip.ts';
import type { PeerConfig } from '../session/peer-config.ts';
import type { Selector } from './selector.ts';

/** A pod of this node that runs. */
export interface LocalWorkload {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
}

/** What Calico's selectors find on a workload beside its own labels. */
const labelsOf = ({ namespace, labels }: LocalWorkload): Record<string, string> => ({
  ...labels,
  'projectcalico.org/namespace': namespace,
  'projectcalico.org/orchestrator': 'k8s',
});

/** One session for each address of each pod that is selected. */
export function workloadSessions(
  owner: string,
  selects: Selector,
  workloads: readonly LocalWorkload[],
  options: Partial<PeerConfig>,
): PeerConfig[] {
  return workloads
    .filter(workload => selects(labelsOf(workload)))
    .flatMap(({ namespace, name, addresses }) =>
      addresses.flatMap(text => {
        const address = canonicalIp(text);
        const family = address === undefined ? undefined : ipFamily(address);
        if (address === undefined || family === undefined) return [];
        return [
          {
            ...options,
            name: `${owner}:${namespace}/${name}:v${family}`,
            address,
            families: [family],
            passive: true,
          },
        ];
      }),
    );
}
