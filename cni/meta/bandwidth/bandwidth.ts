// The bandwidth plugin: limits what a pod receives (tbf on the host's end of its veth) and sends (everything that arrives
// there is redirected to an ifb, which has a tbf). The ifb carries the pod's alias, so DEL and GC find it by itself.
import { createHash } from 'node:crypto';
import { CniError, hasCode } from '../../../src/lib/errors.ts';
import { type Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { type TokenBucket, TrafficControl } from '../../../src/linux/traffic-control.ts';
import { gone } from '../../link/pod-interface.ts';
import { attachmentAlias, collectLinks, deleteLink, ignoreMissing } from '../../link/veth.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
import {
  type Call,
  openPodNetns,
  type Plugin,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { versionsFrom } from '../../runtime/versions.ts';
import { type Bandwidth, readBandwidth } from './config.ts';

export const bandwidth: Plugin = {
  name: 'bandwidth',
  versions: versionsFrom('0.3.0'),

  async add(call: Call): Promise<Result> {
    const limits = readBandwidth(call);
    const result = requirePrevResult(call);
    if (limits.ingress === undefined && limits.egress === undefined) return result;
    using host = Rtnetlink.open(call.site.hostNetns);
    using tc = TrafficControl.open(call.site.hostNetns);
    const veth = hostEnd(call, host);
    try {
      if (limits.ingress !== undefined) tc.setTokenBucket(veth.index, limits.ingress);
      if (limits.egress === undefined) return result;
      const ifb = addIfb(call, host, veth.mtuBytes);
      tc.setTokenBucket(ifb.index, limits.egress);
      tc.addIngress(veth.index);
      tc.redirectAll(veth.index, ifb.index);
      const described = { name: ifb.name, mac: ifb.mac, mtu: ifb.mtuBytes };
      return { ...result, interfaces: [...result.interfaces, described] };
    } catch (error) {
      await undo(call, host, tc, veth);
      throw error;
    }
  },

  async del(call: Call): Promise<void> {
    using host = Rtnetlink.open(call.site.hostNetns);
    await deleteIfbs(call, host);
  },

  async check(call: Call): Promise<void> {
    const limits = readBandwidth(call);
    requirePrevResult(call);
    if (limits.ingress === undefined && limits.egress === undefined) return;
    using host = Rtnetlink.open(call.site.hostNetns);
    using tc = TrafficControl.open(call.site.hostNetns);
    const veth = hostEnd(call, host);
    checkLimits(call, host, tc, veth, limits);
  },

  async status(call: Call): Promise<void> {
    readBandwidth(call);
  },

  async gc(call: Call): Promise<void> {
    using host = Rtnetlink.open(call.site.hostNetns);
    collectLinks(host, call.networkName, validAttachments(call.config));
  },
};

/** The host's end of the pod's veth. */
function hostEnd(call: Call, host: Rtnetlink): Link {
  using podNetns = openPodNetns(call);
  using pod = Rtnetlink.open(podNetns);
  const link = pod.getLink(call.ifName);
  if (link?.kind !== 'veth' || link.linkIndex === undefined)
    throw configError(`bandwidth: ${call.ifName} of the container is not a veth`);
  const peer = host.getLink(link.linkIndex);
  if (peer?.kind !== 'veth' || peer.linkIndex !== link.index)
    throw new CniError(CNI_ERROR.INTERNAL, `the host end of ${call.ifName} is not in this host namespace`);
  return peer;
}

/** The reference's name first, so that either implementation finds what the other made; then one that knows the interface. */
function ifbNames(call: Call): string[] {
  const name = (text: string) => `bwp${createHash('sha512').update(text).digest('hex').slice(0, 12)}`;
  const base = `${call.networkName}${call.containerId}`;
  return [name(base), name(`${base}\n${call.ifName}`)];
}

function addIfb(call: Call, host: Rtnetlink, mtuBytes: number): Link {
  const alias = attachmentAlias(call.networkName, call);
  for (const name of ifbNames(call)) {
    const found = host.getLink(name);
    if (found !== undefined && found.alias !== undefined && found.alias !== alias) continue;
    if (found !== undefined) ignoreMissing(() => host.delLink(found.index));
    host.addLink({ name, kind: 'ifb', mtuBytes, up: true });
    host.setLink(name, { alias });
    const link = host.getLink(name);
    if (link !== undefined) return link;
  }
  throw new CniError(CNI_ERROR.INTERNAL, `no free name for the ifb of ${call.ifName}`);
}

async function deleteIfbs(call: Call, host: Rtnetlink): Promise<void> {
  const alias = attachmentAlias(call.networkName, call);
  for (const name of ifbNames(call)) {
    const link = host.getLink(name);
    if (link?.kind === 'ifb' && (link.alias === undefined || link.alias === alias))
      await deleteLink(host, call.site.hostNetns, link);
  }
}

/** After a failed ADD the veth is still there: it loses what it got. */
async function undo(call: Call, host: Rtnetlink, tc: TrafficControl, veth: Link): Promise<void> {
  for (const step of [
    () => tc.delIngress(veth.index),
    () => tc.delRoot(veth.index),
    () => deleteIfbs(call, host),
  ])
    try {
      await step();
    } catch (error) {
      if (!hasCode(error, 'ENOENT') && !hasCode(error, 'EINVAL') && !hasCode(error, 'ENODEV'))
        call.site.log.warn({ err: error, containerId: call.containerId }, 'bandwidth: undoing a failed ADD');
    }
}

function checkLimits(call: Call, host: Rtnetlink, tc: TrafficControl, veth: Link, limits: Bandwidth): void {
  if (limits.ingress !== undefined) checkBucket(tc, veth, limits.ingress);
  if (limits.egress === undefined) return;
  const ifb = ifbNames(call)
    .map(name => host.getLink(name))
    .find(link => link?.kind === 'ifb' && link.alias === attachmentAlias(call.networkName, call));
  const legacy = host.getLink(ifbNames(call)[0]!);
  const found = ifb ?? (legacy?.kind === 'ifb' ? legacy : undefined);
  if (found === undefined) throw gone(`the ifb of ${veth.name} is missing`);
  checkBucket(tc, found, limits.egress);
  if (tc.getRedirect(veth.index) !== found.index)
    throw gone(`${veth.name} is not redirected to ${found.name}`);
}

/** The kernel keeps the burst as a time in ticks: a thousandth is lost on the way there and back. */
function checkBucket(tc: TrafficControl, link: Link, wanted: TokenBucket): void {
  const bucket = tc.listQdiscs(link.index).find(qdisc => qdisc.kind === 'tbf')?.tokenBucket;
  if (bucket === undefined) throw gone(`${link.name} has no tbf`);
  const near = Math.abs(bucket.burstBytes - wanted.burstBytes) <= Math.max(64, wanted.burstBytes / 1000);
  if (bucket.rateBytes !== wanted.rateBytes || bucket.limitBytes !== wanted.limitBytes || !near)
    throw gone(
      `tbf of ${link.name} has rate ${bucket.rateBytes} and burst ${bucket.burstBytes} bytes, not ${wanted.rateBytes} and ${wanted.burstBytes}`,
    );
}
