// Prints what the reconciler of a node would do: desired state against the kernel's, one line an object.
import colors from 'picocolors';
import type { Operation } from '../kernel/diff.ts';

const SIGN = { add: colors.green('+'), change: colors.yellow('~'), delete: colors.red('-') } as const;

export function formatDiff(node: string, operations: readonly Operation[]): string {
  if (operations.length === 0) return `${node}: the kernel has what is desired`;
  const lines = operations.map(({ action, kind, key, desired, observed }) => {
    const is = observed === undefined ? '' : `  is ${JSON.stringify(observed)}`;
    const wanted = desired === undefined ? '' : `  wanted ${JSON.stringify(desired)}`;
    return `${SIGN[action]} ${action} ${kind} ${key}${is}${wanted}`;
  });
  return [`${node}: ${operations.length} differences`, ...lines].join('\n');
}
