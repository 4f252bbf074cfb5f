// A dump of one namespace in KernelState form: what is ours there, and what has the name of something desired.
import type { Address } from '../codec/netlink/address.ts';
import { scopeName } from '../codec/netlink/address.ts';
import { NUD, RT_SCOPE } from '../codec/netlink/constants.ts';
import type { Link } from '../codec/netlink/link.ts';
import type { FdbEntry, Neighbour } from '../codec/netlink/neighbour.ts';
import type { Nexthop } from '../codec/netlink/nexthop.ts';
import type { Route } from '../codec/netlink/route.ts';
import type { Rule } from '../codec/netlink/rule.ts';
import { hasCode } from '../lib/errors.ts';
import { Ethtool } from '../linux/ethtool.ts';
import type { Iptables } from '../linux/iptables.ts';
import type { Netns } from '../linux/netns.ts';
import type { Rtnetlink } from '../linux/rtnetlink.ts';
import { readSysctl } from '../linux/sysctl.ts';
import type { Ownership } from './diff.ts';
import { emptyMaps, type Kind, keyOf, type ObjectMaps, type TableName } from './objects.ts';
import type {
  AddressState,
  FdbState,
  LinkState,
  NeighbourState,
  NexthopState,
  RouteState,
  RuleState,
} from './state.ts';
import { observeLegacy } from './xtables-observe.ts';
import { parseSave, type RuleTexts, targetOf } from './xtables-text.ts';

export type NameOf = (index: number) => string | undefined;

const LINK_KINDS = new Set(['bridge', 'vxlan', 'veth', 'macvlan', 'ifb', 'ipip', 'ip6tnl']);
const ROUTE_TYPES = new Set(['unicast', 'blackhole', 'unreachable', 'prohibit']);

export function toLinkState(link: Link, nameOf: NameOf): LinkState {
  const kind = LINK_KINDS.has(link.kind ?? '') ? (link.kind as LinkState['kind']) : 'existing';
  const state: LinkState = { name: link.name, kind, up: link.up, mtuBytes: link.mtuBytes, mac: link.mac };
  if (link.masterIndex !== undefined) state.master = nameOf(link.masterIndex) ?? `#${link.masterIndex}`;
  if (link.alias !== undefined) state.alias = link.alias;
  if (link.vxlan !== undefined) {
    const { linkIndex, group: _, ...vxlan } = link.vxlan;
    const dev = linkIndex === undefined ? undefined : nameOf(linkIndex);
    state.vxlan = { ...vxlan, ...(dev !== undefined && { dev }) };
  }
  if (link.tunnel !== undefined) {
    const { local, remote, linkIndex } = link.tunnel;
    const dev = linkIndex === undefined ? undefined : nameOf(linkIndex);
    const any = kind === 'ip6tnl' ? '::' : '0.0.0.0';
    state.ipip = { local: local ?? any, ...(remote && { remote }), ...(dev && { dev }) };
  }
  return state;
}

/** Undefined for addresses the kernel made itself: fe80::/10 of each link. */
export function toAddressState(address: Address, nameOf: NameOf): AddressState | undefined {
  const link = nameOf(address.linkIndex);
  if (link === undefined) return undefined;
  if (address.family === 6 && address.scope === RT_SCOPE.LINK && address.protocol <= 3) return undefined;
  const state: AddressState = { link, address: address.address, scope: scopeName(address.scope) };
  if (address.protocol !== 0) state.protocol = address.protocol;
  return state;
}

