// Names that say whose a thing in the kernel is: short enough for a link's alias or an nftables comment, readable where
// they fit, a digest where they do not. DEL finds by the whole name, GC by the network's part.
import { createHash } from 'node:crypto';
import type { Attachment } from '../runtime/plugin.ts';

/** What nftables keeps as a comment; link aliases could be twice as long. */
const MAX_OWNER = 127;
const MAX_NETWORK = 48;

export function digest(text: string, digits: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, digits);
}

/** `NETWORK:`, what all owners of one network begin with. */
export function ownerPrefix(network: string): string {
  return `${network.length <= MAX_NETWORK ? network : digest(network, 32)}:`;
}

/** `NETWORK:CONTAINER:IFNAME` */
export function ownerName(network: string, attachment: Attachment): string {
  const prefix = ownerPrefix(network);
  const text = `${prefix}${attachment.containerId}:${attachment.ifName}`;
  return text.length <= MAX_OWNER
    ? text
    : `${prefix}${digest(`${attachment.containerId}\n${attachment.ifName}`, 32)}`;
}

/** GC's question: is this owner of the network, and none of the attachments? */
export function orphanTest(network: string, valid: readonly Attachment[]): (owner: string) => boolean {
  const prefix = ownerPrefix(network);
  const keep = new Set(valid.map(one => ownerName(network, one)));
  return owner => owner.startsWith(prefix) && !keep.has(owner);
}
