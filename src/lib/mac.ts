// Ethernet addresses: strict parsing, canonical text (lower case, colons), and addresses derived from a seed.
import { createHash, randomBytes } from 'node:crypto';
import { PodwireError } from './errors.ts';

export const ZERO_MAC = '00:00:00:00:00:00';
export const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';

/** `aa:bb:cc:dd:ee:ff` in either case, or with dashes; undefined when the text is none. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){4}$/i.test(text)) return undefined;
  return Uint8Array.from({ length: 6 }, (_, i) => Number.parseInt(text.slice(i * 3, i * 3 + 2), 16));
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
