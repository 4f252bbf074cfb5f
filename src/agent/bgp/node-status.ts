// CalicoNodeStatus objects of this node (`spec.node`): their status is written at once and then every
// `updatePeriodSeconds`, in the classes that are asked for. A period of 0 asks for one answer only.
import type {
  CalicoNodeStatusBody,
  NodeStatusClass,
} from '../../../routing/bgp/looking-glass/calico-node-status.ts';
import type { Stored } from '../../api/types.ts';
import type { KubeClient } from '../../client/client.ts';
import { Informer } from '../../client/informer.ts';
import { isNotFound } from '../../client/status.ts';
import { errorMessage } from '../../lib/errors.ts';
import type { Logger } from '../../observe/log.ts';
import { CALICO, type CalicoNodeStatus } from './resources.ts';

export interface NodeStatusWriterOptions {
  readonly client: KubeClient;
  readonly nodeName: string;
  /** Undefined while there is nothing to say yet. */
  readonly body: (classes: readonly NodeStatusClass[]) => CalicoNodeStatusBody | undefined;
  readonly log: Logger;
}

/** What Calico's validation lets through, and its default (v3 nodestatus.go). */
const DEFAULT_PERIOD_SECONDS = 10;
const MAX_PERIOD_SECONDS = 86_400;
const CLASSES: readonly NodeStatusClass[] = ['Agent', 'BGP', 'Routes'];
/** The speaker begins some moments after the first objects are seen. */
const NOT_READY_RETRY_MS = 500;

interface Reported {
  readonly spec: string;
  timer: NodeJS.Timeout | undefined;
}

export class NodeStatusWriter {
  readonly #options: NodeStatusWriterOptions;
  readonly #informer: Informer<CalicoNodeStatus>;
  readonly #reported = new Map<string, Reported>();
  #stopped = false;

  constructor(options: NodeStatusWriterOptions) {
    this.#options = options;
    this.#informer = new Informer(options.client, CALICO.nodeStatuses, { log: options.log });
    this.#informer.onChange(({ type, object }) => {
      const { name } = object.metadata;
      if (type === 'deleted' || object.spec?.node !== options.nodeName) this.#forget(name);
      else this.#follow(object);
    });
  }

  start(signal: AbortSignal): void {
    this.#informer.start(signal);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const name of [...this.#reported.keys()]) this.#forget(name);
    await this.#informer.stop();
  }

  #forget(name: string): void {
    clearTimeout(this.#reported.get(name)?.timer);
    this.#reported.delete(name);
  }

  /** Our own writes come back as changes too: only another spec begins anew. */
  #follow(object: Stored<CalicoNodeStatus>): void {
    const { name } = object.metadata;
    const spec = JSON.stringify(object.spec);
    if (this.#reported.get(name)?.spec === spec) return;
    this.#forget(name);
    const reported: Reported = { spec, timer: undefined };
    this.#reported.set(name, reported);
    const { updatePeriodSeconds: period = DEFAULT_PERIOD_SECONDS, classes } = object.spec ?? {};
    const asked = CLASSES.filter(one => classes === undefined || classes.includes(one));
    void this.#report(name, reported, asked, Math.min(period, MAX_PERIOD_SECONDS) * 1000);
  }

  async #report(
    name: string,
    reported: Reported,
    classes: readonly NodeStatusClass[],
    periodMs: number,
  ): Promise<void> {
    const written = await this.#write(name, classes);
    if (this.#stopped || this.#reported.get(name) !== reported) return;
    const wait = written ? periodMs : Math.min(NOT_READY_RETRY_MS, periodMs || NOT_READY_RETRY_MS);
    if (written && periodMs <= 0) return;
    reported.timer = setTimeout(() => void this.#report(name, reported, classes, periodMs), wait).unref();
  }

  async #write(name: string, classes: readonly NodeStatusClass[]): Promise<boolean> {
    const { client, body, log } = this.#options;
    const status = body(classes);
    if (status === undefined) return false;
    // What is no longer asked for goes.
    const patch = { status: { agent: null, bgp: null, routes: null, ...status } };
    try {
      await client.patch(CALICO.nodeStatuses, name, patch, { type: 'merge', subresource: 'status' });
    } catch (error) {
      if (!isNotFound(error)) {
        log.warn({ name, error: errorMessage(error) }, 'a CalicoNodeStatus could not be written');
        return true;
      }
      // Calico's own definition has no subresource for the status.
      await client
        .patch(CALICO.nodeStatuses, name, patch, { type: 'merge' })
        .catch((again: unknown) =>
          log.debug({ name, error: errorMessage(again) }, 'a CalicoNodeStatus is gone'),
        );
    }
    return true;
  }
}