/** Undefined for kinds of routes that a KernelState does not hold. */
export function toRouteState(route: Route, nameOf: NameOf): RouteState | undefined {
  if (!ROUTE_TYPES.has(route.type)) return undefined;
  const state: RouteState = { destination: route.destination, protocol: route.protocol };
  if (route.nexthopId !== undefined) {
    // The kernel shows the object's gateway and link too (nexthop_compat_mode).
    state.nexthopId = route.nexthopId;
    if (route.metric !== undefined && route.metric !== 0) state.metric = route.metric;
    if (route.table !== 254) state.table = route.table;
    if (route.source !== undefined) state.source = route.source;
    if (route.family === 4) state.scope = scopeName(route.scope);
    return state;
  }
  if (route.type !== 'unicast') state.type = route.type as NonNullable<RouteState['type']>;
  if (route.gateway !== undefined) state.gateway = route.gateway;
  if (route.linkIndex !== undefined) state.link = nameOf(route.linkIndex) ?? `#${route.linkIndex}`;
  if (route.onlink) state.onlink = true;
  if (route.source !== undefined) state.source = route.source;
  if (route.metric !== undefined && route.metric !== 0) state.metric = route.metric;
  if (route.table !== 254) state.table = route.table;
  if (route.family === 4) state.scope = scopeName(route.scope);
  if (route.nexthops !== undefined)
    state.nexthops = route.nexthops.map(hop => ({
      weight: hop.weight,
      ...(hop.gateway !== undefined && { gateway: hop.gateway }),
      ...(hop.linkIndex !== undefined && { link: nameOf(hop.linkIndex) ?? `#${hop.linkIndex}` }),
      ...(hop.onlink && { onlink: true }),
    }));
  return state;
}

/** Undefined unless permanent: the others come and go by themselves. */
export function toNeighbourState(neighbour: Neighbour, nameOf: NameOf): NeighbourState | undefined {
  const link = nameOf(neighbour.linkIndex);
  if (link === undefined || neighbour.mac === undefined || (neighbour.state & NUD.PERMANENT) === 0)
    return undefined;
  const { address, mac, protocol } = neighbour;
  return { link, address, mac, state: 'permanent', ...(protocol !== 0 && { protocol }) };
}

/** Undefined for learned entries and those without a remote VTEP. */
/** Undefined for groups and blackholes, which a KernelState does not hold. */
export function toNexthopState(nexthop: Nexthop, nameOf: NameOf): NexthopState | undefined {
  const { id, family, gateway, linkIndex, onlink, protocol } = nexthop;
  const link = linkIndex === undefined ? undefined : nameOf(linkIndex);
  if (family === 0 || gateway === undefined || link === undefined) return undefined;
  return { id, family, gateway, link, protocol, ...(onlink && { onlink }) };
}

export function toFdbState(entry: FdbEntry, nameOf: NameOf): FdbState | undefined {
  const link = nameOf(entry.linkIndex);
  if (link === undefined || !entry.self || !entry.permanent || entry.destination === undefined)
    return undefined;
  return { link, mac: entry.mac, destination: entry.destination };
}

export function toRuleState(rule: Rule): RuleState {
  const { family, priority, source, destination, fwmark, table, protocol } = rule;
  return {
    family,
    priority,
    table,
    protocol,
    ...(source !== undefined && { source }),
    ...(destination !== undefined && { destination }),
    ...(fwmark !== undefined && { fwmark }),
  };
}

export interface ObserveScope {
  kinds: ReadonlySet<Kind>;
  desired: ObjectMaps;
  owned: Ownership;
  /** As `4 nat`. */
  tables: ReadonlySet<string>;
}

export interface ObserverOptions {
  rtnetlink: Rtnetlink;
  iptables: Iptables;
  netns?: Netns;
  texts: RuleTexts;
}

export class Observer {
  readonly #options: ObserverOptions;
  /** What `learn` just read, for the comparison that follows it: a dump of 100,000 rules takes a second. */
  readonly #read = new Map<string, ReturnType<typeof parseSave>>();
  /** Names of links by index, as last seen. */
  readonly names = new Map<number, string>();

  constructor(options: ObserverOptions) {
    this.#options = options;
  }

  async observe(scope: ObserveScope): Promise<ObjectMaps> {
    const found = emptyMaps();
    const has = (...kinds: Kind[]): boolean => kinds.some(kind => scope.kinds.has(kind));
    if (has('link', 'address', 'nexthop', 'route', 'neighbour', 'fdb')) this.#observeLinks(scope, found);
    if (has('address')) this.#observeAddresses(scope, found);
    if (has('nexthop')) this.#observeNexthops(scope, found);
    if (has('route')) this.#observeRoutes(scope, found);
    if (has('rule')) this.#observeRules(scope, found);
    if (has('neighbour')) this.#observeNeighbours(scope, found);
    if (has('fdb')) this.#observeFdb(found);
    if (has('sysctl')) this.#observeSysctls(scope, found);
    if (has('feature')) this.#observeFeatures(scope, found);
    if (has('chain', 'jump')) for (const table of scope.tables) await this.#observeTable(table, scope, found);
    return found;
  }

