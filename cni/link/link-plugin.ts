// The order of things in every plugin that gives a pod a link: the link, then the IPAM, then addresses and routes. The link
// comes first because some IPAMs work through it (a DHCP client above all), and because the reference does so.
//
//   ADD   create ─▶ IPAM ADD ─▶ configure         what fails on the way is taken down again
//   DEL   remove ─▶ IPAM DEL                      an address is not given to another pod while this one has it,
//         IPAM DEL ─▶ remove                      but with dhcp, whose RELEASE goes out through the link
//
// Killed between two steps, ADD leaves what DEL and GC find: links by name and alias, addresses by container.
import { CniError } from '../../src/lib/errors.ts';
import type { Netns } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { ipamAdd, ipamForward, ipamType, requireIpamType } from '../runtime/delegate.ts';
import { CNI_ERROR, joinErrors } from '../runtime/errors.ts';
import {
  type Attachment,
  type Call,
  openPodNetns,
  type Plugin,
  podNetnsIfThere,
  requirePrevResult,
  validAttachments,
} from '../runtime/plugin.ts';
import type { Result } from '../runtime/result.ts';
import { CNI_VERSIONS } from '../runtime/versions.ts';
import { checkPodInterface, nameTaken } from './pod-interface.ts';

/** Both ends of an attachment, open for the length of one verb. */
export interface Sides {
  host: Rtnetlink;
  pod: Rtnetlink;
  podNetns: Netns;
}

/** DEL may come when the pod's namespace is gone. */
export type ReachableSides = Pick<Sides, 'host'> & Partial<Sides>;

/** What makes one plugin different from another. `C` is its configuration, `L` what it knows of the link it made. */
export interface LinkRecipe<C, L> {
  readonly name: string;
  /** Reads and checks the configuration; for every verb but DEL and GC. */
  read(call: Call): C;
  /** Where the configuration names no IPAM: the addresses to go on with, undefined when there must be one. */
  withoutIpam?(call: Call): Result | undefined;
  /** `create` says itself that the name is taken in the pod, at no cost of its own. */
  readonly createRefusesExisting?: boolean;
  /** Makes the link and leaves nothing behind when it throws. */
  create(call: Call, config: C, sides: Sides): L | Promise<L>;
  configure(call: Call, config: C, sides: Sides, link: L, addresses: Result): Result | Promise<Result>;
  /** Takes back what `create` and `configure` did, wholly or in part; nothing left to do is fine. */
  remove(call: Call, sides: ReachableSides): void | Promise<void>;
  /** CHECK: the pod's interface was compared with the result already. */
  check(call: Call, config: C, sides: Sides, result: Result): void | Promise<void>;
  /** The pod's interface stays down. */
  leavesDown?(config: C): boolean;
  /** STATUS: throws when the host is not ready. */
  ready?(config: C, host: Rtnetlink): void;
  /** GC of what outlives the pod's namespace. */
  collect?(call: Call, host: Rtnetlink, valid: readonly Attachment[]): void | Promise<void>;
}

/** IPAMs that need the link for DEL. */
const WORK_THROUGH_LINK: ReadonlySet<string | undefined> = new Set(['dhcp']);

export function linkPlugin<C, L>(recipe: LinkRecipe<C, L>): Plugin {
  return {
    name: recipe.name,
    versions: CNI_VERSIONS,

    async add(call: Call): Promise<Result> {
      const config = recipe.read(call);
      const given = ipamType(call) === undefined ? recipe.withoutIpam?.(call) : undefined;
      if (given === undefined) requireIpamType(call);
      using podNetns = openPodNetns(call);
      using pod = Rtnetlink.open(podNetns);
      using host = Rtnetlink.open(call.site.hostNetns);
      const sides: Sides = { host, pod, podNetns };
      if (recipe.createRefusesExisting !== true && pod.getLink(call.ifName) !== undefined)
        throw nameTaken(call);
      const link = await recipe.create(call, config, sides);
      let leased = false;
      try {
        const addresses = given ?? (await ipamAdd(call));
        leased = given === undefined;
        if (leased && addresses.ips.length === 0)
          throw new CniError(CNI_ERROR.INTERNAL, 'IPAM plugin returned missing IP config');
        return await recipe.configure(call, config, sides, link, addresses);
      } catch (error) {
        await takeDown(call, leased, () => recipe.remove(call, sides)).catch(cause => {
          call.site.log.warn(
            { err: cause, containerId: call.containerId },
            'undoing a failed ADD failed too',
          );
        });
        throw error;
      }
    },

    async del(call: Call): Promise<void> {
      using podNetns = podNetnsIfThere(call);
      using pod = podNetns === undefined ? undefined : Rtnetlink.open(podNetns);
      using host = Rtnetlink.open(call.site.hostNetns);
      const sides = { host, ...(pod && podNetns && { pod, podNetns }) };
      await takeDown(call, true, () => recipe.remove(call, sides));
    },

    async check(call: Call): Promise<void> {
      const config = recipe.read(call);
      const result = requirePrevResult(call);
      await ipamForward(call, 'CHECK');
      using podNetns = openPodNetns(call);
      using pod = Rtnetlink.open(podNetns);
      using host = Rtnetlink.open(call.site.hostNetns);
      checkPodInterface(call, pod, result, { down: recipe.leavesDown?.(config) ?? false });
      await recipe.check(call, config, { host, pod, podNetns }, result);
    },

    async status(call: Call): Promise<void> {
      const config = recipe.read(call);
      if (recipe.ready !== undefined) {
        using host = Rtnetlink.open(call.site.hostNetns);
        recipe.ready(config, host);
      }
      await ipamForward(call, 'STATUS');
    },

    async gc(call: Call): Promise<void> {
      const valid = validAttachments(call.config);
      const failures: unknown[] = [];
      if (recipe.collect !== undefined)
        try {
          using host = Rtnetlink.open(call.site.hostNetns);
          await recipe.collect(call, host, valid);
        } catch (error) {
          failures.push(error);
        }
      await ipamForward(call, 'GC').catch(error => failures.push(error));
      if (failures.length > 0) throw joinErrors(`${recipe.name} GC`, failures);
    },
  };
}

async function takeDown(call: Call, leased: boolean, remove: () => void | Promise<void>): Promise<void> {
  if (!leased) return remove();
  if (!WORK_THROUGH_LINK.has(ipamType(call))) {
    await remove();
    return ipamForward(call, 'DEL');
  }
  const failures: unknown[] = [];
  await ipamForward(call, 'DEL').catch(error => failures.push(error));
  // In a function of its own, so that what `remove` throws at once is caught too.
  await (async () => remove())().catch(error => failures.push(error));
  if (failures.length > 0) throw joinErrors(`${call.command} ${call.ifName}`, failures);
}
