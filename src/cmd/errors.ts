// The one place where an error becomes what a person sees and an exit status. Never a stack trace, unless asked for.
import colors from 'picocolors';
import { errorMessage, PodwireError } from '../lib/errors.ts';

/** Exit statuses: 1 the work failed, 2 the command was called wrongly. */
export function exitStatus(thrown: unknown): number {
  return thrown instanceof PodwireError && thrown.code === 'INVALID_OPTION' ? 2 : 1;
}

/** Prints the message (and with PODWIRE_DEBUG the stack) and sets the exit status. */
export function reportError(thrown: unknown): void {
  process.stderr.write(`${colors.red('podwire:')} ${errorMessage(thrown)}\n`);
  if (process.env.PODWIRE_DEBUG && thrown instanceof Error) process.stderr.write(`${thrown.stack}\n`);
  process.exitCode = exitStatus(thrown);
}
