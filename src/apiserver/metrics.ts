// What the API server counts, under kube-apiserver's names (k8s.io/apiserver endpoints/metrics, storage/etcd3/metrics).
import { Counter, createRegistry, Gauge, Histogram, type Registry } from '../observe/metrics.ts';

/** kube-apiserver's own buckets for apiserver_request_duration_seconds. */
const DURATION_BUCKETS = [
  0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
];

const REQUEST_LABELS = ['verb', 'group', 'version', 'resource', 'subresource', 'scope'] as const;

export interface RequestLabels {
  verb: string;
  group: string;
  version: string;
  resource: string;
  subresource: string;
  scope: string;
}

export class ApiServerMetrics {
  readonly registry: Registry;
  readonly #requests: Counter;
  readonly #durations: Histogram;
  readonly #inFlight: Gauge;
  readonly #watchers: Gauge;
  readonly #watchEvents: Counter;

  constructor(registry: Registry = createRegistry({ process: true })) {
    this.registry = registry;
    const registers = [registry];
    this.#requests = new Counter({
      name: 'apiserver_request_total',
      help: 'Counter of apiserver requests broken out for each verb, group, version, resource, scope and HTTP response code.',
      labelNames: [...REQUEST_LABELS, 'code'],
      registers,
    });
    this.#durations = new Histogram({
      name: 'apiserver_request_duration_seconds',
      help: 'Response latency distribution in seconds for each verb, group, version, resource, subresource and scope.',
      labelNames: [...REQUEST_LABELS],
      buckets: DURATION_BUCKETS,
      registers,
    });
    this.#inFlight = new Gauge({
      name: 'apiserver_current_inflight_requests',
      help: 'Number of requests being served now, watches not counted.',
      labelNames: ['request_kind'],
      registers,
    });
    this.#watchers = new Gauge({
      name: 'apiserver_longrunning_requests',
      help: 'Gauge of all active long-running apiserver requests.',
      labelNames: [...REQUEST_LABELS],
      registers,
    });
    this.#watchEvents = new Counter({
      name: 'apiserver_watch_events_total',
      help: 'Number of events sent in watch clients.',
      labelNames: ['group', 'version', 'resource'],
      registers,
    });
  }

  /** Call at the start of a request; what it returns, at its end. */
  begin(labels: RequestLabels, longRunning: boolean): (code: number) => void {
    const started = performance.now();
    const kind = { request_kind: ['GET', 'LIST'].includes(labels.verb) ? 'readOnly' : 'mutating' };
    if (longRunning) this.#watchers.inc({ ...labels });
    else this.#inFlight.inc(kind);
    return code => {
      this.#requests.inc({ ...labels, code });
      if (longRunning) this.#watchers.dec({ ...labels });
      else {
        this.#inFlight.dec(kind);
        this.#durations.observe({ ...labels }, (performance.now() - started) / 1000);
      }
    };
  }

  watchEvents(group: string, version: string, resource: string, count: number): void {
    this.#watchEvents.inc({ group, version, resource }, count);
  }

  /** apiserver_storage_objects and the store's revision are read when somebody asks. */
  collectStorage(count: () => Promise<Map<string, number>>, revision: () => number): void {
    new Gauge({
      name: 'apiserver_storage_objects',
      help: 'Number of stored objects split by kind.',
      labelNames: ['resource'],
      registers: [this.registry],
      async collect() {
        this.reset();
        for (const [resource, number] of await count()) this.set({ resource }, number);
      },
    });
    new Gauge({
      name: 'podwire_store_revision',
      help: 'The newest durable revision of the store.',
      registers: [this.registry],
      collect() {
        this.set(revision());
      },
    });
  }
}
