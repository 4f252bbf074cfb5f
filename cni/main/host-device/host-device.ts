// The host-device plugin: moves a link of the host into the pod and back. Its name on the host is kept in its alias, as the
// reference does. When the pod's namespace dies the kernel itself returns physical devices.
import { hasCode } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import type { Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { attachmentResult } from '../../link/ipam-result.ts';
import { linkPlugin } from '../../link/link-plugin.ts';
import { configurePodInterface, gone, preparePodInterface } from '../../link/pod-interface.ts';
import { configError } from '../../runtime/errors.ts';
import type { Call } from '../../runtime/plugin.ts';
import { emptyResult } from '../../runtime/result.ts';
import { type DeviceChoice, findDevice, readDeviceChoice } from './find-device.ts';

export const hostDevice = linkPlugin<DeviceChoice, Link>({
  name: 'host-device',
  read: readDeviceChoice,
  withoutIpam: emptyResult,

  create(call, choice, { host, pod, podNetns }) {
    const device = findDevice(host, choice);
    if (device.name === 'lo') throw configError('the loopback interface cannot be moved');
    host.setLink(device.index, { up: false, alias: device.name });
    host.setLink(device.index, { netnsFd: podNetns.fd, name: call.ifName });
    const link = pod.getLink(call.ifName);
    if (link === undefined) throw gone(`${device.name} did not arrive in the container as ${call.ifName}`);
    return link;
  },

  configure(call, _choice, { pod, podNetns }, link, addresses) {
    const result = attachmentResult(call, link, addresses);
    if (result.ips.length > 0) preparePodInterface(podNetns, call.ifName, result);
    configurePodInterface(pod, call.ifName, result, { linkIndex: link.index });
    return result;
  },

  /** IPAM is told in every case: the reference forgets it when the namespace is gone. */
  remove(call, { pod }) {
    if (pod !== undefined) moveBack(call, pod, call.site.hostNetns);
  },

  check: () => {},
});

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
