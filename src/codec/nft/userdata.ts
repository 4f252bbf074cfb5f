// Comments of rules and elements: libnftnl's user data, records of type, length and text with NUL. The kernel keeps them
// unread, which makes them the place to write whose something is.
import { NFTNL_UDATA_COMMENT } from './constants.ts';

/** The kernel takes 256 bytes in all, libnftnl 128 of text. */
export const MAX_COMMENT = 127;

export function encodeComment(comment: string): Buffer {
  const text = Buffer.from(`${comment.slice(0, MAX_COMMENT)}\0`);
  return Buffer.concat([Buffer.of(NFTNL_UDATA_COMMENT, text.length), text]);
}

/** The comment among the records; undefined when there is none. */
export function decodeComment(bytes: Buffer): string | undefined {
  for (let at = 0; at + 2 <= bytes.length; ) {
    const length = bytes[at + 1]!;
    const value = bytes.subarray(at + 2, at + 2 + length);
    if (bytes[at] === NFTNL_UDATA_COMMENT && value.length === length) {
      const end = value.indexOf(0);
      return value.toString('utf8', 0, end < 0 ? value.length : end);
    }
    at += 2 + length;
  }
  return undefined;
}
