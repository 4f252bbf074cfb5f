// What the plugins have in common whose link is born inside the pod and dies with its namespace (vlan, ipvlan, macvlan,
// dummy): the host keeps nothing of them, so only the IPAM has anything to collect.
import { CniError, hasCode } from '../../src/lib/errors.ts';
import type { Netns } from '../../src/linux/netns.ts';
import type { Link } from '../../src/linux/rtnetlink.ts';
import type { LinkSpec } from '../../src/linux/rtnetlink-specs.ts';
import { CNI_ERROR } from '../runtime/errors.ts';
import type { Call, Plugin } from '../runtime/plugin.ts';
import type { Result } from '../runtime/result.ts';
import { attachmentResult } from './ipam-result.ts';
import { addLinkOfKind, type OptionalKind, requireKind } from './kernel-kind.ts';
import { linkPlugin, type Sides } from './link-plugin.ts';
import { checkMtu, findMaster, type MasterChoice } from './master.ts';
import { configurePodInterface, gone, preparePodInterface } from './pod-interface.ts';
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
  /** As in LinkRecipe. */
  withoutIpam?(call: Call): Result | undefined;
  /** More of the pod's settings, before the link goes up. */
  prepare?(podNetns: Netns, ifName: string): void;
}

export function podLinkPlugin<C>(kind: PodLinkKind<C>): Plugin {
  return linkPlugin<C, Link>({
    name: kind.kind,
    read: call => kind.read(call),
    withoutIpam: call => kind.withoutIpam?.(call),
    create: (call, config, sides) => createLink(call, kind, config, sides),

    configure(call, _config, { pod, podNetns }, link, addresses) {
      const result = attachmentResult(call, link, addresses);
      preparePodInterface(podNetns, call.ifName, result);
      kind.prepare?.(podNetns, call.ifName);
      configurePodInterface(pod, call.ifName, result, { linkIndex: link.index });
      return result;
    },

    remove(call, { pod }) {
      const link = pod?.getLink(call.ifName);
      if (link?.kind === kind.kind) ignoreMissing(() => pod?.delLink(link.index));
    },

    check(call, config, { host, pod }) {
      const link = pod.getLink(call.ifName);
      if (link?.kind !== kind.kind) throw gone(`${call.ifName} is not of kind ${kind.kind}`);
      kind.verify(config, link);
      const choice = kind.master(config);
      if (choice === undefined) return;
      const master = findMaster(choice.linkInContainer ? pod : host, choice.master);
      if (link.linkIndex !== master.index) throw gone(`${call.ifName} is not on ${master.name}`);
      if (choice.mtuBytes !== undefined && link.mtuBytes !== choice.mtuBytes)
        throw gone(`${call.ifName} has MTU ${link.mtuBytes}, not ${choice.mtuBytes}`);
    },

    /** Not ready without the kernel's support, or without the master. */
    ready(config, host) {
      const choice = kind.master(config);
      requireKind(host, kind.kind);
      if (choice === undefined || choice.linkInContainer) return;
      try {
        findMaster(host, choice.master);
      } catch (cause) {
        const message = cause instanceof Error ? cause.message : String(cause);
        throw new CniError(CNI_ERROR.NOT_AVAILABLE, message, '', { cause });
      }
    },
  });
}

function createLink<C>(call: Call, kind: PodLinkKind<C>, config: C, sides: Sides): Link {
  const { host, pod, podNetns } = sides;
  const choice = kind.master(config);
  const outside = choice === undefined || choice.linkInContainer ? pod : host;
  const master = choice === undefined ? undefined : findMaster(outside, choice.master);
  if (choice !== undefined && master !== undefined) checkMtu(choice, master);
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
