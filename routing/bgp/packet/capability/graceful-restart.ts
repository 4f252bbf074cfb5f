// The Graceful Restart capability, RFC 4724 section 3, with the N bit of RFC 8538 section 2.
//
//   +--------------------------------------------------+
//   | R | N | Res. (2 bits) | Restart Time (12 bits)   |
//   +--------------------------------------------------+
//   | AFI (16 bits) | SAFI (8 bits) | F and reserved   |   repeated
//   +--------------------------------------------------+
import { type Family, familyOfAfi } from '../context.ts';

const R_BIT = 0x80;
const N_BIT = 0x40;
const F_BIT = 0x80;
const MAX_RESTART_SECONDS = 4095;

export interface GracefulRestart {
  /** R: the sender has just restarted and waits for no one's End-of-RIB. */
  readonly restarting: boolean;
  /** N: a NOTIFICATION and a hold timer expiry keep the forwarding state too (RFC 8538). */
  readonly notification: boolean;
  readonly restartSeconds: number;
  readonly families: readonly { readonly family: Family; readonly forwarding: boolean }[];
}

/** Undefined when the value is no capability at all; RFC 4724 has no error for it, so it counts as absent. */
export function decodeGracefulRestart(value: Buffer): GracefulRestart | undefined {
  if (value.length < 2 || (value.length - 2) % 4 !== 0) return undefined;
  const families: { family: Family; forwarding: boolean }[] = [];
  for (let at = 2; at < value.length; at += 4) {
    const family = familyOfAfi(value.readUInt16BE(at), value[at + 2]!);
    if (family !== undefined) families.push({ family, forwarding: (value[at + 3]! & F_BIT) !== 0 });
  }
  return {
    restarting: (value[0]! & R_BIT) !== 0,
    notification: (value[0]! & N_BIT) !== 0,
    restartSeconds: value.readUInt16BE(0) & 0x0fff,
    families,
  };
}

export function encodeGracefulRestart(restart: GracefulRestart): Buffer {
  const value = Buffer.alloc(2 + restart.families.length * 4);
  value.writeUInt16BE(Math.min(restart.restartSeconds, MAX_RESTART_SECONDS), 0);
  if (restart.restarting) value[0]! |= R_BIT;
  if (restart.notification) value[0]! |= N_BIT;
  restart.families.forEach(({ family, forwarding }, i) => {
    value.writeUInt16BE(family === 4 ? 1 : 2, 2 + i * 4);
    value[4 + i * 4] = 1;
    value[5 + i * 4] = forwarding ? F_BIT : 0;
  });
  return value;
}
