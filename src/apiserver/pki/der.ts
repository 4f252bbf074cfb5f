// Writing DER (ITU-T X.690): the handful of types an X.509 certificate is made of. Encoding only; node:crypto reads.
// Own code because it is a page long, and because a library for it takes longer to load than the server to start.

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** One tag-length-value. Definite lengths, shortest form. */
export function tlv(tag: number, ...content: Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length: number[] = [];
  for (let rest = body.length; rest > 0; rest >>>= 8) length.unshift(rest & 0xff);
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length, ...length]), body]);
}

export const sequence = (...items: Uint8Array[]): Buffer => tlv(TAG.sequence, ...items);
export const set = (...items: Uint8Array[]): Buffer => tlv(TAG.set, ...items);
export const octetString = (bytes: Uint8Array): Buffer => tlv(TAG.octetString, bytes);
export const utf8String = (text: string): Buffer => tlv(TAG.utf8String, Buffer.from(text, 'utf8'));
export const boolean = (value: boolean): Buffer => tlv(TAG.boolean, Buffer.from([value ? 0xff : 0]));

/** A non-negative integer from its big-endian bytes: a leading zero keeps the sign bit clear, others are dropped. */
export function integer(bytes: Uint8Array | number): Buffer {
  let value = typeof bytes === 'number' ? Buffer.from([bytes]) : Buffer.from(bytes);
  while (value.length > 1 && value[0] === 0) value = value.subarray(1);
  return tlv(TAG.integer, value[0]! & 0x80 ? Buffer.concat([Buffer.from([0]), value]) : value);
}

export function bitString(bytes: Uint8Array, unusedBits = 0): Buffer {
  return tlv(TAG.bitString, Buffer.from([unusedBits]), bytes);
}

/** `2.5.29.15` → the first two arcs in one byte, the others base 128. */
export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const digits = [arc & 0x7f];
    for (let more = Math.floor(arc / 128); more > 0; more = Math.floor(more / 128))
      digits.unshift((more & 0x7f) | 0x80);
    bytes.push(...digits);
  }
  return tlv(TAG.oid, Buffer.from(bytes));
}

/** RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime after; whole seconds, Z. */
export function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  if (date.getUTCFullYear() < 2050) return tlv(TAG.utcTime, Buffer.from(digits.slice(2), 'latin1'));
  return tlv(TAG.generalizedTime, Buffer.from(digits, 'latin1'));
}

/** `[n]` around other items (EXPLICIT). */
export const explicit = (n: number, ...items: Uint8Array[]): Buffer => tlv(0xa0 | n, ...items);
/** `[n]` in place of a primitive type's own tag (IMPLICIT). */
export const implicit = (n: number, bytes: Uint8Array): Buffer => tlv(0x80 | n, bytes);
