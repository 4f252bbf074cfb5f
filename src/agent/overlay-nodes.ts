// How the overlay keeps the Node objects of a large cluster: little of each, and read a few at a time.
import type { Node, Stored } from '../api/types.ts';
import type { TransformingOptions } from '../client/informer.ts';

/** A Node is 12 KB of JSON as a kubelet writes it; what a whole cluster's list makes at once stays in a process for good. */
const PAGE_SIZE = 50;

/** What the overlay reads of a Node: a hundredth of what a kubelet writes (images, conditions, managed fields). */
export function keepOverlayPart(node: Stored<Node>, prefix: string): Stored<Node> {
  const { name, uid, resourceVersion, creationTimestamp, annotations = {} } = node.metadata;
  const { podCIDR, podCIDRs } = node.spec ?? {};
  const ours = Object.entries(annotations).filter(([key]) => key.startsWith(`${prefix}/`));
  const conditions = node.status?.conditions?.filter(({ type }) => type === 'NetworkUnavailable');
  return {
    apiVersion: node.apiVersion,
    kind: node.kind,
    metadata: { name, uid, resourceVersion, creationTimestamp, annotations: Object.fromEntries(ours) },
    spec: { ...(podCIDR !== undefined && { podCIDR }), ...(podCIDRs && { podCIDRs }) },
    ...(conditions?.length ? { status: { conditions } } : {}),
  };
}

/** For an informer of Nodes that serves the overlay alone. */
export function overlayNodes(prefix: string): Pick<TransformingOptions<Node>, 'pageSize' | 'transform'> {
  return { pageSize: PAGE_SIZE, transform: node => keepOverlayPart(node, prefix) };
}
