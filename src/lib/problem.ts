// Something wrong with one object that must not stop the others: planners return problems, daemons make Events of them.

export interface Problem {
  /** The Kubernetes object at fault. */
  kind: string;
  namespace?: string;
  name: string;
  /** CamelCase, the Event's reason: `BadBackendData`. */
  reason: string;
  /** What is wrong, with the value, and what follows from it. */
  message: string;
}

/** Equal problems have equal keys: an Event is written once for each. */
export function problemKey(problem: Problem): string {
  return `${problem.kind}/${problem.namespace ?? ''}/${problem.name} ${problem.reason} ${problem.message}`;
}
