// Names of a pod's chains in iptables and the comments of the rules that lead there, as the reference's plugins make them
// (pkg/utils/utils.go): a node can be switched over, in either direction, while pods run.
import { createHash } from 'node:crypto';
import type { Attachment } from '../runtime/plugin.ts';

const MAX_CHAIN_LENGTH = 28;
const MAX_COMMENT = 255;

export const HOSTPORT_CHAIN = 'CNI-HOSTPORT-DNAT';
export const SET_MARK_CHAIN = 'CNI-HOSTPORT-SETMARK';
export const MASQUERADE_MARK_CHAIN = 'CNI-HOSTPORT-MASQ';

export function sha512Hex(text: string): string {
  return createHash('sha512').update(text).digest('hex');
}

function podChain(prefix: string, network: string, containerId: string): string {
  return `${prefix}${sha512Hex(`${network}${containerId}`)}`.slice(0, MAX_CHAIN_LENGTH);
}

/** Of ipMasq, entered from POSTROUTING. */
export function masqueradeChainName(network: string, containerId: string): string {
  return podChain('CNI-', network, containerId);
}

/** Of host ports, entered from HOSTPORT_CHAIN. */
export function hostPortChainName(network: string, containerId: string): string {
  return podChain('CNI-DN-', network, containerId);
}

/** Names have no quotes or backslashes, so they stand as they are. */
function commentPrefix(network: string): string {
  return `name: "${network}" id: "`;
}

export function masqueradeComment(network: string, containerId: string): string {
  return trimComment(`${commentPrefix(network)}${containerId}"`);
}

export function hostPortComment(network: string, containerId: string): string {
  return trimComment(`dnat ${commentPrefix(network)}${containerId}"`);
}

function trimComment(text: string): string {
  return text.length <= MAX_COMMENT ? text : `${text.slice(0, MAX_COMMENT - 3)}...`;
}

/**
 * GC's question about a rule that leads to a pod's chain: is it of the network, and of none of the attachments? The chains
 * are per container, as in the reference, whatever its interfaces are called.
 */
export function orphanChainTest(
  network: string,
  valid: readonly Attachment[],
  chainName: (network: string, containerId: string) => string,
): (rule: { target: string | undefined; comment: string | undefined }) => boolean {
  const keep = new Set(valid.map(one => chainName(network, one.containerId)));
  const prefix = commentPrefix(network);
  return ({ target, comment }) =>
    target !== undefined &&
    comment !== undefined &&
    /^CNI-(DN-)?[0-9a-f]+$/.test(target) &&
    !keep.has(target) &&
    (comment.startsWith(prefix) || comment.startsWith(`dnat ${prefix}`));
}
