// The sbr plugin, source based routing: gives the interface a routing table of its own and a rule for each of its
// addresses, so that what came in over it goes out over it. Everything lives in the pod's namespace.

import { hasCode } from '../../../src/lib/errors.ts';
import { parseIp } from '../../../src/lib/ip.ts';
import { type Route, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { familyOf, gone } from '../../link/pod-interface.ts';
import { configError } from '../../runtime/errors.ts';
import {
  type Call,
  openPodNetns,
  type Plugin,
  podNetnsIfThere,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import type { Result, ResultIp } from '../../runtime/result.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';

const FIRST_TABLE = 100;
const MAIN_TABLE = 254;
/** Before the main table's rule; the reference leaves the choice to the kernel, which counts down from there. */
const RULE_PRIORITY = 32765;

export const sbr: Plugin = {
  name: 'sbr',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    const wanted = readTable(call);
    const result = requirePrevResult(call);
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    const link = pod.getLink(call.ifName);
    if (link === undefined) throw gone(`interface ${call.ifName} is not in the container`);
    const ips = ownAddresses(call, result);
    const added: { family: 4 | 6; priority: number; source: string; table: number }[] = [];
    // One table an address of a family: two addresses of one family need two default routes.
    for (const ip of ips) {
      const table = wanted ?? freeTable(pod);
      const family = familyOf(ip.address);
      const routes = pod.listRoutes({ family, table: MAIN_TABLE, link: link.index });
      for (const route of routes) copyRoute(pod, route, link.index, table);
      if (ip.gateway !== undefined)
        ignoreExisting(() =>
          pod.addRoute({
            destination: family === 4 ? '0.0.0.0/0' : '::/0',
            gateway: ip.gateway!,
            link: link.index,
            table,
          }),
        );
      const rule = { family, priority: RULE_PRIORITY, source: hostCidr(ip), table };
      ignoreExisting(() => pod.addRule(rule));
      added.push(rule);
    }
    for (const family of [4, 6] as const)
      if (added.some(rule => rule.family === family))
        for (const route of pod.listRoutes({ family, table: MAIN_TABLE, link: link.index }))
          if (route.type === 'unicast' && !isLinkLocalRoute(route))
            pod.delRoute({ destination: route.destination, link: link.index, table: MAIN_TABLE });
    return result;
  },

  async del(call: Call): Promise<void> {
    using podNetns = podNetnsIfThere(call);
    if (podNetns === undefined) return;
    using pod = Rtnetlink.open(podNetns);
    const link = pod.getLink(call.ifName);
    if (link === undefined) return;
    const own = new Set(
      pod.listAddresses({ link: link.index }).map(one => hostCidr({ address: one.address })),
    );
    for (const rule of pod.listRules())
      if (rule.source !== undefined && own.has(rule.source) && rule.table >= 1 && rule.table !== MAIN_TABLE)
        pod.delRule({ family: rule.family, priority: rule.priority, source: rule.source, table: rule.table });
  },

  async check(call: Call): Promise<void> {
    readTable(call);
    const result = requirePrevResult(call);
    using podNetns = openPodNetns(call);
    using pod = Rtnetlink.open(podNetns);
    const rules = pod.listRules();
    for (const ip of ownAddresses(call, result))
      if (!rules.some(rule => rule.source === hostCidr(ip) && rule.table !== MAIN_TABLE))
        throw gone(`no rule sends packets from ${hostCidr(ip)} to a table of its own`);
  },

  async status(call: Call): Promise<void> {
    readTable(call);
  },

  async gc(call: Call): Promise<void> {
    validAttachments(call.config);
  },
};

function readTable(call: Call): number | undefined {
  const table = call.config.integer('table') || undefined;
  if (table === MAIN_TABLE || table === 255) throw configError(`table ${table} is the kernel's own`);
  return table;
}

/** The addresses of CNI_IFNAME in the pod. */
function ownAddresses(call: Call, result: Result): ResultIp[] {
  const ips = result.ips.filter(ip => {
    const owner = ip.interface === undefined ? undefined : result.interfaces[ip.interface];
    return owner?.name === call.ifName && owner.sandbox !== undefined;
  });
  if (ips.length === 0) throw configError(`prevResult has no address of ${call.ifName}`);
  return ips;
}

function hostCidr(ip: Pick<ResultIp, 'address'>): string {
  const address = ip.address.split('/')[0]!;
  return `${address}/${parseIp(address)?.length === 16 ? 128 : 32}`;
}

function freeTable(pod: Rtnetlink): number {
  const used = new Set([
    ...pod.listRules().map(rule => rule.table),
    ...pod.listRoutes({}).map(route => route.table),
  ]);
  let table = FIRST_TABLE;
  while (used.has(table) || (table >= 253 && table <= 255)) table++;
  return table;
}

function copyRoute(pod: Rtnetlink, route: Route, linkIndex: number, table: number): void {
  if (route.type !== 'unicast' || isLinkLocalRoute(route)) return;
  ignoreExisting(() =>
    pod.addRoute({
      destination: route.destination,
      link: linkIndex,
      table,
      ...(route.gateway === undefined ? {} : { gateway: route.gateway, onlink: true }),
      ...(route.source === undefined ? {} : { source: route.source }),
      ...(route.family === 4 ? { scope: route.scope } : {}),
    }),
  );
}

function isLinkLocalRoute(route: Route): boolean {
  return route.destination.startsWith('fe80:') || route.destination.startsWith('ff00:');
}

function ignoreExisting(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
}
