// The bridge plugin: a bridge on the host, a veth into each pod, the bridge as gateway when asked. All by netlink.
// After IPAM: pod's addresses and routes, gateway, masquerading, then the wait until the port forwards.
import { setTimeout as pause } from 'node:timers/promises';
import { CniError } from '../../../src/lib/errors.ts';
import type { Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { attachmentResult } from '../../link/ipam-result.ts';
import { linkPlugin, type Sides } from '../../link/link-plugin.ts';
import { orphanTest, ownerName } from '../../link/owner.ts';
import {
  configurePodInterface,
  gone,
  preparePodInterface,
  requireInterface,
} from '../../link/pod-interface.ts';
import { collectLinks, createVeth, deleteVeth, type VethPair } from '../../link/veth.ts';
import { addMasquerade, checkMasquerade, collectMasquerade, delMasquerade } from '../../nft/masquerade.ts';
import { CNI_ERROR } from '../../runtime/errors.ts';
import type { Call } from '../../runtime/plugin.ts';
import { emptyResult, type Result } from '../../runtime/result.ts';
import { ensureBridge, ensureGateway, withPort } from './bridge-device.ts';
import { type BridgeConfig, readBridgeConfig } from './config.ts';
import { type Gateway, planGateways } from './gateways.ts';
import { guardMac, isGuarded, unguardMac } from './mac-guard.ts';
import {
  checkPortVlans,
  ensureVlanGateway,
  requireFiltering,
  setPortVlans,
  vlanGatewayName,
} from './vlans.ts';

/** RFC 2863 operational state "up"; until then the bridge does not forward to the port. */
const IF_OPER_UP = 6;
/** Together what the reference waits at most; the first answers come within a millisecond. */
const PORT_PAUSES_MS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 400, 800, 1000];

interface Attached extends VethPair {
  bridge: Link;
}

export const bridge = linkPlugin<BridgeConfig, Attached>({
  name: 'bridge',
  read: readBridgeConfig,
  withoutIpam: emptyResult,
  createRefusesExisting: true,
  create: attach,
  configure,

  /** Nothing here needs the namespace or an earlier result: the host end of the veth has a name of its own. */
  async remove(call, { host, pod, podNetns }) {
    await deleteVeth(call, host, pod && podNetns && { net: pod, netns: podNetns });
    if (call.config.raw('macspoofchk')) {
      const owner = ownerName(call.networkName, call);
      unguardMac(call.site.hostNetns, holder => holder === owner);
    }
    await delMasquerade(call);
  },

  async check(call, config, { host, pod }, result) {
    const bridge = checkBridge(host, config, result);
    checkPort(call, host, pod, bridge, config);
    const gateways = planGateways(config, structuredClone(result));
    if (gateways.length > 0) checkGateway(host, bridge, config, gateways);
    if (config.ipMasq) await checkMasquerade(call, result);
  },

  leavesDown: config => config.disableContainerInterface,

  /** Until there is a bridge nobody can tell whether the kernel's bridges have VLANs. */
  ready(config, host) {
    const present = config.vlans.port.length > 0 ? host.getLink(config.bridge) : undefined;
    if (present?.kind === 'bridge') requireFiltering(present);
  },

  async collect(call, host, valid) {
    collectLinks(host, call.networkName, valid);
    unguardMac(call.site.hostNetns, orphanTest(call.networkName, valid));
    await collectMasquerade(call, valid);
  },
});

async function attach(call: Call, config: BridgeConfig, { host, pod, podNetns }: Sides): Promise<Attached> {
  const { hostNetns } = call.site;
  const bridge = ensureBridge(host, hostNetns, config);
  const pair = createVeth(call, host, pod, podNetns, {
    masterIndex: bridge.index,
    ...(config.hairpinMode || config.portIsolation
      ? { port: { hairpin: config.hairpinMode, isolated: config.portIsolation } }
      : {}),
    ...(config.mtuBytes === undefined ? {} : { mtuBytes: config.mtuBytes }),
    ...(config.mac === undefined ? {} : { mac: config.mac }),
  });
  try {
    if (config.vlans.port.length > 0) setPortVlans(hostNetns, bridge, pair.host.index, config.vlans);
    if (config.macSpoofCheck)
      guardMac(hostNetns, pair.host.name, pair.pod.mac, ownerName(call.networkName, call));
  } catch (error) {
    await deleteVeth(call, host, { net: pod, netns: podNetns });
    throw error;
  }
  return { ...pair, bridge: withPort(host, hostNetns, bridge) };
}

