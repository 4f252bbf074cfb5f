// UDP flows of a host port: the kernel keeps sending a flow's packets where its first packet went for as long as they
// come, so flows from before an ADD bypass the pod, and flows from before a DEL go to a pod that is gone.
import { hasCode } from '../../../src/lib/errors.ts';
import { Conntrack } from '../../../src/linux/conntrack.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { readSysctl } from '../../../src/linux/sysctl.ts';
import { PROTOCOLS } from './config.ts';

export interface HostPort {
  family: 4 | 6;
  port: number;
}

/** A look through the whole table costs the kernel some 15 ms a family, so only what can hold such flows is looked at. */
export function flushUdpFlows(hostNetns: Netns, ports: readonly HostPort[]): void {
  if (ports.length === 0 || countFlows(hostNetns) === 0) return;
  using conntrack = Conntrack.open(hostNetns);
  for (const family of new Set(ports.map(one => one.family))) {
    const wanted = new Set(ports.filter(one => one.family === family).map(one => one.port));
    const flows = conntrack
      .list({ family, protocol: PROTOCOLS.udp })
      .filter(
        ({ original }) => original.destinationPort !== undefined && wanted.has(original.destinationPort),
      );
    if (flows.length > 0) conntrack.delete(flows);
  }
}

/** Of both families and all protocols; none either where the kernel has no conntrack yet. */
function countFlows(hostNetns: Netns): number {
  try {
    return Number(readSysctl(hostNetns, 'net/netfilter/nf_conntrack_count'));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return 0;
    throw error;
  }
}
