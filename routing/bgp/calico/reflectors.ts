// Route reflectors without anybody choosing them: above a size a full mesh costs n² sessions, and Calico leaves the
// choice to its users (calico#9976). Every node computes the same three reflectors from the same Node list, by
// rendezvous hashing, so that a node that comes or goes moves as few sessions as can be.
import { createHash } from 'node:crypto';
import type { CalicoNode } from './node-info.ts';

const REFLECTORS = 3;
const weight = (name: string): string => createHash('sha256').update(`reflector ${name}`).digest('hex');

/** Cluster id of all chosen ones: they are one cluster, so that a route is reflected once. */
export const AUTOMATIC_CLUSTER_ID = '0.0.0.1';

/** The nodes as they are, or with `clusterId` set on the chosen ones. */
export function withAutomaticReflectors(nodes: readonly CalicoNode[], above: number): readonly CalicoNode[] {
  if (above <= 0 || nodes.length <= above || nodes.some(node => node.clusterId !== undefined)) return nodes;
  const chosen = new Set(
    nodes
      .filter(node => !node.unschedulable)
      .map(node => node.name)
      .sort((a, b) => weight(a).localeCompare(weight(b)))
      .slice(0, REFLECTORS),
  );
  return nodes.map(node => (chosen.has(node.name) ? { ...node, clusterId: AUTOMATIC_CLUSTER_ID } : node));
}
