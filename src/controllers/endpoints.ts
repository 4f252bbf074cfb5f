// Endpoints, the older form of EndpointSlices, for every Service with a selector: many programs still read it.
import type { Endpoints } from '../api/types.ts';
import type { Informer } from '../client/informer.ts';
import { keyOf, RESOURCE, splitKey } from '../client/resources.ts';
import { isNamespaceTerminating, isNotFound } from '../client/status.ts';
import { WorkQueue } from '../client/work-queue.ts';
import { jsonEqual } from '../lib/json.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { OVER_CAPACITY, planEndpoints } from './endpoints-plan.ts';
import {
  HEADLESS_LABEL,
  hasManagedEndpoints,
  isHeadless,
  LAST_CHANGE_TRIGGER_TIME,
  selectBackends,
  TriggerTimes,
  watchBackends,
} from './service-backends.ts';

export class EndpointsController implements Controller {
  readonly name = 'endpoints-controller';
  readonly workers = 4;
  readonly queue: WorkQueue;
  readonly #context: ControllerContext;
  readonly #backends: ReturnType<typeof watchBackends>;
  readonly #endpoints: Informer<Endpoints>;
  readonly #triggers = new TriggerTimes();

  constructor(context: ControllerContext) {
    this.#context = context;
    this.queue = new WorkQueue({ name: this.name, log: context.log, clock: context.clock });
    this.#endpoints = context.informers.of(RESOURCE.endpoints);
    this.#backends = watchBackends(context, key => this.queue.add(key));
    // Also those left over from Services that went while we were down.
    this.#endpoints.onChange(({ object }) => this.queue.add(keyOf(object)));
  }

  readonly reconcile = async (key: string): Promise<void> => {
    const service = this.#backends.services.getByKey(key);
    const present = this.#endpoints.getByKey(key);
    const { namespace = '', name } = splitKey(key);
    if (!service) {
      this.#triggers.forget(key);
      if (present && isOurs(present)) await this.#delete(present.metadata.uid, name, namespace);
      return;
    }
    if (!hasManagedEndpoints(service) || service.metadata.deletionTimestamp) return;
    const backends = selectBackends(service, this.#backends.podsIn(namespace));
    const { subsets, truncated } = planEndpoints(service, backends);
    const triggerTime = this.#triggers.next(service, backends);
    const labels: Record<string, string> = { ...service.metadata.labels, [MANAGED_BY]: MANAGED_BY_VALUE };
    if (isHeadless(service)) labels[HEADLESS_LABEL] = '';
    const over = present?.metadata.annotations?.[OVER_CAPACITY] !== undefined;
    if (
      present &&
      jsonEqual(present.subsets ?? [], subsets) &&
      jsonEqual(present.metadata.labels ?? {}, labels) &&
      over === truncated
    )
      return;
    const {
      [LAST_CHANGE_TRIGGER_TIME]: _,
      [OVER_CAPACITY]: __,
      ...annotations
    } = present?.metadata.annotations ?? {};
    if (triggerTime) annotations[LAST_CHANGE_TRIGGER_TIME] = triggerTime;
    if (truncated) annotations[OVER_CAPACITY] = 'truncated';
    const metadata = { ...present?.metadata, name, namespace, labels, annotations };
    const { client } = this.#context;
    try {
      if (present) await client.update(RESOURCE.endpoints, { ...present, metadata, subsets });
      else await client.create(RESOURCE.endpoints, { metadata, subsets });
    } catch (error) {
      if (!isNamespaceTerminating(error)) throw error;
    }
  };

  async #delete(uid: string, name: string, namespace: string): Promise<void> {
    try {
      await this.#context.client.delete(RESOURCE.endpoints, name, { namespace, preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
}

/** As in Kubernetes since 1.33: tells our objects from those people write for Services without selector. */
const MANAGED_BY = 'endpoints.kubernetes.io/managed-by';
const MANAGED_BY_VALUE = 'endpoint-controller';

function isOurs(endpoints: Endpoints): boolean {
  return endpoints.metadata?.labels?.[MANAGED_BY] === MANAGED_BY_VALUE;
}
