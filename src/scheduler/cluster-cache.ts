// The scheduler's picture of the cluster: every node with the pods on it and what they take. Kept by deltas, so that a
// scheduling cycle reads and never sums up. A pod we are binding is *assumed*: it counts at once, before the API server
// has told us of it, and is taken back if the binding fails. Source: kube-scheduler internal/cache.
import type { Node, Pod, Stored } from '../api/types.ts';
import { type Amounts, amountsOf, type HostPort, type PodView, viewPod } from './pod-view.ts';

export class NodeState {
  readonly name: string;
  /** Undefined while only pods of the node are known, not the node itself. */
  node: Stored<Node> | undefined;
  allocatable: Amounts = new Map();
  readonly requested: Amounts = new Map();
  readonly scoring = { milliCpu: 0, memoryBytes: 0 };
  readonly pods = new Map<string, PodView>();
  /** Those of them with an affinity to other pods. */
  readonly affine = new Map<string, PodView>();
  /** Pods by owner uid. */
  readonly owners = new Map<string, number>();
  /** Image name → bytes. */
  images = new Map<string, number>();

  constructor(name: string) {
    this.name = name;
  }

  setNode(node: Stored<Node> | undefined): void {
    this.node = node;
    this.allocatable = amountsOf(node?.status?.allocatable ?? node?.status?.capacity);
    this.images = new Map();
    for (const image of node?.status?.images ?? [])
      for (const name of image.names ?? []) this.images.set(name, image.sizeBytes ?? 0);
  }

  add(view: PodView): void {
    this.pods.set(view.uid, view);
    if (view.affinity) this.affine.set(view.uid, view);
    this.#count(view, 1);
  }

  remove(uid: string): void {
    const view = this.pods.get(uid);
    if (!view) return;
    this.pods.delete(uid);
    this.affine.delete(uid);
    this.#count(view, -1);
  }

  /** True when one of these ports is taken: same protocol and port, and addresses that overlap. */
  hasPortConflict(wanted: readonly HostPort[]): boolean {
    if (wanted.length === 0) return false;
    for (const view of this.pods.values())
      for (const used of view.hostPorts) if (wanted.some(port => portsCollide(port, used))) return true;
    return false;
  }

  #count(view: PodView, sign: 1 | -1): void {
    for (const [resource, amount] of view.requests)
      this.requested.set(resource, (this.requested.get(resource) ?? 0) + sign * amount);
    this.scoring.milliCpu += sign * view.scoring.milliCpu;
    this.scoring.memoryBytes += sign * view.scoring.memoryBytes;
    if (!view.ownerUid) return;
    const count = (this.owners.get(view.ownerUid) ?? 0) + sign;
    if (count === 0) this.owners.delete(view.ownerUid);
    else this.owners.set(view.ownerUid, count);
  }
}

function portsCollide(a: HostPort, b: HostPort): boolean {
  if (a.protocol !== b.protocol || a.port !== b.port) return false;
  return a.ip === b.ip || isWildcard(a.ip) || isWildcard(b.ip);
}

function isWildcard(ip: string): boolean {
  return ip === '0.0.0.0' || ip === '::';
}

export class ClusterCache {
  readonly #nodes = new Map<string, NodeState>();
  /** Pod uid → name of the node it is counted on. */
  readonly #placed = new Map<string, string>();
  readonly #assumed = new Set<string>();
  #list: NodeState[] | undefined;

  /** Nodes that exist, in the order they came. */
  nodes(): readonly NodeState[] {
    this.#list ??= [...this.#nodes.values()].filter(state => state.node !== undefined);
    return this.#list;
  }

  setNode(node: Stored<Node>): void {
    const state = this.#state(node.metadata.name);
    if (!state.node) this.#list = undefined;
    state.setNode(node);
  }

  removeNode(name: string): void {
    const state = this.#nodes.get(name);
    if (!state) return;
    state.setNode(undefined);
    this.#list = undefined;
    if (state.pods.size === 0) this.#nodes.delete(name);
  }

  /** A pod the API server says is on a node: counts there, and only there. */
  setPod(pod: Stored<Pod>): void {
    const { uid } = pod.metadata;
    this.removePod(uid);
    const nodeName = pod.spec?.nodeName;
    if (!nodeName || isFinished(pod)) return;
    this.#place(viewPod(pod), nodeName);
  }

  removePod(uid: string): void {
    const nodeName = this.#placed.get(uid);
    if (nodeName === undefined) return;
    this.#placed.delete(uid);
    this.#assumed.delete(uid);
    const state = this.#nodes.get(nodeName);
    state?.remove(uid);
    if (state && !state.node && state.pods.size === 0) this.#nodes.delete(nodeName);
  }

  assume(view: PodView, nodeName: string): void {
    this.removePod(view.uid);
    this.#place(view, nodeName);
    this.#assumed.add(view.uid);
  }

  /** The binding failed. Does nothing once the API server has confirmed the pod. */
  forget(uid: string): void {
    if (this.#assumed.has(uid)) this.removePod(uid);
  }

  isPlaced(uid: string): boolean {
    return this.#placed.has(uid);
  }

  #place(view: PodView, nodeName: string): void {
    this.#state(nodeName).add(view);
    this.#placed.set(view.uid, nodeName);
  }

  #state(name: string): NodeState {
    let state = this.#nodes.get(name);
    if (!state) {
      state = new NodeState(name);
      this.#nodes.set(name, state);
      this.#list = undefined;
    }
    return state;
  }
}

/** A pod that has ended takes nothing. */
export function isFinished(pod: Pod): boolean {
  return pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed';
}