  readonly #nameOf: NameOf = index => this.names.get(index);

  #observeLinks(scope: ObserveScope, found: ObjectMaps): void {
    const links = this.#options.rtnetlink.listLinks();
    this.names.clear();
    for (const link of links) this.names.set(link.index, link.name);
    for (const link of links)
      if (scope.desired.link.has(link.name) || (link.alias !== undefined && scope.owned.alias(link.alias)))
        found.link.set(link.name, toLinkState(link, this.#nameOf));
  }

  #observeAddresses(scope: ObserveScope, found: ObjectMaps): void {
    for (const address of this.#options.rtnetlink.listAddresses()) {
      const state = toAddressState(address, this.#nameOf);
      if (state === undefined) continue;
      const key = keyOf('address', state);
      if (
        found.link.has(state.link) ||
        scope.desired.address.has(key) ||
        scope.owned.protocols.has(state.protocol ?? 0)
      )
        found.address.set(key, state);
    }
  }

  #observeNexthops(scope: ObserveScope, found: ObjectMaps): void {
    for (const nexthop of this.#options.rtnetlink.listNexthops()) {
      const state = toNexthopState(nexthop, this.#nameOf);
      if (state === undefined) continue;
      const key = keyOf('nexthop', state);
      if (scope.desired.nexthop.has(key) || scope.owned.protocols.has(nexthop.protocol))
        found.nexthop.set(key, state);
    }
  }

  #observeRoutes(scope: ObserveScope, found: ObjectMaps): void {
    for (const protocol of scope.owned.protocols)
      for (const route of this.#options.rtnetlink.listRoutes({ protocol })) {
        const state = toRouteState(route, this.#nameOf);
        if (state !== undefined) found.route.set(keyOf('route', state), state);
      }
  }

  #observeRules(scope: ObserveScope, found: ObjectMaps): void {
    for (const rule of this.#options.rtnetlink.listRules()) {
      const state = toRuleState(rule);
      const key = keyOf('rule', state);
      if (scope.owned.protocols.has(rule.protocol) || scope.desired.rule.has(key)) found.rule.set(key, state);
    }
  }

  #observeNeighbours(scope: ObserveScope, found: ObjectMaps): void {
    for (const neighbour of this.#options.rtnetlink.listNeighbours()) {
      const state = toNeighbourState(neighbour, this.#nameOf);
      if (state === undefined) continue;
      const key = keyOf('neighbour', state);
      if (
        found.link.has(state.link) ||
        scope.desired.neighbour.has(key) ||
        scope.owned.protocols.has(state.protocol ?? 0)
      )
        found.neighbour.set(key, state);
    }
  }

  #observeFdb(found: ObjectMaps): void {
    for (const [index, name] of this.names) {
      if (found.link.get(name)?.kind !== 'vxlan') continue;
      for (const entry of this.#options.rtnetlink.listFdb(index)) {
        const state = toFdbState(entry, this.#nameOf);
        if (state !== undefined) found.fdb.set(keyOf('fdb', state), state);
      }
    }
  }

