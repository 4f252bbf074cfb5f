// Chosen BGP routes into the kernel, incrementally: a change is one netlink message from a template, many changes are
// one send. Large bursts are written in slices with a turn of the event loop between, so that keepalives go out.
// Routes are marked by protocol number; one of somebody else's with the same prefix and metric is never replaced.

import { NETLINK_ROUTE } from '../../src/codec/netlink/constants.ts';
import { MessageWriter } from '../../src/codec/netlink/message.ts';
import {
  encodeDelRoute,
  encodeNewRoute,
  type RouteMode,
  type RouteRequest,
} from '../../src/codec/netlink/route.ts';
import { type KernelState, ROUTE_PROTOCOL } from '../../src/kernel/state.ts';
import { makeCidr, parseCidr } from '../../src/lib/cidr.ts';
import { requireIp } from '../../src/lib/ip.ts';
import { NetlinkSocket } from '../../src/linux/netlink-socket.ts';
import type { Netns } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import type { Logger } from '../../src/observe/log.ts';
import type { Family } from '../bgp/packet/context.ts';
import type { LocRib } from '../bgp/speaker/loc-rib.ts';
import type { RouteSink } from '../bgp/speaker/route-sink.ts';
import { DEFAULT_MULTIPATH } from '../bgp/speaker/speaker-config.ts';
import { BGP_ROUTE_METRIC, type FibAction, type FibChange, FibTable } from './fib-table.ts';

export interface KernelRouteSinkOptions {
  readonly netns?: Netns;
  readonly log: Logger;
  readonly multipath?: number;
}

/** Routes in one slice: some 10 ms of kernel time. */
const SLICE = 1024;
const RETRY_MS = 2000;
const EEXIST = 17;
const ESRCH = 3;

/** Offsets in a route message: nlmsghdr (16), rtmsg (12), then RTA_DST as the first attribute. */
const DST_LEN_AT = 17;
const DST_AT = 32;

export class KernelRouteSink implements RouteSink {
  readonly table: FibTable;
  readonly #log: Logger;
  readonly #socket: NetlinkSocket;
  readonly #links: Rtnetlink;
  /** By what the route does, then by verb and family. */
  readonly #templates = new Map<FibAction | undefined, (Buffer | undefined)[]>();
  readonly #linkIndexes = new Map<string, number>();
  readonly #writer = new MessageWriter(SLICE * 64);
  /** Routes of an earlier life, by prefix text, until somebody announces them again. */
  #adopted: Record<Family, Set<number>> = { 4: new Set(), 6: new Set() };
  /** Prefixes for which the kernel has a route of somebody else. */
  #foreign: Record<Family, Set<number>> = { 4: new Set(), 6: new Set() };
  #queue: FibChange[] = [];
  #at = 0;
  #scheduled: NodeJS.Immediate | undefined;
  #failed: FibChange[] = [];
  #retry: NodeJS.Timeout | undefined;
  #sweepWhenIdle = false;
  /** Routes the kernel refused, by error name, since the start. */
  readonly refusals = new Map<string, number>();

  constructor(options: KernelRouteSinkOptions) {
    this.table = new FibTable(options.multipath ?? DEFAULT_MULTIPATH);
    this.#log = options.log;
    const namespace = options.netns === undefined ? {} : { netns: options.netns };
    this.#socket = NetlinkSocket.open(NETLINK_ROUTE, namespace);
    this.#links = Rtnetlink.open(options.netns);
  }

  /** True while changes wait to be written. */
  get busy(): boolean {
    return this.#at < this.#queue.length;
  }

  fragment(): KernelState {
    return this.table.fragment();
  }

  /** Finds the routes an earlier life of ours left; they stay until complete(). */
  adopt(): number {
    for (const route of this.#links.listRoutes({ protocol: ROUTE_PROTOCOL.bgp })) {
      const cidr = parseCidr(route.destination);
      if (cidr === undefined || route.metric !== BGP_ROUTE_METRIC) continue;
      this.#adopted[cidr.family].add(this.table.prefixes[cidr.family].internCidr(cidr));
    }
    return this.#adopted[4].size + this.#adopted[6].size;
  }

