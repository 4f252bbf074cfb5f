// Writes Events about objects, without ever holding up or failing its caller. Repeats become a count on one Event, and
// a storm about one object is cut: an Event is news for people, not a log.
// Source: client-go tools/record (correlator: 10 similar in 10 minutes are combined, 25 per object, then one per 5 min).
import { createHash } from 'node:crypto';
import type { CoreEvent, KubeObject, ObjectReference, Stored } from '../api/types.ts';
import { type Clock, formatTime, sleep, systemClock } from '../lib/clock.ts';
import { errorMessage } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { KubeClient } from './client.ts';
import { RESOURCE } from './resources.ts';
import { isAlreadyExists, isNamespaceTerminating, isNotFound } from './status.ts';

export interface EventRecorderOptions {
  client: KubeClient;
  /** `default-scheduler`, `kubelet`, … */
  component: string;
  /** Node name, where the component belongs to one. */
  host?: string;
  log?: Logger;
  clock?: Clock;
}

export interface EventOptions {
  /**
   * Every node sees the same and would tell it: the Event's name follows from what it says, so that of a thousand
   * programs one writes it and the others find it written.
   */
  shared?: boolean;
}

/** Writes one Event; `type` Normal or Warning. */
export interface EventSink {
  event(
    object: KubeObject,
    type: 'Normal' | 'Warning',
    reason: string,
    message: string,
    options?: EventOptions,
  ): void;
}

interface Pending {
  key: string;
  shared: boolean;
  event: CoreEvent;
}

interface Known {
  name: string;
  namespace: string;
  count: number;
}

const SIMILAR_LIMIT = 10;
const SIMILAR_WINDOW_MS = 10 * 60_000;
const SPAM_BURST = 25;
const SPAM_REFILL_MS = 5 * 60_000;
const MAX_PENDING = 1_000;
const MAX_KNOWN = 4_096;
const MAX_MESSAGE = 1_024;

export class EventRecorder implements EventSink {
  readonly #options: EventRecorderOptions;
  readonly #clock: Clock;
  readonly #known = new Map<string, Known>();
  readonly #similar = new Map<string, { messages: Set<string>; sinceMs: number }>();
  readonly #spam = new Map<string, { tokens: number; atMs: number }>();
  readonly #pending: Pending[] = [];
  #draining: Promise<void> | undefined;
  #sequence = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  event(
    object: KubeObject,
    type: 'Normal' | 'Warning',
    reason: string,
    message: string,
    options: EventOptions = {},
  ): void {
    const reference = referenceTo(object);
    const about = `${reference.kind}/${reference.namespace ?? ''}/${reference.name}/${reference.uid ?? ''}`;
    if (!this.#allow(about)) return;
    const text = this.#combine(`${about} ${type} ${reason}`, message.slice(0, MAX_MESSAGE));
    if (this.#pending.length >= MAX_PENDING) this.#pending.shift();
    const key = `${about} ${type} ${reason} ${text}`;
    const shared = options.shared === true;
    const suffix = shared
      ? createHash('sha256').update(key).digest('hex').slice(0, 16)
      : this.#uniqueSuffix();
    this.#pending.push({ key, shared, event: this.#build(reference, type, reason, text, suffix) });
    this.#draining ??= this.#drain().finally(() => {
      this.#draining = undefined;
    });
  }

  /** Resolves when everything recorded so far is written or given up. */
  async flush(): Promise<void> {
    await this.#draining;
  }

  #uniqueSuffix(): string {
    return (BigInt(this.#clock.now()) * 1_000_000n + BigInt(this.#sequence++ % 1_000_000)).toString(16);
  }

  #build(
    reference: ObjectReference,
    type: string,
    reason: string,
    message: string,
    suffix: string,
  ): CoreEvent {
    const now = this.#clock.now();
    const { component, host } = this.#options;
    return {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: `${reference.name}.${suffix}`, namespace: reference.namespace ?? 'default' },
      involvedObject: reference,
      type,
      reason,
      message,
      count: 1,
      firstTimestamp: formatTime(now),
      lastTimestamp: formatTime(now),
      source: { component, ...(host ? { host } : {}) },
      reportingComponent: component,
      reportingInstance: host ?? '',
    };
  }

  /** Token bucket per object. */
  #allow(about: string): boolean {
    const now = this.#clock.now();
    const bucket = this.#spam.get(about) ?? { tokens: SPAM_BURST, atMs: now };
    const tokens = Math.min(SPAM_BURST, bucket.tokens + (now - bucket.atMs) / SPAM_REFILL_MS);
    remember(this.#spam, about, { tokens: tokens < 1 ? tokens : tokens - 1, atMs: now });
    return tokens >= 1;
  }

  /** After ten different messages of one kind, the rest goes under one heading. */
  #combine(key: string, message: string): string {
    const now = this.#clock.now();
    let entry = this.#similar.get(key);
    if (!entry || now - entry.sinceMs > SIMILAR_WINDOW_MS) entry = { messages: new Set(), sinceMs: now };
    remember(this.#similar, key, entry);
    if (entry.messages.size >= SIMILAR_LIMIT && !entry.messages.has(message))
      return `(combined from similar events): ${message}`.slice(0, MAX_MESSAGE);
    entry.messages.add(message);
    return message;
  }

  async #drain(): Promise<void> {
    for (let next = this.#pending.shift(); next; next = this.#pending.shift()) {
      const { key, event, shared } = next;
      try {
        if (shared) await this.#writeShared(event);
        else await this.#write(key, event);
      } catch (error) {
        // A refused Event is dropped: nothing may depend on it.
        if (!isNamespaceTerminating(error))
          this.#options.log?.debug({ reason: event.reason, error: errorMessage(error) }, 'event not written');
        if (!(error instanceof Error && 'status' in error)) await sleep(500, undefined, this.#clock);
      }
    }
  }

  /** Who comes first writes it; a count of how many saw it would be as many writes. */
  async #writeShared(event: CoreEvent): Promise<void> {
    try {
      await this.#options.client.create(RESOURCE.events, event);
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
  }

  async #write(key: string, event: CoreEvent): Promise<void> {
    const { client } = this.#options;
    const known = this.#known.get(key);
    if (known) {
      known.count++;
      try {
        const change = { count: known.count, lastTimestamp: event.lastTimestamp, message: event.message };
        await client.patch(RESOURCE.events, known.name, change, {
          type: 'merge',
          namespace: known.namespace,
        });
        return;
      } catch (error) {
        if (!isNotFound(error)) throw error;
        this.#known.delete(key);
      }
    }
    const created = await client.create(RESOURCE.events, event);
    remember(this.#known, key, {
      name: created.metadata.name,
      namespace: created.metadata.namespace ?? 'default',
      count: 1,
    });
  }
}

/** core/v1 ObjectReference to an object that has apiVersion and kind. */
export function referenceTo(object: KubeObject | Stored<KubeObject>): ObjectReference {
  const { metadata } = object;
  return {
    apiVersion: object.apiVersion,
    kind: object.kind,
    name: metadata?.name,
    ...(metadata?.namespace ? { namespace: metadata.namespace } : {}),
    ...(metadata?.uid ? { uid: metadata.uid } : {}),
    ...(metadata?.resourceVersion ? { resourceVersion: metadata.resourceVersion } : {}),
  };
}

/** Sets, and keeps the map below its bound by forgetting what was touched longest ago. */
function remember<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= MAX_KNOWN) return;
  const oldest = map.keys().next();
  if (!oldest.done) map.delete(oldest.value);
}
