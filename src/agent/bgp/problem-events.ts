// What is wrong with Calico's resources: a line in the log and an Event on the object, once for as long as it lasts.
import { CALICO_GROUP, CALICO_VERSION } from '../../../routing/bgp/calico/types.ts';
import type { EventSink } from '../../client/event-recorder.ts';
import { type Problem, problemKey } from '../../lib/problem.ts';
import type { Logger } from '../../observe/log.ts';

export class ProblemEvents {
  readonly #events: EventSink;
  readonly #log: Logger;
  #current: readonly Problem[] = [];

  constructor(events: EventSink, log: Logger) {
    this.#events = events;
    this.#log = log;
  }

  get current(): readonly Problem[] {
    return this.#current;
  }

  /** All problems there are now. */
  report(problems: readonly Problem[]): void {
    const before = new Set(this.#current.map(problemKey));
    this.#current = problems;
    const fresh = new Map(problems.map(problem => [problemKey(problem), problem]));
    for (const [key, problem] of fresh) {
      if (before.has(key)) continue;
      const { kind, name, reason, message } = problem;
      this.#log.warn({ ...problem }, 'problem in a BGP resource');
      const apiVersion = `${CALICO_GROUP}/${CALICO_VERSION}`;
      this.#events.event({ apiVersion, kind, metadata: { name } }, 'Warning', reason, message);
    }
  }
}
