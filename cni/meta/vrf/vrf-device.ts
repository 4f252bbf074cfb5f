// A VRF in a pod's namespace: find or make it, take an interface in, let it go. Source: kernel
// Documentation/networking/vrf.rst. All of it dies with the namespace.
import { CniError } from '../../../src/lib/errors.ts';
import type { Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { addLinkOfKind } from '../../link/kernel-kind.ts';
import { gone } from '../../link/pod-interface.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';

/** RT_TABLE_DEFAULT, MAIN and LOCAL, linux/rtnetlink.h: not to be used up by a VRF. */
const RESERVED_TABLES: readonly number[] = [253, 254, 255];

export interface Vrf {
  index: number;
  table: number;
  /** It was not there before. */
  created: boolean;
}

/** Undefined when there is no link of that name; an error when it is something else. */
export function findVrf(pod: Rtnetlink, name: string): Vrf | undefined {
  const link = pod.getLink(name);
  if (link === undefined) return undefined;
  if (link.kind !== 'vrf') throw configError(`Netlink ${name} is not a VRF`, `it is of kind ${link.kind}`);
  return { index: link.index, table: link.vrfTable ?? 0, created: false };
}

/** Same as `ip link add NAME type vrf table TABLE; ip link set NAME up`, unless it is there. */
export function ensureVrf(pod: Rtnetlink, name: string, table: number | undefined): Vrf {
  const found = findVrf(pod, name);
  if (found !== undefined) {
    if (table !== undefined && found.table !== table)
      throw configError(`VRF ${name} already exist with different routing table ${found.table}`);
    return found;
  }
  const vrfTable = table ?? freeTable(pod.listLinks());
  addLinkOfKind(pod, { name, kind: 'vrf', vrfTable, up: true });
  const made = findVrf(pod, name);
  if (made === undefined) throw gone(`VRF ${name} disappeared while it was being set up`);
  return { ...made, created: true };
}

function freeTable(links: readonly Link[]): number {
  const taken = new Set([...links.map(link => link.vrfTable), ...RESERVED_TABLES]);
  let table = 1;
  while (taken.has(table)) table++;
  return table;
}

/**
 * Same as `ip link set INTERFACE master VRF`. The kernel takes the interface down and up on the way: it forgets IPv6
 * addresses (unless keep_addr_on_down is set), which are given back here, and routes through it.
 */
export function enslave(pod: Rtnetlink, vrf: Vrf, name: string): void {
  const link = pod.getLink(name);
  if (link === undefined) throw new CniError(CNI_ERROR.INTERNAL, `could not get link by name ${name}`);
  if (link.masterIndex !== undefined) {
    const master = pod.getLink(link.masterIndex)?.name ?? link.masterIndex;
    throw configError(`interface ${name} has already a master set: ${master}`);
  }
  const before = pod.listAddresses({ link: link.index, family: 6 });
  pod.setLink(link.index, { master: vrf.index });
  const after = new Set(pod.listAddresses({ link: link.index, family: 6 }).map(one => one.address));
  for (const { address } of before)
    if (!after.has(address)) pod.addAddress({ link: link.index, address, noDad: true, replace: true });
}

/** Lets the interface go, and removes the VRF when it was the last one. */
export function release(pod: Rtnetlink, vrf: Vrf, name: string): void {
  const members = pod.listLinks().filter(link => link.masterIndex === vrf.index);
  const member = members.find(link => link.name === name);
  if (member !== undefined) pod.setLink(member.index, { master: 0 });
  if (members.every(link => link === member)) pod.delLink(vrf.index);
}
