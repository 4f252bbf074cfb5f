// The macvlan plugin: a second address on a link of the host, born inside the pod. It dies with the pod's namespace, so
// nothing of it can be left on the host.
import type { MacvlanMode } from '../../../src/codec/netlink/link.ts';
import { CniError, hasCode } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { type Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { singleInterfaceResult } from '../../link/ipam-result.ts';
import {
  checkPodInterface,
  configurePodInterface,
  gone,
  preparePodInterface,
  setIfThere,
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

const MODES: readonly MacvlanMode[] = ['bridge', 'private', 'vepa', 'passthru'];

interface MacvlanConfig {
  master: string | undefined;
  mode: MacvlanMode;
  mtuBytes: number | undefined;
  mac: string | undefined;
  /** Of the queue of broadcast frames; 0 and absent leave the kernel's. */
  broadcastQueueLength: number | undefined;
  /** The master is a link of the pod. */
  linkInContainer: boolean;
}

function readMacvlanConfig(call: Call): MacvlanConfig {
  const { config } = call;
  const mode = config.string('mode') || 'bridge';
  if (!MODES.includes(mode as MacvlanMode))
    throw configError(`unknown macvlan mode: ${JSON.stringify(mode)}`);
  return {
    master: config.string('master') || undefined,
    mode: mode as MacvlanMode,
    mtuBytes: config.integer('mtu', 0, 65535) || undefined,
    mac: requestedMac(call) ?? (config.string('mac') || undefined),
    broadcastQueueLength: config.integer('bcqueuelen') || undefined,
    linkInContainer: config.boolean('linkInContainer') ?? false,
  };
}

export const macvlan: Plugin = {
  name: 'macvlan',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    const config = readMacvlanConfig(call);
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    using host = Rtnetlink.open(call.site.hostNetns);
    const master = findMaster(config.linkInContainer ? pod : host, config.master);
    if (config.mtuBytes !== undefined && config.mtuBytes > master.mtuBytes)
      throw configError(`invalid MTU ${config.mtuBytes}, must be [0, master MTU(${master.mtuBytes})]`);
    if (pod.getLink(call.ifName) !== undefined)
      throw new CniError(CNI_ERROR.INTERNAL, `interface ${call.ifName} already exists in the container`);
    const attach = async (ipam: Result) => attachPod(call, config, { pod, host, podNetns, master }, ipam);
    return await (ipamType(call) === undefined ? attach(emptyResult()) : withIpam(call, attach));
  },

  async del(call: Call): Promise<void> {
    using podNetns = podNetnsIfThere(call);
    if (podNetns !== undefined) {
      using pod = Rtnetlink.open(podNetns);
      const link = pod.getLink(call.ifName);
      if (link?.kind === 'macvlan') ignoreMissing(() => pod.delLink(link.index));
    }
    await ipamForward(call, 'DEL');
  },

  async check(call: Call): Promise<void> {
    const config = readMacvlanConfig(call);
    const result = requirePrevResult(call);
    await ipamForward(call, 'CHECK');
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    using host = Rtnetlink.open(call.site.hostNetns);
    checkPodInterface(call, pod, result);
    const link = pod.getLink(call.ifName);
    if (link?.kind !== 'macvlan') throw gone(`${call.ifName} is not a macvlan`);
    if (link.macvlan?.mode !== config.mode)
      throw gone(`${call.ifName} has macvlan mode ${link.macvlan?.mode}, not ${config.mode}`);
    const master = findMaster(config.linkInContainer ? pod : host, config.master);
    if (link.linkIndex !== master.index) throw gone(`${call.ifName} is not on ${master.name}`);
  },

  async status(call: Call): Promise<void> {
    const config = readMacvlanConfig(call);
    using host = Rtnetlink.open(call.site.hostNetns);
    try {
      if (!config.linkInContainer) findMaster(host, config.master);
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new CniError(CNI_ERROR.NOT_AVAILABLE, message, '', { cause });
    }
    await ipamForward(call, 'STATUS');
  },

  async gc(call: Call): Promise<void> {
    validAttachments(call.config);
    await ipamForward(call, 'GC');
  },
};

/** The named link, or that of the default route. */
function findMaster(net: Rtnetlink, name: string | undefined): Link {
  if (name !== undefined) {
    const link = net.getLink(name);
    if (link === undefined)
      throw configError(`failed to lookup master ${JSON.stringify(name)}: link not found`);
    return link;
  }
  const route = net
    .listRoutes({ family: 4 })
    .find(one => one.destination === '0.0.0.0/0' && one.linkIndex !== undefined);
  const link = route?.linkIndex === undefined ? undefined : net.getLink(route.linkIndex);
  if (link === undefined) throw configError('no default route interface found', 'set master');
  return link;
}

interface Sides {
  pod: Rtnetlink;
  host: Rtnetlink;
  podNetns: Netns;
  master: Link;
}

function attachPod(call: Call, config: MacvlanConfig, sides: Sides, ipam: Result): Result {
  const { pod, host, podNetns, master } = sides;
  const spec = {
    name: call.ifName,
    kind: 'macvlan',
    link: master.index,
    macvlan: {
      mode: config.mode,
      ...(config.broadcastQueueLength === undefined
        ? {}
        : { broadcastQueueLength: config.broadcastQueueLength }),
    },
    ...(config.mtuBytes === undefined ? {} : { mtuBytes: config.mtuBytes }),
    ...(config.mac === undefined ? {} : { mac: config.mac }),
  };
  try {
    if (config.linkInContainer) pod.addLink(spec);
    else host.addLink({ ...spec, netnsFd: podNetns.fd });
  } catch (cause) {
    if (!hasCode(cause, 'EBUSY')) throw cause;
    throw new CniError(
      CNI_ERROR.INTERNAL,
      `${master.name} is in use by something macvlan cannot share it with`,
      '',
      { cause },
    );
  }
  const link = pod.getLink(call.ifName);
  if (link === undefined) throw gone(`macvlan ${call.ifName} disappeared while it was being set up`);
  try {
    const result = singleInterfaceResult(call, link, ipam, ipamType(call) !== undefined);
    preparePodInterface(podNetns, call.ifName, result);
    setIfThere(podNetns, `net/ipv6/conf/${call.ifName}/ndisc_notify`, '1');
    configurePodInterface(pod, call.ifName, result);
    return result;
  } catch (error) {
    ignoreMissing(() => pod.delLink(link.index));
    throw error;
  }
}
