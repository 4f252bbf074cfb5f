// The bridge plugin: a bridge on the host, a veth into each pod, the bridge as gateway when asked. All by netlink.
// Order of ADD: refuse what exists, IPAM, bridge, veth, pod's addresses and routes, gateway, wait until the port
// forwards. Whatever fails on the way is undone.
import { setTimeout as pause } from 'node:timers/promises';
import { CniError } from '../../../src/lib/errors.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { type Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import {
  checkPodInterface,
  configurePodInterface,
  gone,
  preparePodInterface,
  requireInterface,
} from '../../link/pod-interface.ts';
import { collectLinks, createVeth, deleteVeth, refuseExisting, type VethPair } from '../../link/veth.ts';
import { addMasquerade, checkMasquerade, collectMasquerade, delMasquerade } from '../../nft/masquerade.ts';
import { ipamForward, withIpam } from '../../runtime/delegate.ts';
import { CNI_ERROR, joinErrors } from '../../runtime/errors.ts';
import {
  type Call,
  openPodNetns,
  type Plugin,
  podNetnsIfThere,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import { emptyResult, isEmptyDns, type Result } from '../../runtime/result.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';
import { ensureBridge, ensureGateway } from './bridge-device.ts';
import { type BridgeConfig, readBridgeConfig } from './config.ts';
import { planGateways } from './gateways.ts';

/** RFC 2863 operational state "up"; until then the bridge does not forward to the port. */
const IF_OPER_UP = 6;
/** Together what the reference waits at most; the first answers come within a millisecond. */
const PORT_PAUSES_MS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 400, 800, 1000];

export class Bridge implements Plugin {
  readonly name = 'bridge';
  readonly versions = CNI_VERSIONS;

  async add(call: Call): Promise<Result> {
    const config = readBridgeConfig(call);
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    using host = Rtnetlink.open(call.site.hostNetns);
    refuseExisting(call, pod);
    const attach = (ipam: Result) => attachPod(call, config, { host, pod, podNetns }, ipam);
    // The await matters: without it `using` would close the sockets under the work.
    return await (config.hasIpam ? withIpam(call, attach) : attach(emptyResult()));
  }

  /** Nothing here needs the namespace or an earlier result: the host end of the veth has a name of its own. */
  async del(call: Call): Promise<void> {
    using podNetns = podNetnsIfThere(call);
    using pod = podNetns === undefined ? undefined : Rtnetlink.open(podNetns);
    using host = Rtnetlink.open(call.site.hostNetns);
    await deleteVeth(call, host, pod && podNetns && { net: pod, netns: podNetns });
    await delMasquerade(call);
    // Last, so that the address is not given to another pod while this one still has it.
    await ipamForward(call, 'DEL');
  }

  async check(call: Call): Promise<void> {
    const config = readBridgeConfig(call);
    const result = requirePrevResult(call);
    await ipamForward(call, 'CHECK');
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    using host = Rtnetlink.open(call.site.hostNetns);
    checkPodInterface(call, pod, result);
    const bridge = checkBridge(host, config, result);
    checkPort(call, host, pod, bridge, config);
    for (const gateway of planGateways(config, structuredClone(result)))
      if (!host.listAddresses({ link: bridge.index }).some(one => one.address === gateway.address))
        throw gone(`bridge ${bridge.name} does not have gateway address ${gateway.address}`);
    if (config.ipMasq) checkMasquerade(call, result);
  }

  async status(call: Call): Promise<void> {
    readBridgeConfig(call);
    await ipamForward(call, 'STATUS');
  }

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
    if (failures.length > 0) throw joinErrors('bridge GC', failures);
  }
}

interface Sides {
  host: Rtnetlink;
  pod: Rtnetlink;
  podNetns: Netns;
}

async function attachPod(call: Call, config: BridgeConfig, sides: Sides, ipam: Result): Promise<Result> {
  const { host, pod, podNetns } = sides;
  const hostNetns = call.site.hostNetns;
  if (config.hasIpam && ipam.ips.length === 0)
    throw new CniError(CNI_ERROR.INTERNAL, 'IPAM plugin returned missing IP config');
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
    const result: Result = {
      interfaces: describe(bridge, pair, call.netns),
      ips: ipam.ips.map(ip => ({ ...ip, interface: 2 })),
      routes: [...ipam.routes],
      dns: isEmptyDns(config.dns) ? ipam.dns : config.dns,
    };
    const gateways = planGateways(config, result);
    if (!config.disableContainerInterface) {
      preparePodInterface(podNetns, call.ifName, result, { duplicateAddressDetection: config.enableDad });
      configurePodInterface(pod, call.ifName, result, { linkIndex: pair.pod.index });
    }
    for (const gateway of gateways) ensureGateway(host, hostNetns, bridge, gateway, config.forceAddress);
    if (config.ipMasq) addMasquerade(call, result);
    if (!config.disableContainerInterface) await waitForPort(host, pair.host.name, call.site.signal);
    return result;
  } catch (error) {
    await deleteVeth(call, host, { net: pod, netns: podNetns });
    await delMasquerade(call);
    throw error;
  }
}

function describe(bridge: Link, pair: VethPair, sandbox: string): Result['interfaces'] {
  return [
    { name: bridge.name, mac: bridge.mac, mtu: bridge.mtuBytes },
    { name: pair.host.name, mac: pair.host.mac, mtu: pair.host.mtuBytes },
    { name: pair.pod.name, mac: pair.pod.mac, mtu: pair.pod.mtuBytes, sandbox },
  ];
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
}
