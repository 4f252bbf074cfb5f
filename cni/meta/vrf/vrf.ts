// The vrf plugin: puts the interface of the plugins before it into a VRF of the pod's namespace.
import type { Netns } from '../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { requireKind } from '../../link/kernel-kind.ts';
import { configurePodInterface, gone } from '../../link/pod-interface.ts';
import { configError } from '../../runtime/errors.ts';
import {
  type Call,
  openPodNetns,
  type Plugin,
  podNetnsIfThere,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { atLeast, CNI_VERSIONS } from '../../runtime/versions.ts';
import { enslave, ensureVrf, findVrf, release } from './vrf-device.ts';

interface VrfConfig {
  name: string;
  /** The first that no VRF has, unless told. */
  table: number | undefined;
}

function readVrfConfig(call: Call): VrfConfig {
  const name = call.config.string('vrfname') || '';
  if (name === '' || Buffer.byteLength(name) > 15 || /[/:\s]/.test(name))
    throw configError(
      'configuration is expected to have a valid vrf name',
      `vrfname is ${JSON.stringify(name)}`,
    );
  return { name, table: call.config.integer('table') || undefined };
}

/** One at a time in a namespace: the last interface to leave takes the VRF with it. */
function exclusively<T>(call: Call, podNetns: Netns, work: () => T): Promise<T> {
  return call.site.locks.run(`vrf ${podNetns.inode}`, call.site.signal, work);
}

export const vrf: Plugin = {
  name: 'vrf',
  versions: CNI_VERSIONS.filter(version => atLeast(version, '0.3.1')),

  async add(call: Call): Promise<Result> {
    const config = readVrfConfig(call);
    const result = requirePrevResult(call);
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    await exclusively(call, podNetns, () => {
      const device = ensureVrf(pod, config.name, config.table);
      try {
        enslave(pod, device, call.ifName);
        restoreRoutes(pod, call, result, device.table);
      } catch (error) {
        if (device.created) pod.delLink(device.index);
        throw error;
      }
    });
    return result;
  },

  async del(call: Call): Promise<void> {
    const { name } = readVrfConfig(call);
    using podNetns = podNetnsIfThere(call);
    if (podNetns === undefined) return;
    using pod = Rtnetlink.open(podNetns);
    await exclusively(call, podNetns, () => {
      const link = pod.getLink(name);
      const device = link?.kind === 'vrf' ? findVrf(pod, name) : undefined;
      if (device !== undefined) release(pod, device, call.ifName);
    });
  },

  async check(call: Call): Promise<void> {
    const { name, table } = readVrfConfig(call);
    requirePrevResult(call);
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    const device = findVrf(pod, name);
    if (device === undefined) throw gone(`VRF ${name} is missing`);
    if (table !== undefined && device.table !== table)
      throw gone(`VRF ${name} has table ${device.table}, not ${table}`);
    if (pod.getLink(call.ifName)?.masterIndex !== device.index)
      throw gone(`Failed to find ${call.ifName} associated to vrf ${name}`);
  },

  async status(call: Call): Promise<void> {
    readVrfConfig(call);
    using host = Rtnetlink.open(call.site.hostNetns);
    requireKind(host, 'vrf');
  },

  /** A VRF dies with its namespace. */
  async gc(call: Call): Promise<void> {
    validAttachments(call.config);
  },
};

/**
 * The routes of the result, which the kernel dropped with the change of master: from now on the interface looks them up
 * in the VRF's table. (The reference leaves a pod in a VRF without its default route.)
 */
function restoreRoutes(pod: Rtnetlink, call: Call, result: Result, table: number): void {
  const index = result.interfaces.findIndex(one => one.name === call.ifName && one.sandbox !== undefined);
  if (index < 0) return;
  const gateways = result.ips.filter(ip => ip.interface === index);
  const routes = result.routes.map(route => ({
    ...route,
    table: route.table ?? table,
    ...viaOwnGateway(route, gateways),
  }));
  configurePodInterface(pod, call.ifName, { ...result, ips: [], routes });
}

function viaOwnGateway(route: Result['routes'][number], ips: Result['ips']): { gw?: string } {
  if (route.gw !== undefined) return { gw: route.gw };
  const v6 = route.dst.includes(':');
  const gateway = ips.find(ip => ip.gateway !== undefined && ip.gateway.includes(':') === v6)?.gateway;
  return gateway === undefined ? {} : { gw: gateway };
}