async function configure(
  call: Call,
  config: BridgeConfig,
  { host, pod, podNetns }: Sides,
  attached: Attached,
  addresses: Result,
): Promise<Result> {
  const { hostNetns, signal } = call.site;
  const result = attachmentResult(call, attached.pod, addresses, [attached.bridge, attached.host]);
  const gateways = planGateways(config, result);
  if (!config.disableContainerInterface) {
    preparePodInterface(podNetns, call.ifName, result, { duplicateAddressDetection: config.enableDad });
    configurePodInterface(pod, call.ifName, result, { linkIndex: attached.pod.index });
  }
  if (gateways.length > 0) {
    const { bridge } = attached;
    const { access } = config.vlans;
    const link =
      access === undefined ? bridge : ensureVlanGateway(host, hostNetns, bridge, access, config.vlans);
    for (const gateway of gateways) ensureGateway(host, hostNetns, link, gateway, config.forceAddress);
    if (link !== bridge) result.interfaces.push({ name: link.name, mac: link.mac, mtu: link.mtuBytes });
  }
  if (config.ipMasq) await addMasquerade(call, result);
  if (!config.disableContainerInterface) await waitForPort(host, attached.host.name, signal);
  return result;
}

/** The kernel tells the bridge of the new carrier in a work queue; a pod that talks before loses its first packets. */
async function waitForPort(host: Rtnetlink, name: string, signal: AbortSignal): Promise<void> {
  for (const ms of PORT_PAUSES_MS) {
    if (ms > 0) await pause(ms, undefined, { signal });
    if (host.getLink(name)?.operState === IF_OPER_UP) return;
  }
  throw new CniError(CNI_ERROR.INTERNAL, `bridge port ${name} did not come up`);
}

function checkBridge(host: Rtnetlink, config: BridgeConfig, result: Result): Link {
  const bridge = host.getLink(config.bridge);
  if (bridge === undefined) throw gone(`bridge ${config.bridge} does not exist`);
  if (bridge.kind !== 'bridge') throw gone(`${config.bridge} is not a bridge`);
  if (!bridge.up) throw gone(`bridge ${config.bridge} is down`);
  const { entry } = requireInterface(result, config.bridge, undefined);
  if (entry.mac !== undefined && entry.mac.toLowerCase() !== bridge.mac)
    throw gone(`bridge ${config.bridge} has MAC ${bridge.mac}, the result says ${entry.mac}`);
  return bridge;
}

/** The pod's peer must be one of the host interfaces of the result, and a port of the bridge. */
function checkPort(call: Call, host: Rtnetlink, pod: Rtnetlink, bridge: Link, config: BridgeConfig): void {
  const link = pod.getLink(call.ifName);
  if (link?.kind !== 'veth' || link.linkIndex === undefined) throw gone(`${call.ifName} is not a veth`);
  const peer = host.getLink(link.linkIndex);
  if (peer?.kind !== 'veth') throw gone(`the host end of ${call.ifName} is not in this host namespace`);
  if (peer.masterIndex !== bridge.index) throw gone(`${peer.name} is not a port of bridge ${bridge.name}`);
  if (!peer.up) throw gone(`${peer.name} is down`);
  if (config.hairpinMode && peer.port?.hairpin === false) throw gone(`hairpin mode of ${peer.name} is off`);
  if (config.portIsolation && peer.port?.isolated === false)
    throw gone(`port isolation of ${peer.name} is off`);
  checkPortVlans(call.site.hostNetns, bridge, peer, config.vlans);
  const owner = ownerName(call.networkName, call);
  if (config.macSpoofCheck && !isGuarded(call.site.hostNetns, peer.name, link.mac, owner))
    throw gone(`the rules of macspoofchk for ${peer.name} are missing in nftables`);
}

function checkGateway(
  host: Rtnetlink,
  bridge: Link,
  config: BridgeConfig,
  gateways: readonly Gateway[],
): void {
  const { access } = config.vlans;
  const name = access === undefined ? bridge.name : vlanGatewayName(bridge.name, access);
  const link = access === undefined ? bridge : host.getLink(name);
  if (link === undefined) throw gone(`gateway ${name} does not exist`);
  const present = new Set(host.listAddresses({ link: link.index }).map(one => one.address));
  for (const { address } of gateways)
    if (!present.has(address)) throw gone(`bridge ${name} does not have gateway address ${address}`);
}
