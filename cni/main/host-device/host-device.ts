// The host-device plugin: moves a link of the host into the pod and back. Its name on the host is kept in its alias, as the
// reference does. When the pod's namespace dies the kernel itself returns physical devices.
import { hasCode } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { singleInterfaceResult } from '../../link/ipam-result.ts';
import {
  checkPodInterface,
  configurePodInterface,
  gone,
  preparePodInterface,
} from '../../link/pod-interface.ts';
import { ipamForward, ipamType, withIpam } from '../../runtime/delegate.ts';
import { configError } from '../../runtime/errors.ts';
import {
  type Call,
  openPodNetns,
  type Plugin,
  podNetnsIfThere,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import { emptyResult, type Result } from '../../runtime/result.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';
import { findDevice, readDeviceChoice } from './find-device.ts';

export const hostDevice: Plugin = {
  name: 'host-device',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    const choice = readDeviceChoice(call);
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    using host = Rtnetlink.open(call.site.hostNetns);
    const device = findDevice(host, choice);
    if (device.name === 'lo') throw configError('the loopback interface cannot be moved');
    if (pod.getLink(call.ifName) !== undefined)
      throw configError(`${call.ifName} already exists in the container`);
    host.setLink(device.index, { up: false, alias: device.name });
    host.setLink(device.index, { netnsFd: podNetns.fd, name: call.ifName });
    const attach = async (ipam: Result): Promise<Result> => {
      const link = pod.getLink(call.ifName);
      if (link === undefined) throw gone(`${device.name} did not arrive in the container as ${call.ifName}`);
      const result = singleInterfaceResult(call, link, ipam, ipamType(call) !== undefined);
      if (ipamType(call) !== undefined) preparePodInterface(podNetns, call.ifName, result);
      configurePodInterface(pod, call.ifName, result);
      return result;
    };
    try {
      return await (ipamType(call) === undefined ? attach(emptyResult()) : withIpam(call, attach));
    } catch (error) {
      moveBack(call, pod, call.site.hostNetns);
      throw error;
    }
  },

  /** IPAM is told in every case: the reference forgets it when the namespace is gone. */
  async del(call: Call): Promise<void> {
    using podNetns = podNetnsIfThere(call);
    if (podNetns !== undefined) {
      using pod = Rtnetlink.open(podNetns);
      moveBack(call, pod, call.site.hostNetns);
    }
    await ipamForward(call, 'DEL');
  },

  async check(call: Call): Promise<void> {
    readDeviceChoice(call);
    const result = requirePrevResult(call);
    await ipamForward(call, 'CHECK');
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    checkPodInterface(call, pod, result);
  },

  async status(call: Call): Promise<void> {
    readDeviceChoice(call);
    await ipamForward(call, 'STATUS');
  },

  async gc(call: Call): Promise<void> {
    validAttachments(call.config);
    await ipamForward(call, 'GC');
  },
};

function moveBack(call: Call, pod: Rtnetlink, hostNetns: Netns): void {
  const link = pod.getLink(call.ifName);
  if (link === undefined) return;
  const name = link.alias || call.ifName;
  pod.setLink(link.index, { up: false });
  try {
    pod.setLink(link.index, { netnsFd: hostNetns.fd, name });
  } catch (error) {
    // The old name is taken on the host by now: better home under the pod's name than lost with the pod.
    if (!hasCode(error, 'EEXIST')) throw error;
    pod.setLink(link.index, { netnsFd: hostNetns.fd });
  }
}
