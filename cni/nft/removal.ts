// Removing a pod's rules from wherever they may be.
import { hasCode } from '../../src/lib/errors.ts';
import { joinErrors } from '../runtime/errors.ts';

/**
 * Takes all steps, whatever becomes of the others, and then fails with what failed. A kernel without netfilter's netlink
 * has no rules there.
 */
export async function removeFromAll(
  context: string,
  ...steps: (() => void | Promise<void>)[]
): Promise<void> {
  const failures: unknown[] = [];
  for (const step of steps)
    try {
      await step();
    } catch (error) {
      if (!hasCode(error, 'EPROTONOSUPPORT')) failures.push(error);
    }
  if (failures.length > 0) throw joinErrors(context, failures);
}
