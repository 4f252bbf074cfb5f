// Follows the link under the overlay: chosen at start, read again whenever the kernel tells of a change to it. A link
// that is away or has lost its address leaves the last good answer in force: traffic that still can flow must flow on.

import type { Underlay } from '../../routing/subnet/underlay.ts';
import {
  chooseUnderlay,
  type HostNetwork,
  type UnderlayRequest,
} from '../../routing/subnet/underlay-choice.ts';
import { NETLINK_ROUTE, RT_SCOPE, RTNLGRP } from '../codec/netlink/constants.ts';
import { decodeRouteEvent } from '../codec/netlink/event.ts';
import type { NetlinkMessage } from '../codec/netlink/message.ts';
import { errorMessage } from '../lib/errors.ts';
import { NetlinkMonitor } from '../linux/netlink-monitor.ts';
import type { Netns } from '../linux/netns.ts';
import { Rtnetlink } from '../linux/rtnetlink.ts';
import type { Logger } from '../observe/log.ts';

/** Notifications of one change come in a burst. */
const SETTLE_MS = 50;
/** linux/if_arp.h */
const ARPHRD_LOOPBACK = 772;
const GROUPS = [RTNLGRP.LINK, RTNLGRP.IPV4_IFADDR, RTNLGRP.IPV6_IFADDR];

export interface UnderlayWatchOptions {
  netns: Netns;
  request: UnderlayRequest;
  /** --iface-can-reach. */
  canReach?: string;
  onChange: (underlay: Underlay) => void;
  log: Logger;
}

/** The host's links and usable addresses. Overlay devices are no underlay. */
export function readHostNetwork(
  netns: Netns,
  request: Pick<UnderlayRequest, 'families'>,
  canReach?: string,
): HostNetwork {
  using net = Rtnetlink.open(netns);
  const links = net
    .listLinks()
    .filter(link => link.alias !== 'podwire:overlay' && !link.name.startsWith('flannel'))
    .map(({ index, name, mtuBytes, type }) => ({
      index,
      name,
      mtuBytes,
      loopback: type === ARPHRD_LOOPBACK,
    }));
  const addresses = net
    .listAddresses()
    .filter(address => address.scope === RT_SCOPE.UNIVERSE && !address.tentative && !address.dadFailed);
  return { links, addresses, outward: outwardLink(net, request, canReach) };
}

/** Equivalent to: `ip route get CAN-REACH`, or the link of the default route with the lowest metric. */
function outwardLink(
  net: Rtnetlink,
  request: Pick<UnderlayRequest, 'families'>,
  canReach: string | undefined,
): number | undefined {
  if (canReach !== undefined) return net.getRoute(canReach).linkIndex;
  for (const family of request.families) {
    const [best] = net
      .listRoutes({ family, table: 254 })
      .filter(
        route => route.destination === (family === 4 ? '0.0.0.0/0' : '::/0') && route.type === 'unicast',
      )
      .sort((left, right) => (left.metric ?? 0) - (right.metric ?? 0));
    const index = best?.linkIndex ?? best?.nexthops?.[0]?.linkIndex;
    if (index !== undefined) return index;
  }
  return undefined;
}

export class UnderlayWatch {
  readonly #options: UnderlayWatchOptions;
  #current: Underlay;
  #monitor: NetlinkMonitor | undefined;
  #timer: NodeJS.Timeout | undefined;
  #problem = '';

  /** Throws PodwireError('NO_UNDERLAY') when there is no link to begin with. */
  constructor(options: UnderlayWatchOptions) {
    this.#options = options;
    this.#current = this.#choose();
  }

  get current(): Underlay {
    return this.#current;
  }

  start(): void {
    const soon = (): void => {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.check();
      }, SETTLE_MS);
    };
    this.#monitor = new NetlinkMonitor({
      protocol: NETLINK_ROUTE,
      groups: GROUPS,
      netns: this.#options.netns,
      onMessages: messages => {
        if (messages.some(message => this.#concerns(message))) soon();
      },
      onLost: soon,
      onError: error =>
        this.#options.log.error({ error: errorMessage(error) }, 'a notification could not be read'),
    });
    // What changed since the constructor looked.
    soon();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#monitor?.close();
  }

  /** Looks now. */
  check(): void {
    try {
      const underlay = this.#choose();
      if (this.#problem !== '') this.#options.log.info({ underlay }, 'the underlay is back');
      this.#problem = '';
      if (JSON.stringify(underlay) === JSON.stringify(this.#current)) return;
      this.#options.log.warn({ before: this.#current, now: underlay }, 'the underlay changed');
      this.#current = underlay;
      this.#options.onChange(underlay);
    } catch (thrown) {
      const problem = errorMessage(thrown);
      if (problem !== this.#problem)
        this.#options.log.warn({ problem, underlay: this.#current }, 'the underlay is away');
      this.#problem = problem;
    }
  }

  /** What is wrong with the underlay at present. */
  get problem(): string | undefined {
    return this.#problem || undefined;
  }

  #choose(): Underlay {
    const { netns, request, canReach } = this.#options;
    return chooseUnderlay(readHostNetwork(netns, request, canReach), request, this.#current);
  }

  /** Links of pods come and go all the time: only those with an address, or the one in use, matter. */
  #concerns(message: NetlinkMessage): boolean {
    const event = decodeRouteEvent(message);
    if (event?.kind === 'address') return event.address.scope === RT_SCOPE.UNIVERSE;
    return event?.kind === 'link' && event.link.name === this.#current.link;
  }
}
