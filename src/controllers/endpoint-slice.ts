// EndpointSlices for every Service with a selector.
import type { EndpointSlice, Node } from '../api/types.ts';
import type { Informer } from '../client/informer.ts';
import { keyOf, RESOURCE, splitKey } from '../client/resources.ts';
import { isNamespaceTerminating, isNotFound } from '../client/status.ts';
import { WorkQueue } from '../client/work-queue.ts';
import type { Controller, ControllerContext } from './controller.ts';
import {
  MANAGED_BY,
  MANAGED_BY_LABEL,
  planEndpointSlices,
  SERVICE_NAME_LABEL,
} from './endpoint-slice-plan.ts';
import { Expectations } from './expectations.ts';
import { hasManagedEndpoints, selectBackends, TriggerTimes, watchBackends } from './service-backends.ts';

const BY_SERVICE = 'service';
const ZONE_LABEL = 'topology.kubernetes.io/zone';

export class EndpointSliceController implements Controller {
  readonly name = 'endpointslice-controller';
  readonly workers = 8;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #backends: ReturnType<typeof watchBackends>;
  readonly #slices: Informer<EndpointSlice>;
  readonly #nodes: Informer<Node>;
  readonly #expectations: Expectations;
  readonly #triggers = new TriggerTimes();

  constructor(context: ControllerContext) {
    this.#context = context;
    this.queue = new WorkQueue({ name: this.name, log: context.log, clock: context.clock });
    this.#expectations = new Expectations(context.clock);
    this.#nodes = context.informers.of(RESOURCE.nodes);
    this.#slices = context.informers.of(RESOURCE.endpointSlices);
    this.#slices.addIndex(BY_SERVICE, slice => [serviceKeyOf(slice) ?? '']);
    this.#backends = watchBackends(context, key => this.queue.add(key));
    this.#slices.onChange(({ type, object, previous }) => {
      for (const slice of [object, previous]) {
        const key = slice && serviceKeyOf(slice);
        if (!key) continue;
        if (type === 'added') this.#expectations.created(key);
        this.queue.add(key);
      }
    });
    this.#nodes.onChange(({ object, previous }) => {
      const zone = object.metadata.labels?.[ZONE_LABEL];
      if (zone !== previous?.metadata.labels?.[ZONE_LABEL])
        for (const service of this.#backends.services.list()) this.queue.add(keyOf(service));
    });
  }

  readonly reconcile = async (key: string): Promise<void> => {
    const service = this.#backends.services.getByKey(key);
    if (!service) {
      this.#expectations.forget(key);
      this.#triggers.forget(key);
      return;
    }
    const { namespace = '' } = splitKey(key);
    if (!hasManagedEndpoints(service) || service.metadata.deletionTimestamp) return;
    // The slices we made last are not in the copy yet: their arrival brings the key back.
    if (!this.#expectations.met(key)) return;
    const backends = selectBackends(service, this.#backends.podsIn(namespace));
    const plan = planEndpointSlices({
      service,
      backends,
      nodeOf: name => this.#nodes.get(name),
      existing: this.#slices.byIndex(BY_SERVICE, key),
      triggerTime: this.#triggers.next(service, backends),
    });
    const { client } = this.#context;
    for (const slice of plan.update) await client.update(RESOURCE.endpointSlices, slice);
    if (plan.create.length > 0) this.#expectations.expect(key, plan.create.length, []);
    for (const [done, slice] of plan.create.entries()) {
      try {
        await client.create(RESOURCE.endpointSlices, slice);
      } catch (error) {
        this.#expectations.created(key, plan.create.length - done);
        if (isNamespaceTerminating(error)) return;
        throw error;
      }
    }
    for (const slice of plan.delete) {
      const { name, uid } = slice.metadata;
      try {
        await client.delete(RESOURCE.endpointSlices, name, { namespace, preconditions: { uid } });
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    }
  };
}

/** Only slices that say they are ours. */
function serviceKeyOf(slice: EndpointSlice): string | undefined {
  const labels = slice.metadata?.labels ?? {};
  const service = labels[SERVICE_NAME_LABEL];
  if (!service || labels[MANAGED_BY_LABEL] !== MANAGED_BY) return undefined;
  return `${slice.metadata?.namespace}/${service}`;
}
