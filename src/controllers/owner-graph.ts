// Who owns whom, over all kinds: the memory of the garbage collector. Pure.
import type { KubeObject, OwnerReference, Stored } from '../api/types.ts';
import type { TypedRef } from '../client/resources.ts';

export interface GraphNode {
  uid: string;
  ref: TypedRef<KubeObject>;
  name: string;
  namespace: string | undefined;
  owners: readonly OwnerReference[];
  finalizers: readonly string[];
  deleting: boolean;
  /** uids of objects that name this one as owner. */
  dependents: Set<string>;
}

export class OwnerGraph {
  readonly #nodes = new Map<string, GraphNode>();
  /** Owner uid → dependents' uids, also for owners that were never seen. */
  readonly #dependents = new Map<string, Set<string>>();

  get(uid: string): GraphNode | undefined {
    return this.#nodes.get(uid);
  }

  dependentsOf(uid: string): GraphNode[] {
    return [...(this.#dependents.get(uid) ?? [])].flatMap(dependent => this.#nodes.get(dependent) ?? []);
  }

  put(ref: TypedRef<KubeObject>, object: Stored<KubeObject>): GraphNode {
    const {
      uid,
      name,
      namespace,
      ownerReferences = [],
      finalizers = [],
      deletionTimestamp,
    } = object.metadata;
    this.#unlink(uid);
    const dependents = this.#dependents.get(uid) ?? new Set<string>();
    this.#dependents.set(uid, dependents);
    const node: GraphNode = {
      uid,
      ref,
      name,
      namespace,
      owners: ownerReferences,
      finalizers,
      deleting: deletionTimestamp !== undefined,
      dependents,
    };
    this.#nodes.set(uid, node);
    for (const owner of ownerReferences) {
      const known = this.#dependents.get(owner.uid);
      if (known) known.add(uid);
      else this.#dependents.set(owner.uid, new Set([uid]));
    }
    return node;
  }

  /** Answers those that named it as owner. */
  remove(uid: string): GraphNode[] {
    const dependents = this.dependentsOf(uid);
    this.#unlink(uid);
    this.#nodes.delete(uid);
    if (this.#dependents.get(uid)?.size === 0) this.#dependents.delete(uid);
    return dependents;
  }

  #unlink(uid: string): void {
    for (const owner of this.#nodes.get(uid)?.owners ?? []) {
      const known = this.#dependents.get(owner.uid);
      known?.delete(uid);
      if (known?.size === 0 && !this.#nodes.has(owner.uid)) this.#dependents.delete(owner.uid);
    }
  }
}
