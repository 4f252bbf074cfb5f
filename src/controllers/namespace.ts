// A namespace that is being deleted: everything in it goes first, then its own finalizer `kubernetes`.
// Source: k8s.io/kubernetes pkg/controller/namespace.
import type { KubeObject, Namespace, Stored } from '../api/types.ts';
import { type DiscoveredResource, discoverResources } from '../client/discovery.ts';
import type { Informer } from '../client/informer.ts';
import { RESOURCE, resourcePath } from '../client/resources.ts';
import { isNotFound } from '../client/status.ts';
import { WorkQueue } from '../client/work-queue.ts';
import { ApiError } from '../lib/errors.ts';
import type { Controller, ControllerContext } from './controller.ts';

const FINALIZER = 'kubernetes';
/** While pods take their grace period. */
const RECHECK_MS = 500;

export class NamespaceController implements Controller {
  readonly name = 'namespace-controller';
  readonly workers = 2;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #namespaces: Informer<Namespace>;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.queue = new WorkQueue({ name: this.name, log: context.log, clock: context.clock });
    this.#namespaces = context.informers.of(RESOURCE.namespaces);
    this.#namespaces.onChange(({ type, object }) => {
      if (type !== 'deleted' && object.metadata.deletionTimestamp) this.queue.add(object.metadata.name);
    });
  }

  readonly reconcile = async (name: string): Promise<{ requeueAfterMs: number } | undefined> => {
    const namespace = this.#namespaces.get(name);
    if (!namespace?.metadata.deletionTimestamp) return undefined;
    if (!(namespace.spec?.finalizers ?? []).includes(FINALIZER)) return undefined;
    if (namespace.status?.phase !== 'Terminating') {
      const patch = { status: { phase: 'Terminating' } };
      await this.#context.client.patch(RESOURCE.namespaces, name, patch, {
        type: 'merge',
        subresource: 'status',
      });
    }
    const { resources, failed } = await discoverResources(this.#context.client);
    const left = await this.#empty(name, resources);
    // A group that does not answer may still hold objects: the namespace must not go before them.
    if (left > 0 || failed.length > 0) return { requeueAfterMs: RECHECK_MS };
    await this.#finalize(namespace);
    return undefined;
  };

  /** Deletes everything; answers how much is still there. */
  async #empty(namespace: string, resources: readonly DiscoveredResource[]): Promise<number> {
    const kinds = resources.filter(
      ({ ref, verbs }) => ref.namespaced && verbs.includes('list') && verbs.includes('delete'),
    );
    const counts = await Promise.all(kinds.map(kind => this.#emptyKind(namespace, kind)));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  async #emptyKind(namespace: string, { ref }: DiscoveredResource): Promise<number> {
    const { client } = this.#context;
    let items: Stored<KubeObject>[];
    try {
      ({ items } = await client.list(ref, { namespace }));
    } catch (error) {
      if (isNotFound(error) || (error instanceof ApiError && error.status === 405)) return 0;
      throw error;
    }
    for (const { metadata } of items) {
      if (metadata.deletionTimestamp) continue;
      try {
        await client.delete(ref, metadata.name, { namespace, propagationPolicy: 'Background' });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
    return items.length === 0 ? 0 : (await client.list(ref, { namespace, limit: 1 })).items.length;
  }

  async #finalize(namespace: Stored<Namespace>): Promise<void> {
    const { client } = this.#context;
    const { name } = namespace.metadata;
    const live = await client.get(RESOURCE.namespaces, name).catch(error => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    if (!live || live.metadata.uid !== namespace.metadata.uid) return;
    const finalizers = (live.spec?.finalizers ?? []).filter(finalizer => finalizer !== FINALIZER);
    const body = JSON.stringify({
      ...live,
      apiVersion: 'v1',
      kind: 'Namespace',
      spec: { ...live.spec, finalizers },
    });
    await client.request('PUT', resourcePath(RESOURCE.namespaces, { name, subresource: 'finalize' }), {
      body,
    });
  }
}
