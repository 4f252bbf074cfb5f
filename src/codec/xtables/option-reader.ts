// The words of a rule's text, and what every extension reads from them: numbers, ports, masks. Anything that is not
// plainly right is refused as unsupported: iptables itself is then asked, and knows what to say about it.
import { PodwireError } from '../../lib/errors.ts';
import { parseIp } from '../../lib/ip.ts';
import type { XtablesFamily } from './layout.ts';

/** What this codec cannot write, though iptables might: the caller turns to the program. */
export class UnsupportedRule extends PodwireError {
  constructor(message: string) {
    super('XTABLES_UNSUPPORTED', message);
  }
}

export function unsupported(message: string): never {
  throw new UnsupportedRule(message);
}

/** Splits as iptables-restore does: blanks separate, a closing quote too; backslashes escape inside quotes only. */
export function splitWords(text: string): string[] {
  if (!text.includes('"')) return text.split(' ').filter(word => word !== '');
  const words: string[] = [];
  let word = '';
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (quoted) {
      if (c === '\\') word += text[++i] ?? '';
      else if (c === '"') {
        quoted = false;
        words.push(word);
        word = '';
      } else word += c;
    } else if (c === '"') quoted = true;
    else if (c === ' ' || c === '\t') {
      if (word !== '') words.push(word);
      word = '';
    } else word += c;
  }
  if (quoted) unsupported(`an open quote in ${text}`);
  if (word !== '') words.push(word);
  return words;
}

/** A cursor over words. */
export class OptionReader {
  readonly #words: readonly string[];
  index = 0;

  constructor(words: readonly string[]) {
    this.#words = words;
  }

  get done(): boolean {
    return this.index >= this.#words.length;
  }

  peek(ahead = 0): string | undefined {
    return this.#words[this.index + ahead];
  }

  next(): string {
    const word = this.#words[this.index++];
    return word ?? unsupported('a value is missing at the end');
  }

  u32(): number {
    return parseNumber(this.next(), 0xffffffff);
  }
}

/** Decimal or, with 0x, hexadecimal. */
export function parseNumber(text: string, max: number): number {
  const value = /^(?:0|[1-9]\d{0,9}|0x[0-9a-fA-F]{1,8})$/.test(text) ? Number(text) : Number.NaN;
  return value <= max ? value : unsupported(`${text} as a number up to ${max}`);
}

export function parsePort(text: string): number {
  return parseNumber(text, 0xffff);
}

/** `80`, `80:90`, `:90`, `80:`. */
export function parsePortRange(text: string): [low: number, high: number] {
  const colon = text.indexOf(':');
  if (colon < 0) {
    const port = parsePort(text);
    return [port, port];
  }
  const low = colon === 0 ? 0 : parsePort(text.slice(0, colon));
  const high = colon === text.length - 1 ? 0xffff : parsePort(text.slice(colon + 1));
  return low <= high ? [low, high] : unsupported(`the range ${text}`);
}

/** `0x4000` or `0x4000/0x4000`; the mask is everything unless told. */
export function parseMark(text: string): [mark: number, mask: number] {
  const slash = text.indexOf('/');
  if (slash < 0) return [parseNumber(text, 0xffffffff), 0xffffffff];
  return [parseNumber(text.slice(0, slash), 0xffffffff), parseNumber(text.slice(slash + 1), 0xffffffff)];
}

export function parseAddress(text: string, family: XtablesFamily): Uint8Array {
  const bytes = parseIp(text);
  return bytes?.length === (family === 4 ? 4 : 16)
    ? bytes
    : unsupported(`${text} as an IPv${family} address`);
}

/** Writes an address and its mask, the address masked; a bare address has the full mask. */
export function writeNetwork(
  bytes: Buffer,
  text: string,
  family: XtablesFamily,
  address: number,
  mask: number,
): void {
  const slash = text.indexOf('/');
  const size = family === 4 ? 4 : 16;
  const ip = parseAddress(slash < 0 ? text : text.slice(0, slash), family);
  const after = slash < 0 ? String(size * 8) : text.slice(slash + 1);
  const dotted = after.includes('.') || after.includes(':');
  const given = dotted ? parseAddress(after, family) : undefined;
  let left = dotted ? 0 : parseNumber(after, size * 8);
  for (let i = 0; i < size; i++, left -= 8) {
    const part =
      given === undefined ? (left >= 8 ? 0xff : left <= 0 ? 0 : (0xff << (8 - left)) & 0xff) : given[i]!;
    bytes[mask + i] = part;
    bytes[address + i] = ip[i]! & part;
  }
}

/** `NEW,ESTABLISHED` as the sum of the values of its words. */
export function parseFlags(text: string, values: Readonly<Record<string, number>>): number {
  let sum = 0;
  for (const word of text.split(',')) {
    const value = Object.hasOwn(values, word) ? values[word]! : unsupported(`the word ${word}`);
    sum |= value;
  }
  return sum;
}

/** An interface's name into `name`, and 0xff for each byte that is compared into `mask`. */
export function writeInterface(bytes: Buffer, text: string, name: number, mask: number): void {
  const length = Buffer.byteLength(text);
  if (length === 0 || length > 15 || /[\s/!]/.test(text)) unsupported(`${text} as an interface`);
  bytes.write(text, name);
  if (text.endsWith('+')) bytes.fill(0xff, mask, mask + length - 1);
  else bytes.fill(0xff, mask, mask + length + 1);
}
