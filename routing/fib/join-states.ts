// Several fragments of one room as one: lists of a kind one after the other. Pure; who owns which object is the callers'.
import type { KernelState } from '../../src/kernel/state.ts';

export function joinStates(fragments: readonly KernelState[]): KernelState {
  const joined: Record<string, unknown[]> = {};
  for (const fragment of fragments)
    for (const [kind, list] of Object.entries(fragment))
      if (list !== undefined) joined[kind] = joined[kind] === undefined ? list : [...joined[kind], ...list];
  return joined;
}