  changed(loc: LocRib, nets: readonly number[]): void {
    const changes = this.table.update(loc, nets);
    if (changes.length === 0) return;
    const idle = !this.busy;
    if (idle) this.#queue = changes;
    else for (const change of changes) this.#queue.push(change);
    if (idle && changes.length <= SLICE) this.#slice();
    else this.#schedule();
  }

  complete(): void {
    this.#sweepWhenIdle = true;
    if (!this.busy) this.#sweep();
  }

  /** With `keepRoutes` the kernel goes on forwarding; otherwise all of ours go. */
  close(keepRoutes: boolean): void {
    clearImmediate(this.#scheduled);
    clearTimeout(this.#retry);
    while (this.busy) this.#slice();
    if (!keepRoutes) this.#removeAll();
    this.#socket.close();
    this.#links.close();
  }

  #schedule(): void {
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = undefined;
      this.#slice();
      if (this.busy) this.#schedule();
    });
  }

  /** Writes the next changes. */
  #slice(): void {
    const end = Math.min(this.#at + SLICE, this.#queue.length);
    const writer = this.#writer;
    writer.reset();
    const offsets: number[] = [];
    const sent: FibChange[] = [];
    for (; this.#at < end; this.#at++) {
      const change = this.#queue[this.#at]!;
      const { family, slot, action, before } = change;
      // A replacement that a later change replaces again is moot.
      if (action !== undefined && before !== undefined && this.table.action(family, slot) !== action)
        continue;
      offsets.push(writer.length);
      this.#encode(writer, change);
      sent.push(change);
    }
    if (this.#at >= this.#queue.length) {
      this.#queue = [];
      this.#at = 0;
    }
    const failures = offsets.length === 0 ? [] : this.#socket.transact(writer, offsets, 'BGP routes');
    for (const change of sent) {
      const adopted = this.#adopted[change.family];
      const foreign = this.#foreign[change.family];
      if (adopted.size > 0) adopted.delete(change.slot);
      if (foreign.size > 0) foreign.delete(change.slot);
      if (change.action === undefined) this.table.release(change.family, change.slot);
    }
    for (const { index, answer } of failures) this.#refused(sent[index]!, answer.errno, answer.extAck);
    if (this.#sweepWhenIdle && !this.busy) this.#sweep();
  }

  #encode(writer: MessageWriter, change: FibChange): void {
    const { family, slot, before } = change;
    const replaces =
      (before !== undefined && !this.#foreign[family].has(slot)) || this.#adopted[family].has(slot);
    const template =
      change.action === undefined
        ? this.#template('del', change.family, undefined)
        : this.#template(replaces ? 'replace' : 'add', change.family, change.action);
    const start = writer.length;
    writer.bytes(template);
    const { buffer } = writer;
    const { words, lengths, stride } = this.table.prefixes[change.family];
    buffer[start + DST_LEN_AT] = lengths[change.slot]!;
    // Byte by byte: writeUInt32BE checks its arguments each time, which showed at 100,000 routes.
    for (let i = 0, at = start + DST_AT; i < stride; i++, at += 4) {
      const word = words[change.slot * stride + i]!;
      buffer[at] = word >>> 24;
      buffer[at + 1] = (word >>> 16) & 255;
      buffer[at + 2] = (word >>> 8) & 255;
      buffer[at + 3] = word & 255;
    }
  }

  /** A whole message for a host route; prefix and length are put in afterwards. */
  #template(mode: RouteMode | 'del', family: Family, action: FibAction | undefined): Buffer {
    let list = this.#templates.get(action);
    if (list === undefined) {
      list = [];
      this.#templates.set(action, list);
    }
    const index = (mode === 'add' ? 0 : mode === 'replace' ? 1 : 2) + (family === 4 ? 0 : 3);
    const known = list[index];
    if (known !== undefined) return known;
    const writer = new MessageWriter(256);
    const request: RouteRequest = {
      destination: makeCidr(new Uint8Array(family === 4 ? 4 : 16), family === 4 ? 32 : 128),
      protocol: ROUTE_PROTOCOL.bgp,
      metric: BGP_ROUTE_METRIC,
      ...(action === undefined ? {} : this.#target(action)),
    };
    if (mode === 'del') encodeDelRoute(writer, request);
    else encodeNewRoute(writer, request, mode);
    const template = Buffer.from(writer.view());
    list[index] = template;
    return template;
  }

  #target(action: FibAction): Partial<RouteRequest> {
    if (action.blackhole) return { type: 'blackhole' };
    const hops = action.hops.map(hop => ({
      gateway: requireIp(hop.gateway, 'gateway'),
      ...(hop.link === undefined ? {} : { linkIndex: this.#linkIndex(hop.link) }),
      ...(hop.onlink === undefined ? {} : { onlink: hop.onlink }),
    }));
    if (hops.length === 0) return { type: 'unreachable' };
    return hops.length === 1 ? hops[0]! : { nexthops: hops };
  }

  #linkIndex(name: string): number {
    const known = this.#linkIndexes.get(name);
    if (known !== undefined) return known;
    const index = this.#links.getLink(name)?.index ?? 0;
    this.#linkIndexes.set(name, index);
    return index;
  }

  /** Next hops resolve otherwise: templates hold gateways and link numbers. */
  forgetResolutions(): void {
    this.table.forgetResolutions();
    this.#templates.clear();
    this.#linkIndexes.clear();
  }

  #refused(change: FibChange, errno: number, detail: string | undefined): void {
    if (change.action === undefined && errno === ESRCH) return;
    const name = errno === EEXIST ? 'EEXIST' : `errno ${errno}`;
    const count = (this.refusals.get(name) ?? 0) + 1;
    this.refusals.set(name, count);
    if (count === 1 || count % 1000 === 0)
      this.#log.warn(
        {
          route: this.table.routeState(
            change.family,
            change.slot,
            change.action ?? { key: '', blackhole: false, hops: [] },
          ),
          errno,
          detail,
          count,
        },
        errno === EEXIST
          ? 'somebody else has a route with this prefix and metric; it is left alone'
          : 'the kernel refused a BGP route; it will be tried again',
      );
    if (change.action === undefined) return;
    if (errno === EEXIST) this.#foreign[change.family].add(change.slot);
    this.#failed.push({ ...change, before: undefined });
    this.#retry ??= setTimeout(() => this.#retryFailed(), RETRY_MS);
    this.#retry.unref();
  }

  #retryFailed(): void {
    this.#retry = undefined;
    const again = this.#failed;
    this.#failed = [];
    const still = again.filter(c => this.table.action(c.family, c.slot) === c.action);
    if (still.length === 0) return;
    for (const change of still) this.#queue.push(change);
    this.#schedule();
  }

  /** What was adopted and is not wanted goes. */
  #sweep(): void {
    this.#sweepWhenIdle = false;
    for (const family of [4, 6] as const) {
      const gone = [...this.#adopted[family]].filter(slot => this.table.action(family, slot) === undefined);
      this.#adopted[family].clear();
      for (const slot of gone) this.#queue.push({ family, slot, action: undefined, before: undefined });
    }
    if (this.busy) this.#schedule();
  }

  #removeAll(): void {
    const writer = this.#writer;
    writer.reset();
    const offsets: number[] = [];
    for (const family of [4, 6] as const) {
      const { prefixes } = this.table;
      for (let slot = 0; slot < prefixes[family].limit; slot++) {
        if (!prefixes[family].has(slot)) continue;
        offsets.push(writer.length);
        this.#encode(writer, { family, slot, action: undefined, before: undefined });
      }
    }
    if (offsets.length > 0) this.#socket.transact(writer, offsets, 'remove BGP routes');
  }
}
