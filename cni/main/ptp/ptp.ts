// The ptp plugin: a veth between host and pod, routed, no bridge. The pod reaches everything, its own subnet too, through
// the gateway address on the host's end; the host has one route to the pod.
import { formatCidr, requireCidr } from '../../../src/lib/cidr.ts';
import { hasCode } from '../../../src/lib/errors.ts';
import type { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { attachmentResult } from '../../link/ipam-result.ts';
import { linkPlugin } from '../../link/link-plugin.ts';
import {
  configurePodInterface,
  familyOf,
  gone,
  preparePodInterface,
  setIfThere,
} from '../../link/pod-interface.ts';
import { collectLinks, createVeth, deleteVeth, type VethPair } from '../../link/veth.ts';
import {
  addMasquerade,
  checkMasquerade,
  collectMasquerade,
  delMasquerade,
  readIpMasq,
} from '../../nft/masquerade.ts';
import { configError } from '../../runtime/errors.ts';
import type { Call } from '../../runtime/plugin.ts';
import type { ResultIp } from '../../runtime/result.ts';

interface PtpConfig {
  mtuBytes: number | undefined;
  ipMasq: boolean;
}

export const ptp = linkPlugin<PtpConfig, VethPair>({
  name: 'ptp',

  read: ({ config }) => ({
    mtuBytes: config.integer('mtu', 0, 65535) || undefined,
    ipMasq: readIpMasq(config),
  }),

  createRefusesExisting: true,
  create: (call, { mtuBytes }, { host, pod, podNetns }) =>
    createVeth(call, host, pod, podNetns, {
      hostDown: true,
      ...(mtuBytes === undefined ? {} : { mtuBytes }),
    }),

  async configure(call, config, { host, pod, podNetns }, pair, addresses) {
    for (const ip of addresses.ips)
      if (ip.gateway === undefined) throw configError(`ptp: IPAM gave ${ip.address} without a gateway`);
    const result = attachmentResult(call, pair.pod, addresses, [pair.host]);
    // The host's end first: without its carrier the pod's routes through it would be refused.
    configureHostEnd(call, host, pair, result.ips);
    preparePodInterface(podNetns, call.ifName, result);
    configurePodInterface(pod, call.ifName, result, { pointToPoint: true, linkIndex: pair.pod.index });
    if (config.ipMasq) await addMasquerade(call, result);
    return result;
  },

  async remove(call, { host, pod, podNetns }) {
    await deleteVeth(call, host, pod && podNetns && { net: pod, netns: podNetns });
    await delMasquerade(call);
  },

  async check(call, config, { host }, result) {
    for (const ip of result.ips)
      if (
        !host.listRoutes({ family: familyOf(ip.address) }).some(route => route.destination === hostRoute(ip))
      )
        throw gone(`the host has no route ${hostRoute(ip)}`);
    if (config.ipMasq) await checkMasquerade(call, result);
  },

  async collect(call, host, valid) {
    collectLinks(host, call.networkName, valid);
    await collectMasquerade(call, valid);
  },
});

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
