// Links, addresses, routes, rules, neighbours, forwarding entries and next-hop objects of one network namespace,
// by netlink. Everything is synchronous; a refusal is a KernelError that names the object and says what the kernel
// said. `batch` sends many requests at once; the single verbs are batches of one.
import * as address from '../codec/netlink/address.ts';
import { NETLINK_ROUTE } from '../codec/netlink/constants.ts';
import * as link from '../codec/netlink/link.ts';
import type { MessageWriter } from '../codec/netlink/message.ts';
import * as neighbour from '../codec/netlink/neighbour.ts';
import * as nexthop from '../codec/netlink/nexthop.ts';
import * as route from '../codec/netlink/route.ts';
import * as rule from '../codec/netlink/rule.ts';
import { hasCode, KernelError, type PodwireError } from '../lib/errors.ts';
import { requireIp } from '../lib/ip.ts';
import { NetlinkSocket, refusal } from './netlink-socket.ts';
import { Netns } from './netns.ts';
import { RtnetlinkBatch } from './rtnetlink-batch.ts';
import type {
  AddressSpec,
  FdbSpec,
  LinkName,
  LinkSettings,
  LinkSpec,
  NeighbourSpec,
  NexthopSpec,
  RouteSpec,
  RuleSpec,
} from './rtnetlink-specs.ts';
import { type BatchFailure, throwErrors } from './rtnetlink-text.ts';

export type { Address } from '../codec/netlink/address.ts';
export type { Link, VxlanInfo } from '../codec/netlink/link.ts';
export type { FdbEntry, Neighbour } from '../codec/netlink/neighbour.ts';
export type { Nexthop } from '../codec/netlink/nexthop.ts';
export type { Route } from '../codec/netlink/route.ts';
export type { Rule } from '../codec/netlink/rule.ts';

const ENODEV = 19;

