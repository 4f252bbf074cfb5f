// The tap plugin: a tap device in the pod for a process (a virtual machine monitor) that opens it, optionally as a port of
// a bridge that is in the pod too. It dies with the pod's namespace.
import { CniError } from '../../../src/lib/errors.ts';
import type { Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { createTap } from '../../../src/linux/tap.ts';
import { attachmentResult } from '../../link/ipam-result.ts';
import { linkPlugin, type Sides } from '../../link/link-plugin.ts';
import { configurePodInterface, gone, preparePodInterface } from '../../link/pod-interface.ts';
import { requestedMac } from '../../link/requested-mac.ts';
import { ignoreMissing } from '../../link/veth.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
import type { Call } from '../../runtime/plugin.ts';
import { emptyResult } from '../../runtime/result.ts';

interface TapConfig {
  multiQueue: boolean;
  mtuBytes: number | undefined;
  mac: string | undefined;
  owner: number | undefined;
  group: number | undefined;
  bridge: string | undefined;
}

function readTapConfig(call: Call): TapConfig {
  const { config } = call;
  if (config.string('selinuxContext'))
    throw new CniError(CNI_ERROR.UNSUPPORTED_FIELD, 'tap: selinuxContext is not supported');
  return {
    multiQueue: config.boolean('multiQueue') ?? false,
    mtuBytes: config.integer('mtu', 0, 65535) || undefined,
    mac: requestedMac(call) ?? (config.string('mac') || undefined),
    owner: config.integer('owner'),
    group: config.integer('group'),
    bridge: config.string('bridge') || undefined,
  };
}

export const tap = linkPlugin<TapConfig, Link>({
  name: 'tap',
  read: readTapConfig,
  withoutIpam: emptyResult,
  create: makeTap,

  configure(call, _config, { pod, podNetns }, link, addresses) {
    const result = attachmentResult(call, link, addresses);
    preparePodInterface(podNetns, call.ifName, result);
    configurePodInterface(pod, call.ifName, result, { linkIndex: link.index });
    return result;
  },

  remove(call, { pod }) {
    if (pod !== undefined) removeTap(pod, call.ifName);
  },

  check(call, config, { pod }) {
    const link = pod.getLink(call.ifName);
    if (link?.kind !== 'tun') throw gone(`${call.ifName} is not a tap device`);
    if (config.bridge !== undefined && link.masterIndex !== pod.getLink(config.bridge)?.index)
      throw gone(`${call.ifName} is not a port of ${config.bridge}`);
  },
});

function makeTap(call: Call, config: TapConfig, { pod, podNetns }: Sides): Link {
  if (config.bridge !== undefined && pod.getLink(config.bridge)?.kind !== 'bridge')
    throw configError(`${config.bridge} in the container is not a bridge`);
  createTap(podNetns, call.ifName, {
    multiQueue: config.multiQueue,
    ...(config.owner === undefined ? {} : { owner: config.owner }),
    ...(config.group === undefined ? {} : { group: config.group }),
  });
  try {
    pod.setLink(call.ifName, {
      ...(config.mac === undefined ? {} : { mac: config.mac }),
      ...(config.mtuBytes === undefined ? {} : { mtuBytes: config.mtuBytes }),
      ...(config.bridge === undefined ? {} : { master: config.bridge }),
    });
    const link = pod.getLink(call.ifName);
    if (link === undefined) throw gone(`tap ${call.ifName} disappeared while it was being set up`);
    return link;
  } catch (error) {
    removeTap(pod, call.ifName);
    throw error;
  }
}

function removeTap(pod: Rtnetlink, name: string): void {
  const link = pod.getLink(name);
  if (link?.kind === 'tun') ignoreMissing(() => pod.delLink(link.index));
}
