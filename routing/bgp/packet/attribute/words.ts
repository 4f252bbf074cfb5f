// Lists of 32-bit numbers, the value of several attributes.

export function readWords(buffer: Buffer, start: number, end: number): number[] {
  const words = new Array<number>((end - start) >> 2);
  for (let i = 0, at = start; i < words.length; i++, at += 4)
    words[i] =
      ((buffer[at]! << 24) | (buffer[at + 1]! << 16) | (buffer[at + 2]! << 8) | buffer[at + 3]!) >>> 0;
  return words;
}

/** -1 for an absent or empty list: such an attribute is not written. */
export function writeWords(words: readonly number[] | undefined, out: Buffer, offset: number): number {
  if (words === undefined || words.length === 0) return -1;
  let at = offset;
  for (const word of words) at = out.writeUInt32BE(word, at);
  return at;
}
