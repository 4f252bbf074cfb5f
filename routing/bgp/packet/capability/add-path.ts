// The ADD-PATH capability, RFC 7911 section 4.
//
//   +------------------------------------------------+
//   | Address Family Identifier (2 octets)           |
//   | Subsequent Address Family Identifier (1 octet) |
//   | Send/Receive (1 octet): 1 receive 2 send 3 both|
//   +------------------------------------------------+   repeated
import { type Family, familyOfAfi } from '../context.ts';

const RECEIVE = 1;
const SEND = 2;

export interface AddPathFamily {
  readonly family: Family;
  readonly send: boolean;
  readonly receive: boolean;
}

/** Entries with another Send/Receive value than 1..3 are ignored, as section 4 says. */
export function decodeAddPath(value: Buffer): AddPathFamily[] {
  const families: AddPathFamily[] = [];
  for (let at = 0; at + 4 <= value.length; at += 4) {
    const family = familyOfAfi(value.readUInt16BE(at), value[at + 2]!);
    const mode = value[at + 3]!;
    if (family !== undefined && mode >= RECEIVE && mode <= 3)
      families.push({ family, send: (mode & SEND) !== 0, receive: (mode & RECEIVE) !== 0 });
  }
  return families;
}

export function encodeAddPath(families: readonly AddPathFamily[]): Buffer {
  return Buffer.concat(
    families
      .filter(entry => entry.send || entry.receive)
      .map(({ family, send, receive }) =>
        Uint8Array.of(0, family === 4 ? 1 : 2, 1, (send ? SEND : 0) | (receive ? RECEIVE : 0)),
      ),
  );
}
