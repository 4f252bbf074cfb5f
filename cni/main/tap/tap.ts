// The tap plugin: a tap device in the pod for a process (a virtual machine monitor) that opens it, optionally as a port of
// a bridge that is in the pod too. It dies with the pod's namespace.
import { CniError } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { createTap } from '../../../src/linux/tap.ts';
import { singleInterfaceResult } from '../../link/ipam-result.ts';
import {
  checkPodInterface,
  configurePodInterface,
  gone,
  preparePodInterface,
} from '../../link/pod-interface.ts';
import { requestedMac } from '../../link/requested-mac.ts';
import { ignoreMissing } from '../../link/veth.ts';
import { ipamForward, ipamType, withIpam } from '../../runtime/delegate.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
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

export const tap: Plugin = {
  name: 'tap',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    const config = readTapConfig(call);
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    if (pod.getLink(call.ifName) !== undefined)
      throw configError(`${call.ifName} already exists in the container`);
    const attach = async (ipam: Result) => attachPod(call, config, pod, podNetns, ipam);
    return await (ipamType(call) === undefined ? attach(emptyResult()) : withIpam(call, attach));
  },

  async del(call: Call): Promise<void> {
    using podNetns = podNetnsIfThere(call);
    if (podNetns !== undefined) {
      using pod = Rtnetlink.open(podNetns);
      const link = pod.getLink(call.ifName);
      if (link?.kind === 'tun') ignoreMissing(() => pod.delLink(link.index));
    }
    await ipamForward(call, 'DEL');
  },

  async check(call: Call): Promise<void> {
    const config = readTapConfig(call);
    const result = requirePrevResult(call);
    await ipamForward(call, 'CHECK');
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    checkPodInterface(call, pod, result);
    const link = pod.getLink(call.ifName);
    if (link?.kind !== 'tun') throw gone(`${call.ifName} is not a tap device`);
    if (config.bridge !== undefined && link.masterIndex !== pod.getLink(config.bridge)?.index)
      throw gone(`${call.ifName} is not a port of ${config.bridge}`);
  },

  async status(call: Call): Promise<void> {
    readTapConfig(call);
    await ipamForward(call, 'STATUS');
  },

  async gc(call: Call): Promise<void> {
    validAttachments(call.config);
    await ipamForward(call, 'GC');
  },
};

function attachPod(call: Call, config: TapConfig, pod: Rtnetlink, podNetns: Netns, ipam: Result): Result {
  createTap(podNetns, call.ifName, {
    multiQueue: config.multiQueue,
    ...(config.owner === undefined ? {} : { owner: config.owner }),
    ...(config.group === undefined ? {} : { group: config.group }),
  });
  try {
    if (config.bridge !== undefined && pod.getLink(config.bridge)?.kind !== 'bridge')
      throw configError(`${config.bridge} in the container is not a bridge`);
    pod.setLink(call.ifName, {
      ...(config.mac === undefined ? {} : { mac: config.mac }),
      ...(config.mtuBytes === undefined ? {} : { mtuBytes: config.mtuBytes }),
      ...(config.bridge === undefined ? {} : { master: config.bridge }),
    });
    const link = pod.getLink(call.ifName);
    if (link === undefined) throw gone(`tap ${call.ifName} disappeared while it was being set up`);
    const result = singleInterfaceResult(call, link, ipam, ipamType(call) !== undefined);
    preparePodInterface(podNetns, call.ifName, result);
    configurePodInterface(pod, call.ifName, result);
    return result;
  } catch (error) {
    ignoreMissing(() => pod.delLink(call.ifName));
    throw error;
  }
}
