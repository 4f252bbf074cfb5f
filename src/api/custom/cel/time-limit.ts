// Runs work that somebody else wrote, and stops it: V8 ends the call when the time is over, whatever loop or regular
// expression it is in. A server that serves everybody must not wait for one object's rules.
import { createContext, Script } from 'node:vm';

const script = new Script('work()');
const context = createContext({ work: undefined as unknown });

export class TimeLimitError extends Error {}

/** The work's answer; TimeLimitError after `limitMs`. Not for work that waits. */
export function withinTime<T>(limitMs: number, work: () => T): T {
  context.work = work;
  try {
    return script.runInContext(context, { timeout: limitMs }) as T;
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
    throw new TimeLimitError(`not finished within ${limitMs} ms`);
  } finally {
    context.work = undefined;
  }
}
