// One Event on the own Node for a burst of repairs: somebody changed this node's network, and it was put back.
import type { KubeObject } from '../api/types.ts';
import type { EventSink } from '../client/event-recorder.ts';

/** Repairs of one cause come in a burst; together they are one Event. */
const BURST_MS = 1000;
const NAMED_REPAIRS = 3;

export class RepairEvents {
  readonly #events: EventSink;
  readonly #node: () => KubeObject | undefined;
  /** In words, until they become one Event. */
  #repairs: string[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** `node`: the own Node; undefined before it is known. */
  constructor(events: EventSink, node: () => KubeObject | undefined) {
    this.#events = events;
    this.#node = node;
  }

  tell(repair: string): void {
    this.#repairs.push(repair);
    this.#timer ??= setTimeout(() => this.#flush(), BURST_MS).unref();
  }

  #flush(): void {
    this.#timer = undefined;
    const repairs = this.#repairs.splice(0);
    const node = this.#node();
    if (!node) return;
    const named = repairs.slice(0, NAMED_REPAIRS);
    const rest = repairs.length - named.length;
    const message = `somebody changed the network of this node; mended: ${named.join('; ')}${rest > 0 ? ` and ${rest} more` : ''}`;
    this.#events.event(node, 'Warning', 'NetworkRepaired', message);
  }
}
