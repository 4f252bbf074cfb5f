// UDP flows of a host port: the kernel keeps sending a flow's packets where its first packet went for as long as they
// come, so flows from before an ADD bypass the pod, and flows from before a DEL go to a pod that is gone.
import { Conntrack } from '../../../src/linux/conntrack.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { PROTOCOLS } from './config.ts';

export function flushUdpFlows(hostNetns: Netns, hostPorts: ReadonlySet<number>): void {
  if (hostPorts.size === 0) return;
  using conntrack = Conntrack.open(hostNetns);
  const flows = conntrack
    .list({ protocol: PROTOCOLS.udp })
    .filter(
      flow => flow.original.destinationPort !== undefined && hostPorts.has(flow.original.destinationPort),
    );
  if (flows.length > 0) conntrack.delete(flows);
}