export class Rtnetlink implements Disposable {
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** The socket belongs to `netns` (the current namespace unless told) for its life. */
  static open(netns?: Netns): Rtnetlink {
    return new Rtnetlink(NetlinkSocket.open(NETLINK_ROUTE, netns === undefined ? {} : { netns }));
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Many requests in few system calls. All are tried; the errors of those that failed are returned. */
  batch(fill: (batch: RtnetlinkBatch) => void): PodwireError[] {
    return this.tryBatch(fill).map(failure => failure.error);
  }

  /** Like batch; each failure comes with what `batch.tag` was when its request was written. */
  tryBatch(fill: (batch: RtnetlinkBatch) => void): BatchFailure[] {
    const batch = new RtnetlinkBatch({
      send: (writer, offsets, describe) => this.#send(writer, offsets, describe),
      findLink: name => this.getLink(name)?.index,
      setUpIn: (netnsFd, name) => {
        using there = Rtnetlink.open(Netns.fromFd(netnsFd));
        there.setLink(name, { up: true });
      },
    });
    fill(batch);
    return batch.flush();
  }

  #send(
    writer: MessageWriter,
    offsets: readonly number[],
    describe: (index: number) => string,
  ): { index: number; error: PodwireError }[] {
    const op = offsets.length === 1 ? describe(0) : `${describe(0)} and ${offsets.length - 1} more requests`;
    return this.#socket.transact(writer, offsets, op).map(failure => ({
      index: failure.index,
      error: refusal(describe(failure.index), failure.answer),
    }));
  }

  #one(fill: (batch: RtnetlinkBatch) => void): void {
    throwErrors(this.batch(fill));
  }

  #index(name: LinkName): number {
    if (typeof name === 'number') return name;
    const found = this.getLink(name);
    if (found === undefined) throw new KernelError(`find link ${name}`, ENODEV, 'ENODEV');
    return found.index;
  }

  /** Same as `ip -d link show`. */
  listLinks(): link.Link[] {
    return this.#socket.dump(
      (w, flags) => link.encodeGetLink(w, {}, flags),
      message => link.decodeLink(message),
      'list links',
    );
  }

  /** Undefined when there is none. */
  getLink(nameOrIndex: LinkName): link.Link | undefined {
    const selector = typeof nameOrIndex === 'number' ? { index: nameOrIndex } : { name: nameOrIndex };
    return this.#socket.find(
      w => link.encodeGetLink(w, selector),
      message => link.decodeLink(message),
      `get link ${nameOrIndex}`,
      ENODEV,
    );
  }

  addLink(spec: LinkSpec): void {
    this.#one(batch => batch.addLink(spec));
  }
  setLink(nameOrIndex: LinkName, change: LinkSettings): void {
    this.#one(batch => batch.setLink(nameOrIndex, change));
  }
  delLink(nameOrIndex: LinkName): void {
    this.#one(batch => batch.delLink(nameOrIndex));
  }

  /** Same as `ip address show [dev LINK]`. */
  listAddresses(filter: { link?: LinkName; family?: 4 | 6 } = {}): address.Address[] {
    const index = filter.link === undefined ? 0 : this.#index(filter.link);
    return this.#socket.dump(
      (w, flags) => address.encodeGetAddresses(w, filter.family ?? 0, index, flags),
      message => address.decodeAddress(message),
      'list addresses',
    );
  }
  addAddress(spec: AddressSpec): void {
    this.#one(batch => batch.addAddress(spec));
  }
  delAddress(spec: AddressSpec): void {
    this.#one(batch => batch.delAddress(spec));
  }

  /** Same as `ip route show [table T] [proto P] [dev LINK]`; learned exceptions are left out. */
  listRoutes(
    filter: { family?: 4 | 6; table?: number; protocol?: number; link?: LinkName } = {},
  ): route.Route[] {
    const { link: dev, ...rest } = filter;
    const kernelFilter: route.RouteFilter = { ...rest };
    if (dev !== undefined) kernelFilter.linkIndex = this.#index(dev);
    const families: (4 | 6)[] = filter.family === undefined ? [4, 6] : [filter.family];
    return families.flatMap(family => this.#listRoutes({ ...kernelFilter, family }));
  }

  #listRoutes(filter: route.RouteFilter): route.Route[] {
    try {
      return this.#socket.dump(
        (w, flags) => route.encodeGetRoutes(w, filter, flags),
        message => {
          const found = route.decodeRoute(message);
          return found === undefined || found.cloned || !matches(found, filter) ? undefined : found;
        },
        'list routes',
      );
    } catch (error) {
      // A table nobody ever used does not exist.
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
  }
  addRoute(spec: RouteSpec & { replace?: boolean; append?: boolean }): void {
    this.#one(batch => batch.addRoute(spec));
  }
  delRoute(spec: RouteSpec): void {
    this.#one(batch => batch.delRoute(spec));
  }

  /** Same as `ip route get DESTINATION [from SOURCE] [mark MARK]`: how a packet would go. */
  getRoute(
    destination: string,
    options: { source?: string; mark?: number; inputLink?: LinkName; outputLink?: LinkName } = {},
  ): route.Route {
    const lookup = {
      ...(options.source !== undefined && { source: requireIp(options.source, 'source') }),
      ...(options.mark !== undefined && { mark: options.mark }),
      ...(options.inputLink !== undefined && { iifIndex: this.#index(options.inputLink) }),
      ...(options.outputLink !== undefined && { oifIndex: this.#index(options.outputLink) }),
    };
    const op = `get route to ${destination}`;
    const found = this.#socket.get(
      w => route.encodeRouteLookup(w, requireIp(destination), lookup),
      message => route.decodeRoute(message),
      op,
    );
    if (found === undefined) throw new KernelError(op, 101, 'ENETUNREACH');
    return found;
  }

  /** Same as `ip neighbour show [dev LINK]`. */
  listNeighbours(filter: { link?: LinkName; family?: 4 | 6 } = {}): neighbour.Neighbour[] {
    const index = filter.link === undefined ? 0 : this.#index(filter.link);
    return this.#socket.dump(
      (w, flags) => neighbour.encodeGetNeighbours(w, filter.family ?? 0, index, flags),
      message => {
        const decoded = neighbour.decodeNeighbour(message);
        if (decoded?.kind !== 'neighbour') return undefined;
        return index === 0 || decoded.neighbour.linkIndex === index ? decoded.neighbour : undefined;
      },
      'list neighbours',
    );
  }
  setNeighbour(spec: NeighbourSpec): void {
    this.#one(batch => batch.setNeighbour(spec));
  }
  delNeighbour(spec: NeighbourSpec): void {
    this.#one(batch => batch.delNeighbour(spec));
  }

  /** Same as `bridge fdb show [dev LINK]`. */
  listFdb(name?: LinkName): neighbour.FdbEntry[] {
    const index = name === undefined ? 0 : this.#index(name);
    return this.#socket.dump(
      (w, flags) => neighbour.encodeGetFdb(w, index, flags),
      message => {
        const decoded = neighbour.decodeNeighbour(message);
        if (decoded?.kind !== 'fdb') return undefined;
        return index === 0 || decoded.entry.linkIndex === index ? decoded.entry : undefined;
      },
      'list fdb entries',
    );
  }
  setFdb(spec: FdbSpec): void {
    this.#one(batch => batch.setFdb(spec));
  }
  appendFdb(spec: FdbSpec): void {
    this.#one(batch => batch.appendFdb(spec));
  }
  delFdb(spec: FdbSpec): void {
    this.#one(batch => batch.delFdb(spec));
  }

  /** Same as `ip rule show`. */
  listRules(family?: 4 | 6): rule.Rule[] {
    return this.#socket.dump(
      (w, flags) => rule.encodeGetRules(w, family ?? 0, flags),
      message => rule.decodeRule(message),
      'list rules',
    );
  }
  addRule(spec: RuleSpec): void {
    this.#one(batch => batch.addRule(spec));
  }
  delRule(spec: RuleSpec): void {
    this.#one(batch => batch.delRule(spec));
  }

  /** Same as `ip nexthop show`. */
  listNexthops(): nexthop.Nexthop[] {
    return this.#socket.dump(
      (w, flags) => nexthop.encodeGetNexthops(w, flags),
      message => nexthop.decodeNexthop(message),
      'list nexthops',
    );
  }
  setNexthop(spec: NexthopSpec): void {
    this.#one(batch => batch.setNexthop(spec));
  }
  delNexthop(id: number): void {
    this.#one(batch => batch.delNexthop(id));
  }
}

/** Kernels without strict checking dump everything. */
function matches(found: route.Route, filter: route.RouteFilter): boolean {
  return (
    (filter.table === undefined || found.table === filter.table) &&
    (filter.protocol === undefined || found.protocol === filter.protocol) &&
    (filter.linkIndex === undefined ||
      found.linkIndex === filter.linkIndex ||
      found.nexthops?.some(hop => hop.linkIndex === filter.linkIndex) === true)
  );
}
