// Ethernet addresses: strict parsing, canonical text (lower case, colons), and addresses derived from a seed.
import { createHash, randomBytes } from 'node:crypto';
import { PodwireError } from './errors.ts';

export const ZERO_MAC = '00:00:00:00:00:00';
export const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';

const COLON = 58;
const DASH = 45;

/** `aa:bb:cc:dd:ee:ff` in either case, or with dashes; undefined when the text is none. */
export function parseMac(text: string): Uint8Array | undefined {
  if (text.length !== 17) return undefined;
  const separator = text.charCodeAt(2);
  if (separator !== COLON && separator !== DASH) return undefined;
  const bytes = new Uint8Array(6);
  for (let i = 0; i < 6; i++) {
    const high = hexDigit(text.charCodeAt(i * 3));
    const low = hexDigit(text.charCodeAt(i * 3 + 1));
    if (high < 0 || low < 0 || (i > 0 && text.charCodeAt(i * 3 - 1) !== separator)) return undefined;
    bytes[i] = high * 16 + low;
  }
  return bytes;
}

function hexDigit(c: number): number {
  if (c >= 48 && c <= 57) return c - 48;
  if (c >= 97 && c <= 102) return c - 87;
  if (c >= 65 && c <= 70) return c - 55;
  return -1;
}

/** Like parseMac, but throws; `what` names the field in the message. */
export function requireMac(text: string, what = 'MAC address'): Uint8Array {
  const bytes = parseMac(text);
  if (bytes === undefined)
    throw new PodwireError('INVALID_MAC', `${what} ${JSON.stringify(text)} is not six hexadecimal bytes`);
  return bytes;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function formatMac(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i++) text += i === 0 ? HEX[bytes[i]!] : `:${HEX[bytes[i]!]}`;
  return text;
}

/** The one spelling of a MAC; undefined when the text is none. */
export function canonicalMac(text: string): string | undefined {
  const bytes = parseMac(text);
  return bytes === undefined ? undefined : formatMac(bytes);
}

/** Sets "locally administered", clears "multicast" (IEEE 802, first octet). */
function localUnicast(bytes: Uint8Array): Uint8Array {
  bytes[0] = (bytes[0]! & 0xfc) | 0x02;
  return bytes;
}

/** A random unicast, locally administered address. */
export function randomMac(): string {
  return formatMac(localUnicast(Uint8Array.from(randomBytes(6))));
}

/** The same unicast, locally administered address for the same seed, so that a device keeps it over a restart. */
export function macFromSeed(seed: string): string {
  return formatMac(localUnicast(Uint8Array.from(createHash('sha256').update(seed).digest().subarray(0, 6))));
}
