// The ptp plugin: a veth between host and pod, routed, no bridge. The pod reaches everything, its own subnet too, through
// the gateway address on the host's end; the host has one route to the pod.
import { formatCidr, requireCidr } from '../../../src/lib/cidr.ts';
import { CniError, hasCode } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import {
  checkPodInterface,
  configurePodInterface,
  familyOf,
  gone,
  preparePodInterface,
  setIfThere,
} from '../../link/pod-interface.ts';
import { collectLinks, createVeth, deleteVeth, refuseExisting, type VethPair } from '../../link/veth.ts';
import {
  addMasquerade,
  checkMasquerade,
  collectMasquerade,
  delMasquerade,
  readIpMasq,
} from '../../nft/masquerade.ts';
import { ipamForward, withIpam } from '../../runtime/delegate.ts';
import { CNI_ERROR, configError, joinErrors } from '../../runtime/errors.ts';
import {
  type Call,
  openPodNetns,
  type Plugin,
  podNetnsIfThere,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import { isEmptyDns, type Result, type ResultDns, type ResultIp } from '../../runtime/result.ts';
import { decodeDns } from '../../runtime/result-versions.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';

interface PtpConfig {
  mtuBytes: number | undefined;
  ipMasq: boolean;
  dns: ResultDns;
}

function readPtpConfig(call: Call): PtpConfig {
  return {
    mtuBytes: call.config.integer('mtu', 0, 65535) || undefined,
    ipMasq: readIpMasq(call.config),
    dns: decodeDns(call.config.fields('dns')),
  };
}

export const ptp: Plugin = {
  name: 'ptp',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    const config = readPtpConfig(call);
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    using host = Rtnetlink.open(call.site.hostNetns);
    refuseExisting(call, pod);
    return await withIpam(call, async ipam => attachPod(call, config, { host, pod, podNetns }, ipam));
  },

  async del(call: Call): Promise<void> {
    using podNetns = podNetnsIfThere(call);
    using pod = podNetns === undefined ? undefined : Rtnetlink.open(podNetns);
    using host = Rtnetlink.open(call.site.hostNetns);
    await deleteVeth(call, host, pod && podNetns && { net: pod, netns: podNetns });
    await delMasquerade(call);
    await ipamForward(call, 'DEL');
  },

  async check(call: Call): Promise<void> {
    const config = readPtpConfig(call);
    const result = requirePrevResult(call);
    await ipamForward(call, 'CHECK');
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    using host = Rtnetlink.open(call.site.hostNetns);
    checkPodInterface(call, pod, result);
    for (const ip of result.ips)
      if (
        !host.listRoutes({ family: familyOf(ip.address) }).some(route => route.destination === hostRoute(ip))
      )
        throw gone(`the host has no route ${hostRoute(ip)}`);
    if (config.ipMasq) checkMasquerade(call, result);
  },

  async status(call: Call): Promise<void> {
    readPtpConfig(call);
    await ipamForward(call, 'STATUS');
  },

  async gc(call: Call): Promise<void> {
    const valid = validAttachments(call.config);
    const failures: unknown[] = [];
    using host = Rtnetlink.open(call.site.hostNetns);
    try {
      collectLinks(host, call.networkName, valid);
      collectMasquerade(call, valid);
    } catch (error) {
      failures.push(error);
    }
    await ipamForward(call, 'GC').catch(error => failures.push(error));
    if (failures.length > 0) throw joinErrors('ptp GC', failures);
  },
};

interface Sides {
  host: Rtnetlink;
  pod: Rtnetlink;
  podNetns: Netns;
}

async function attachPod(call: Call, config: PtpConfig, sides: Sides, ipam: Result): Promise<Result> {
  const { host, pod, podNetns } = sides;
  if (ipam.ips.length === 0) throw new CniError(CNI_ERROR.INTERNAL, 'IPAM plugin returned missing IP config');
  for (const ip of ipam.ips)
    if (ip.gateway === undefined) throw configError(`ptp: IPAM gave ${ip.address} without a gateway`);
  const pair = createVeth(call, host, pod, podNetns, {
    hostDown: true,
    ...(config.mtuBytes === undefined ? {} : { mtuBytes: config.mtuBytes }),
  });
  try {
    const result: Result = {
      interfaces: [
        { name: pair.host.name, mac: pair.host.mac, mtu: pair.host.mtuBytes },
        { name: pair.pod.name, mac: pair.pod.mac, mtu: pair.pod.mtuBytes, sandbox: call.netns },
      ],
      ips: ipam.ips.map(ip => ({ ...ip, interface: 1 })),
      routes: [...ipam.routes],
      dns: isEmptyDns(config.dns) ? ipam.dns : config.dns,
    };
    // The host's end first: without its carrier the pod's routes through it would be refused.
    configureHostEnd(call, host, pair, result.ips);
    preparePodInterface(podNetns, call.ifName, result);
    configurePodInterface(pod, call.ifName, result, { pointToPoint: true, linkIndex: pair.pod.index });
    if (config.ipMasq) addMasquerade(call, result);
    return result;
  } catch (error) {
    await deleteVeth(call, host, { net: pod, netns: podNetns });
    await delMasquerade(call);
    throw error;
  }
}

function configureHostEnd(call: Call, host: Rtnetlink, pair: VethPair, ips: readonly ResultIp[]): void {
  const { hostNetns } = call.site;
  setIfThere(hostNetns, `net/ipv6/conf/${pair.host.name}/accept_dad`, '0');
  host.setLink(pair.host.index, { up: true });
  for (const ip of ips) {
    const family = familyOf(ip.address);
    const bits = family === 4 ? 32 : 128;
    try {
      host.addAddress({ link: pair.host.index, address: `${ip.gateway}/${bits}`, noDad: true });
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    host.addRoute({
      destination: hostRoute(ip),
      link: pair.host.index,
      ...(family === 4 ? { scope: 'host' } : {}),
    });
    setIfThere(hostNetns, family === 4 ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding', '1');
  }
}

/** The pod alone: `10.1.0.5/32`. */
function hostRoute(ip: ResultIp): string {
  const bits = familyOf(ip.address) === 4 ? 32 : 128;
  return formatCidr(requireCidr(`${ip.address.split('/')[0]}/${bits}`));
}
