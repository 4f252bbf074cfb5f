// What the plugins have in common whose link is born inside the pod and dies with its namespace (vlan, ipvlan, dummy):
// the host keeps nothing of them, so only the IPAM has anything to collect. The link comes before the IPAM, as in the
// reference, because a DHCP client needs it; for the same reason the IPAM's DEL comes before the link's.
import { CniError, hasCode } from '../../src/lib/errors.ts';
import type { Netns } from '../../src/linux/netns.ts';
import { type Link, Rtnetlink } from '../../src/linux/rtnetlink.ts';
import type { LinkSpec } from '../../src/linux/rtnetlink-specs.ts';
import { ipamForward, withIpam } from '../runtime/delegate.ts';
import { CNI_ERROR, joinErrors } from '../runtime/errors.ts';
import {
  type Call,
  openPodNetns,
  type Plugin,
  podNetnsIfThere,
  requirePrevResult,
  validAttachments,
} from '../runtime/plugin.ts';
import type { Result } from '../runtime/result.ts';
import { CNI_VERSIONS } from '../runtime/versions.ts';
import { singleInterfaceResult } from './ipam-result.ts';
import { addLinkOfKind, type OptionalKind, requireKind } from './kernel-kind.ts';
import { checkMtu, findMaster, type MasterChoice } from './master.ts';
import { checkPodInterface, configurePodInterface, gone, preparePodInterface } from './pod-interface.ts';
import { ignoreMissing } from './veth.ts';

export interface PodLinkKind<C> {
  /** The plugin's name and the link's kind. */
  readonly kind: OptionalKind;
  /** Reads and checks the configuration; for ADD, CHECK and STATUS. */
  read(call: Call): C;
  /** Undefined for links without one. */
  master(config: C): MasterChoice | undefined;
  /** What the link has besides name, kind, master and MTU. */
  spec(config: C): Partial<LinkSpec>;
  /** CHECK: throws when the link is not as configured. */
  verify(config: C, link: Link): void;
  /** Addresses of the plugin before, where the configuration takes them instead of an IPAM's. */
  inherited?(call: Call): Result | undefined;
  /** More of the pod's settings, before the link goes up. */
  prepare?(podNetns: Netns, ifName: string): void;
}

export function podLinkPlugin<C>(kind: PodLinkKind<C>): Plugin {
  return {
    name: kind.kind,
    versions: CNI_VERSIONS,

    async add(call: Call): Promise<Result> {
      const config = kind.read(call);
      const inherited = kind.inherited?.(call);
      using podNetns = openPodNetns(call);
      using pod = Rtnetlink.open(podNetns);
      const link = createLink(call, kind, config, podNetns, pod);
      try {
        const attach = async (ipam: Result): Promise<Result> => {
          const result = singleInterfaceResult(call, link, ipam, inherited === undefined);
          preparePodInterface(podNetns, call.ifName, result);
          kind.prepare?.(podNetns, call.ifName);
          configurePodInterface(pod, call.ifName, result);
          return result;
        };
        return await (inherited === undefined ? withIpam(call, attach) : attach(inherited));
      } catch (error) {
        ignoreMissing(() => pod.delLink(link.index));
        throw error;
      }
    },

    async del(call: Call): Promise<void> {
      const failures: unknown[] = [];
      await ipamForward(call, 'DEL').catch(error => failures.push(error));
      using podNetns = podNetnsIfThere(call);
      if (podNetns !== undefined) {
        using pod = Rtnetlink.open(podNetns);
        const link = pod.getLink(call.ifName);
        if (link?.kind === kind.kind) ignoreMissing(() => pod.delLink(link.index));
      }
      if (failures.length > 0) throw joinErrors(`${kind.kind} DEL`, failures);
    },

    async check(call: Call): Promise<void> {
      const config = kind.read(call);
      const result = requirePrevResult(call);
      await ipamForward(call, 'CHECK');
      using podNetns = openPodNetns(call);
      using pod = Rtnetlink.open(podNetns);
      checkPodInterface(call, pod, result);
      const link = pod.getLink(call.ifName);
      if (link?.kind !== kind.kind) throw gone(`${call.ifName} is not of kind ${kind.kind}`);
      kind.verify(config, link);
      const choice = kind.master(config);
      if (choice === undefined) return;
      using host = Rtnetlink.open(call.site.hostNetns);
      const master = findMaster(choice.linkInContainer ? pod : host, choice.master);
      if (link.linkIndex !== master.index) throw gone(`${call.ifName} is not on ${master.name}`);
      if (choice.mtuBytes !== undefined && link.mtuBytes !== choice.mtuBytes)
        throw gone(`${call.ifName} has MTU ${link.mtuBytes}, not ${choice.mtuBytes}`);
    },

    /** Not ready without the kernel's support, without the master, or when the IPAM is not. */
    async status(call: Call): Promise<void> {
      const choice = kind.master(kind.read(call));
      using host = Rtnetlink.open(call.site.hostNetns);
      requireKind(host, kind.kind);
      if (choice !== undefined && !choice.linkInContainer)
        try {
          findMaster(host, choice.master);
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
}

function createLink<C>(call: Call, kind: PodLinkKind<C>, config: C, podNetns: Netns, pod: Rtnetlink): Link {
  const choice = kind.master(config);
  using host = Rtnetlink.open(call.site.hostNetns);
  const outside = choice === undefined || choice.linkInContainer ? pod : host;
  const master = choice === undefined ? undefined : findMaster(outside, choice.master);
  if (choice !== undefined && master !== undefined) checkMtu(choice, master);
  if (pod.getLink(call.ifName) !== undefined)
    throw new CniError(CNI_ERROR.INTERNAL, `interface ${call.ifName} already exists in the container`);
  try {
    addLinkOfKind(outside, {
      ...kind.spec(config),
      name: call.ifName,
      kind: kind.kind,
      ...(outside === pod ? {} : { netnsFd: podNetns.fd }),
      ...(master === undefined ? {} : { link: master.index }),
      ...(choice?.mtuBytes === undefined ? {} : { mtuBytes: choice.mtuBytes }),
    });
  } catch (cause) {
    const why = explain(cause, kind.kind, master?.name ?? '');
    if (why === undefined) throw cause;
    throw new CniError(CNI_ERROR.INTERNAL, why, '', { cause });
  }
  const link = pod.getLink(call.ifName);
  if (link === undefined) throw gone(`${kind.kind} ${call.ifName} disappeared while it was being set up`);
  return link;
}

/** What the kernel's terse refusals mean for links on a master. */
function explain(error: unknown, kind: string, master: string): string | undefined {
  if (hasCode(error, 'EBUSY')) return `${master} is in use by something that a ${kind} cannot share it with`;
  if (hasCode(error, 'EEXIST')) return `${master} already has this ${kind}, here or in another namespace`;
  return undefined;
}
