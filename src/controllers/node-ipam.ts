// Gives every node its pod network, one per family. What nodes already have is kept; what a deleted node had is free
// again. Source: k8s.io/kubernetes pkg/controller/nodeipam (RangeAllocator).
import type { Node, Stored } from '../api/types.ts';
import type { EventSink } from '../client/event-recorder.ts';
import type { Change, Informer } from '../client/informer.ts';
import { RESOURCE } from '../client/resources.ts';
import { isNotFound } from '../client/status.ts';
import { WorkQueue } from '../client/work-queue.ts';
import { parseCidr } from '../lib/cidr.ts';
import { CidrAllocator } from './cidr-allocator.ts';
import { type Controller, type ControllerContext, recorderFor } from './controller.ts';

export class NodeIpamController implements Controller {
  readonly name = 'node-ipam-controller';
  /** One: two nodes must never be given one subnet. */
  readonly workers = 1;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #nodes: Informer<Node>;
  readonly #allocators: CidrAllocator[];
  readonly #events: EventSink;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.queue = new WorkQueue({ name: this.name, log: context.log, clock: context.clock });
    this.#events = recorderFor(context, 'cidrAllocator');
    const { ipv4, ipv6 } = context.nodeCidrMaskSizes;
    this.#allocators = context.clusterCidrs.map(
      cidr => new CidrAllocator(cidr, parseCidr(cidr)?.family === 6 ? ipv6 : ipv4),
    );
    this.#nodes = context.informers.of(RESOURCE.nodes);
    // All handlers of the first list run before any key is worked on: nothing taken can be given away.
    this.#nodes.onChange(change => this.#onNode(change));
  }

  #onNode({ type, object: node, previous }: Change<Node>): void {
    if (type === 'deleted') {
      for (const cidr of cidrsOf(previous ?? node)) this.#release(cidr, node.metadata.name);
      for (const waiting of this.#nodes.list())
        if (cidrsOf(waiting).length === 0) this.queue.add(waiting.metadata.name);
      return;
    }
    for (const cidr of cidrsOf(node)) this.#occupy(cidr, node);
    if (cidrsOf(node).length === 0) this.queue.add(node.metadata.name);
  }

  #occupy(cidr: string, node: Stored<Node>): void {
    if (!parseCidr(cidr)) return;
    for (const allocator of this.#allocators) {
      const other = allocator.occupy(cidr, node.metadata.name);
      if (other === undefined) continue;
      const message = `podCIDR ${cidr} overlaps with that of node ${other}`;
      this.#context.log.warn({ node: node.metadata.name }, message);
      this.#events.event(node, 'Warning', 'CIDRConflict', message);
    }
  }

  #release(cidr: string, owner: string): void {
    if (parseCidr(cidr)) for (const allocator of this.#allocators) allocator.release(cidr, owner);
  }

  readonly reconcile = async (name: string): Promise<void> => {
    const node = this.#nodes.get(name);
    if (!node || cidrsOf(node).length > 0 || this.#allocators.length === 0) return;
    const cidrs: string[] = [];
    for (const allocator of this.#allocators) {
      const cidr = allocator.allocate(name);
      if (cidr !== undefined) cidrs.push(cidr);
    }
    try {
      if (cidrs.length < this.#allocators.length) {
        this.#events.event(
          node,
          'Warning',
          'CIDRNotAvailable',
          'No free subnet left for the pods of this node',
        );
        throw new Error(`no free podCIDR for node ${name}`);
      }
      const patch = { metadata: { uid: node.metadata.uid }, spec: { podCIDR: cidrs[0], podCIDRs: cidrs } };
      await this.#context.client.patch(RESOURCE.nodes, name, patch, { type: 'strategic' });
    } catch (error) {
      // A write whose answer got lost shows up in the informer, which occupies it again.
      for (const cidr of cidrs) this.#release(cidr, name);
      if (!isNotFound(error)) throw error;
    }
  };
}

function cidrsOf(node: Node): string[] {
  const { podCIDR, podCIDRs } = node.spec ?? {};
  return podCIDRs && podCIDRs.length > 0 ? podCIDRs : podCIDR ? [podCIDR] : [];
}
