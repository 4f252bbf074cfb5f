// The loopback plugin: brings `lo` of the pod up and reports the addresses the kernel then gives it. Whatever CNI_IFNAME
// says, the interface is `lo`, as in the reference.
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { gone } from '../../link/pod-interface.ts';
import { type Call, openPodNetns, type Plugin, podNetnsIfThere, prevResult } from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';

export const loopback: Plugin = {
  name: 'loopback',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    pod.setLink('lo', { up: true });
    const before = prevResult(call);
    if (before !== undefined) return before;
    const link = pod.getLink('lo');
    return {
      interfaces: [
        { name: 'lo', mac: '00:00:00:00:00:00', mtu: link?.mtuBytes ?? 65536, sandbox: call.netns },
      ],
      ips: pod
        .listAddresses({ link: 'lo' })
        .filter(one => one.address === '127.0.0.1/8' || one.address === '::1/128')
        .map(one => ({ interface: 0, address: one.address })),
      routes: [],
      dns: {},
    };
  },

  async del(call: Call): Promise<void> {
    using podNetns = podNetnsIfThere(call);
    if (podNetns === undefined) return;
    using pod = Rtnetlink.open(podNetns);
    pod.setLink('lo', { up: false });
  },

  async check(call: Call): Promise<void> {
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    if (pod.getLink('lo')?.up !== true) throw gone('loopback interface is down');
  },

  async status(): Promise<void> {},

  async gc(): Promise<void> {},
};
