// veth pairs between a host and a pod. The host end has a name that follows from the attachment and an alias that says
// whose it is, so that DEL and GC find it when the pod's namespace is gone and no record of the ADD is left.
import { CniError, hasCode } from '../../src/lib/errors.ts';
import { randomMac } from '../../src/lib/mac.ts';
import { removeLink } from '../../src/linux/link-removal.ts';
import type { Netns } from '../../src/linux/netns.ts';
import type { Link, Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { CNI_ERROR } from '../runtime/errors.ts';
import type { Attachment, Call } from '../runtime/plugin.ts';
import { digest, orphanTest, ownerName } from './owner.ts';
import { nameTaken } from './pod-interface.ts';

const NAME_ATTEMPTS = 8;

const ALIAS_PREFIX = 'podwire:cni:';

/** The alias of a link on the host that belongs to one attachment: `podwire:cni:NETWORK:CONTAINER:IFNAME`. */
export function attachmentAlias(network: string, attachment: Attachment): string {
  return `${ALIAS_PREFIX}${ownerName(network, attachment)}`;
}

/** `veth` and eight hexadecimal digits, as the reference's names look; another one for each attempt. */
export function hostVethName(call: Call, attempt = 0): string {
  return `veth${digest(`${call.networkName}\n${call.containerId}\n${call.ifName}\n${attempt}`, 8)}`;
}

export interface VethOptions {
  mac?: string;
  mtuBytes?: number;
  /** The bridge that the host end becomes a port of. */
  masterIndex?: number;
  port?: { hairpin?: boolean; isolated?: boolean };
  /** The caller brings the host end up when it has set it up further. */
  hostDown?: boolean;
}

export interface VethPair {
  host: Pick<Link, 'index' | 'name' | 'mac' | 'mtuBytes'>;
  pod: Link;
}

/** Makes both ends where they belong in one request, the host end up, the pod end down until it is configured. */
export function createVeth(
  call: Call,
  host: Rtnetlink,
  pod: Rtnetlink,
  podNetns: Netns,
  options: VethOptions,
): VethPair {
  const mac = randomMac();
  const name = addVethLink(call, host, pod, podNetns, mac, options);
  const podLink = pod.getLink(call.ifName);
  if (podLink?.linkIndex === undefined)
    throw new CniError(CNI_ERROR.INTERNAL, `veth ${name} disappeared while it was being set up`);
  // The pod's end tells the index of the host's, and both are born with one MTU.
  return { host: { index: podLink.linkIndex, name, mac, mtuBytes: podLink.mtuBytes }, pod: podLink };
}

function addVethLink(
  call: Call,
  host: Rtnetlink,
  pod: Rtnetlink,
  podNetns: Netns,
  mac: string,
  options: VethOptions,
): string {
  for (let attempt = 0; ; attempt++) {
    const name = hostVethName(call, attempt);
    try {
      host.addLink({
        name,
        kind: 'veth',
        mac,
        up: options.hostDown !== true,
        alias: attachmentAlias(call.networkName, call),
        ...(options.mtuBytes === undefined ? {} : { mtuBytes: options.mtuBytes }),
        ...(options.masterIndex === undefined ? {} : { master: options.masterIndex }),
        ...(options.port === undefined ? {} : { port: options.port }),
        peer: {
          name: call.ifName,
          netnsFd: podNetns.fd,
          mac: options.mac ?? randomMac(),
          ...(options.mtuBytes === undefined ? {} : { mtuBytes: options.mtuBytes }),
        },
      });
      return name;
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
      if (pod.getLink(call.ifName) !== undefined) throw nameTaken(call, error);
      const found = host.getLink(name);
      if (found === undefined || attempt + 1 === NAME_ATTEMPTS) throw error;
      const ours = found.alias === undefined || found.alias === attachmentAlias(call.networkName, call);
      if (ours && found.lowerUp) throw alreadyAttached(call, name, error);
      // Ours from an ADD that was killed: its pod end, in another namespace, never came up.
      if (ours) host.delLink(found.index);
    }
  }
}

/** A second ADD without a DEL, with another namespace, must not take the first one's link away. */
function alreadyAttached(call: Call, hostName: string, cause: unknown): CniError {
  return new CniError(
    CNI_ERROR.INTERNAL,
    `${call.ifName} of container ${call.containerId} already exists in another namespace`,
    `its link on the host is ${hostName}; DEL removes it`,
    { cause },
  );
}

/**
 * Removes an attachment's veth from whichever end is still reachable: the pod's interface when the namespace is there
 * (also when the reference plugin made it), else the host end by name and alias.
 */
export async function deleteVeth(
  call: Call,
  host: Rtnetlink,
  pod?: { net: Rtnetlink; netns: Netns },
): Promise<void> {
  const podLink = pod?.net.getLink(call.ifName);
  if (pod !== undefined && podLink?.kind === 'veth') {
    await deleteLink(pod.net, pod.netns, podLink);
    return;
  }
  const alias = attachmentAlias(call.networkName, call);
  for (let attempt = 0; attempt < NAME_ATTEMPTS; attempt++) {
    const link = host.getLink(hostVethName(call, attempt));
    if (link === undefined) return;
    // Without an alias it is from an ADD that was killed before it came to that.
    if (link.kind === 'veth' && (link.alias === undefined || link.alias === alias))
      await deleteLink(host, call.site.hostNetns, link);
  }
}

/** Deletes a link and waits until it cannot be seen any more; one that is gone is fine. */
export async function deleteLink(net: Rtnetlink, netns: Netns, link: Link): Promise<void> {
  try {
    await removeLink(netns, link.index, () => net.getLink(link.index) === undefined);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** GC: removes the network's links on the host that belong to none of the attachments. */
export function collectLinks(host: Rtnetlink, network: string, valid: readonly Attachment[]): void {
  const orphan = orphanTest(network, valid);
  for (const link of host.listLinks())
    if (link.alias?.startsWith(ALIAS_PREFIX) && orphan(link.alias.slice(ALIAS_PREFIX.length)))
      ignoreMissing(() => host.delLink(link.index));
}

export function ignoreMissing(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

function isMissing(error: unknown): boolean {
  return hasCode(error, 'ENODEV') || hasCode(error, 'ESRCH') || hasCode(error, 'ENOENT');
}