  #observeSysctls(scope: ObserveScope, found: ObjectMaps): void {
    for (const [path, sysctl] of scope.desired.sysctl) {
      try {
        found.sysctl.set(path, { path, value: readSysctl(this.#options.netns, path) });
      } catch (error) {
        if (!hasCode(error, 'ENOENT')) throw error;
        if (sysctl.optional) found.sysctl.set(path, sysctl);
      }
    }
  }

  #observeFeatures(scope: ObserveScope, found: ObjectMaps): void {
    if (scope.desired.feature.size === 0) return;
    using ethtool = Ethtool.open(this.#options.netns);
    const active = new Map<string, Set<string> | undefined>();
    for (const [key, { link, name }] of scope.desired.feature) {
      if (!active.has(link)) active.set(link, activeFeatures(ethtool, link));
      const features = active.get(link);
      if (features !== undefined) found.feature.set(key, { link, name, on: features.has(name) });
    }
  }

  async #observeTable(name: string, scope: ObserveScope, found: ObjectMaps): Promise<void> {
    const family = name.startsWith('6') ? 6 : 4;
    const table = name.slice(2) as TableName;
    const { owned, desired } = scope;
    const view = await this.#options.iptables.view(family, table, chain =>
      desired.chain.has(`${family} ${table} ${chain}`),
    );
    if (view !== undefined) {
      const jumps = [...desired.jump.values()].filter(jump => jump.family === family && jump.table === table);
      const seen = await observeLegacy({
        family,
        table,
        view,
        chains: desired.chain,
        jumps,
        isOurs: chain => owned.chain(family, table, chain),
        save: () => this.#options.iptables.save(family, table),
      });
      if (seen !== undefined) {
        for (const [key, chain] of seen.chains) found.chain.set(key, chain);
        for (const jump of seen.jumps) found.jump.set(keyOf('jump', jump), jump);
        return;
      }
    }
    const chains = this.#read.get(name) ?? parseSave(await this.#options.iptables.save(family, table));
    this.#read.delete(name);
    const isOurs = (chain: string): boolean =>
      desired.chain.has(`${family} ${table} ${chain}`) || owned.chain(family, table, chain);
    for (const [chain, saved] of chains) {
      const rules = this.#options.texts.translateAll(saved.rules);
      if (!saved.builtIn) {
        if (isOurs(chain)) {
          const object = { family, table, name: chain, rules } as const;
          found.chain.set(keyOf('chain', object), object);
        }
        continue;
      }
      for (const rule of rules) {
        const object = { family, table, chain, rule, position: 'first', rank: 0 } as const;
        const key = keyOf('jump', object);
        const target = targetOf(rule);
        if (desired.jump.has(key) || (target !== undefined && isOurs(target))) found.jump.set(key, object);
      }
    }
  }

  /** Right after our own restore, what the dump shows of a chain is how it prints what we wrote. */
  async learn(tables: ReadonlySet<string>, desired: ObjectMaps): Promise<void> {
    for (const name of tables) {
      const family = name.startsWith('6') ? 6 : 4;
      const table = name.slice(2) as TableName;
      if ((await this.#options.iptables.choice()).backend === 'legacy') {
        // Bytes are compared as they are.
        if (this.#options.iptables.writesNatively(family, table)) continue;
      }
      const chains = parseSave(await this.#options.iptables.save(family, table));
      this.#read.set(name, chains);
      for (const [chain, saved] of chains) {
        const wanted = saved.builtIn
          ? [...desired.jump.values()]
              .filter(
                jump =>
                  jump.family === family &&
                  jump.table === table &&
                  jump.chain === chain &&
                  jump.position === 'first',
              )
              .sort((a, b) => a.rank - b.rank)
              .map(jump => jump.rule)
          : (desired.chain.get(`${family} ${table} ${chain}`)?.rules ?? []);
        if (saved.builtIn ? saved.rules.length < wanted.length : saved.rules.length !== wanted.length)
          continue;
        wanted.forEach((rule, i) => {
          // Most rules are written as the kernel prints them; looking at 100,000 of those twice takes its time.
          if (rule !== saved.rules[i] && sameTarget(rule, saved.rules[i]!))
            this.#options.texts.learn(saved.rules[i]!, rule);
        });
      }
    }
  }
}

/** Undefined for a link that is not there. */
function activeFeatures(ethtool: Ethtool, link: string): Set<string> | undefined {
  try {
    return ethtool.activeFeatures(link);
  } catch (error) {
    if (hasCode(error, 'ENODEV')) return undefined;
    throw error;
  }
}

/** A cheap guard against learning somebody else's rule. */
function sameTarget(a: string, b: string): boolean {
  return targetOf(a) === targetOf(b);
}
