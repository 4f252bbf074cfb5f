// Which place among a service port's endpoints each endpoint has: whoever stays keeps its place, so that one endpoint more
// or less changes one element, not all of them. Pure.

/** The wanted endpoints in their places: known ones where they were as far as the list still reaches. */
export function assignSlots(previous: readonly string[], wanted: readonly string[]): string[] {
  if (previous.length === 0) return [...wanted];
  const slots: (string | undefined)[] = new Array(wanted.length).fill(undefined);
  const left = new Set(wanted);
  for (let i = 0; i < previous.length && i < slots.length; i++) {
    const known = previous[i]!;
    if (left.delete(known)) slots[i] = known;
  }
  const rest = left.values();
  return slots.map(taken => taken ?? rest.next().value!);
}
