// The objects of a KernelState, one by one: their kinds, what identifies each, when two are equal, how a person reads
// them. The diff, the merge of several rooms' wishes and the watch for drift all rest on these. Pure.
import type {
  AddressState,
  FdbState,
  FeatureState,
  KernelState,
  LinkState,
  NeighbourState,
  NexthopState,
  RouteState,
  RuleState,
  SysctlState,
  XtablesTableState,
} from './state.ts';

export type TableName = XtablesTableState['table'];

export interface ChainObject {
  family: 4 | 6;
  table: TableName;
  name: string;
  rules: readonly string[];
}

/** A rule kept in a chain that is not ours. */
export interface JumpObject {
  family: 4 | 6;
  table: TableName;
  chain: string;
  rule: string;
  position: 'first' | 'last';
  /** Its place among the jumps of its planner, so that several `first` ones keep their order. */
  rank: number;
}

export interface ObjectTypes {
  link: LinkState;
  address: AddressState;
  nexthop: NexthopState;
  route: RouteState;
  rule: RuleState;
  neighbour: NeighbourState;
  fdb: FdbState;
  sysctl: SysctlState;
  feature: FeatureState;
  chain: ChainObject;
  jump: JumpObject;
}

export type Kind = keyof ObjectTypes;

/** In the order in which they are made. */
export const KINDS: readonly Kind[] = [
  'link',
  'sysctl',
  'feature',
  'address',
  'neighbour',
  'fdb',
  'nexthop',
  'route',
  'rule',
  'chain',
  'jump',
];

/** Kinds that a dump of links, addresses, routes and so on shows; the rest is xtables. */
export const NETLINK_KINDS: readonly Kind[] = [
  'link',
  'sysctl',
  'feature',
  'address',
  'neighbour',
  'fdb',
  'nexthop',
  'route',
  'rule',
];
export const XTABLES_KINDS: readonly Kind[] = ['chain', 'jump'];

const MAIN_TABLE = 254;

const isV6 = (text: string): boolean => text.includes(':');

/** The kernel gives IPv6 routes the metric 1024 when none is asked for. */
function metricOf(route: RouteState): number {
  return route.metric ?? (isV6(route.destination) ? 1024 : 0);
}

/** A forwarding entry of one station has one destination; flooding entries have many. */
function isFlooding(mac: string): boolean {
  return mac === '00:00:00:00:00:00' || (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1;
}

const KEYS: { [K in Kind]: (object: ObjectTypes[K]) => string } = {
  link: o => o.name,
  address: o => `${o.link} ${o.address}`,
  nexthop: o => String(o.id),
  route: o => `${o.destination} ${o.table ?? MAIN_TABLE} ${metricOf(o)}`,
  rule: o =>
    `${o.family} ${o.priority} ${o.source ?? ''} ${o.destination ?? ''} ${o.fwmark ? `${o.fwmark.value}/${o.fwmark.mask}` : ''} ${o.table}`,
  neighbour: o => `${o.link} ${o.address}`,
  fdb: o => (isFlooding(o.mac) ? `${o.link} ${o.mac} ${o.destination}` : `${o.link} ${o.mac}`),
  sysctl: o => o.path,
  feature: o => `${o.link} ${o.name}`,
  chain: o => `${o.family} ${o.table} ${o.name}`,
  jump: o => `${o.family} ${o.table} ${o.chain} ${o.rule}`,
};

/** What tells an object from all others of its kind in the namespace. */
export function keyOf<K extends Kind>(kind: K, object: ObjectTypes[K]): string {
  return KEYS[kind](object);
}

function sameOptional<T>(wanted: T | undefined, found: T | undefined): boolean {
  return wanted === undefined || wanted === found;
}

/** A difference in these can only be mended by making the link anew. */
export function mustReplaceLink(wanted: LinkState, found: LinkState): boolean {
  if (wanted.kind === 'existing') return false;
  if (wanted.kind !== found.kind) return true;
  const { vxlan, ipip } = wanted;
  if (
    vxlan !== undefined &&
    (vxlan.vni !== found.vxlan?.vni ||
      vxlan.port !== found.vxlan.port ||
      vxlan.learning !== found.vxlan.learning ||
      (vxlan.gbp ?? false) !== (found.vxlan.gbp ?? false) ||
      !sameOptional(vxlan.local, found.vxlan.local) ||
      !sameOptional(vxlan.dev, found.vxlan.dev))
  )
    return true;
  return (
    ipip !== undefined &&
    (ipip.local !== found.ipip?.local ||
      ipip.remote !== found.ipip?.remote ||
      !sameOptional(ipip.dev, found.ipip?.dev))
  );
}

function sameLink(wanted: LinkState, found: LinkState): boolean {
  return (
    !mustReplaceLink(wanted, found) &&
    wanted.up === found.up &&
    sameOptional(wanted.mtuBytes, found.mtuBytes) &&
    sameOptional(wanted.mac, found.mac) &&
    sameOptional(wanted.master, found.master) &&
    sameOptional(wanted.alias, found.alias)
  );
}

function defaultScope(route: RouteState): string {
  if (isV6(route.destination)) return 'global';
  const viaGateway =
    route.gateway !== undefined ||
    route.nexthopId !== undefined ||
    route.nexthops?.some(hop => hop.gateway !== undefined);
  return (route.type ?? 'unicast') === 'unicast' && viaGateway !== true ? 'link' : 'global';
}

function hopText(hop: NonNullable<RouteState['nexthops']>[number]): string {
  return `${hop.gateway ?? ''} ${hop.link ?? ''} ${hop.weight ?? 1}`;
}

function sameRoute(wanted: RouteState, found: RouteState): boolean {
  const type = wanted.type ?? 'unicast';
  if (type !== (found.type ?? 'unicast') || wanted.protocol !== found.protocol) return false;
  if ((wanted.scope ?? defaultScope(wanted)) !== (found.scope ?? defaultScope(found))) return false;
  if (!sameOptional(wanted.source, found.source)) return false;
  if (type !== 'unicast') return true;
  if (wanted.nexthopId !== found.nexthopId) return false;
  if (wanted.nexthopId !== undefined) return true;
  if (wanted.nexthops !== undefined && wanted.nexthops.length > 1) {
    const hops = wanted.nexthops.map(hopText).sort();
    const there = (found.nexthops ?? []).map(hopText).sort();
    return hops.length === there.length && hops.every((hop, i) => hop === there[i]);
  }
  const { gateway, link, onlink } = wanted.nexthops?.[0] ?? wanted;
  return (
    found.nexthops === undefined &&
    gateway === found.gateway &&
    sameOptional(link, found.link) &&
    (onlink ?? false) === (found.onlink ?? false)
  );
}

function sameRules(wanted: readonly string[], found: readonly string[]): boolean {
  if (wanted === found) return true;
  if (wanted.length !== found.length) return false;
  for (let i = 0; i < wanted.length; i++) if (wanted[i] !== found[i]) return false;
  return true;
}

const EQUAL: { [K in Kind]: (wanted: ObjectTypes[K], found: ObjectTypes[K]) => boolean } = {
  link: sameLink,
  address: (a, b) => sameOptional(a.scope, b.scope),
  nexthop: (a, b) =>
    a.gateway === b.gateway && a.link === b.link && (a.onlink ?? false) === (b.onlink ?? false),
  route: sameRoute,
  rule: (a, b) => sameOptional(a.protocol, b.protocol),
  neighbour: (a, b) => a.mac === b.mac && a.state === b.state,
  fdb: (a, b) => a.destination === b.destination,
  sysctl: (a, b) => a.value.trim().split(/\s+/).join(' ') === b.value.trim().split(/\s+/).join(' '),
  feature: (a, b) => a.on === b.on,
  chain: (a, b) => sameRules(a.rules, b.rules),
  jump: () => true,
};

/** True when `found` is as `wanted` says; what `wanted` leaves open may be anything. */
export function isAsWanted<K extends Kind>(kind: K, wanted: ObjectTypes[K], found: ObjectTypes[K]): boolean {
  return EQUAL[kind](wanted, found);
}

function describeHop(hop: { gateway?: string; link?: string; onlink?: boolean }): string {
  return `${hop.gateway ? ` via ${hop.gateway}` : ''}${hop.link ? ` dev ${hop.link}` : ''}${hop.onlink ? ' onlink' : ''}`;
}

const DESCRIBE: { [K in Kind]: (object: ObjectTypes[K]) => string } = {
  link: o =>
    `link ${o.name} type ${o.kind} ${o.up ? 'up' : 'down'}${o.mtuBytes ? ` mtu ${o.mtuBytes}` : ''}${o.mac ? ` address ${o.mac}` : ''}${o.master ? ` master ${o.master}` : ''}${o.vxlan ? ` vni ${o.vxlan.vni} port ${o.vxlan.port} local ${o.vxlan.local ?? 'any'}${o.vxlan.dev ? ` dev ${o.vxlan.dev}` : ''}` : ''}`,
  address: o => `address ${o.address} dev ${o.link}`,
  nexthop: o => `nexthop id ${o.id}${describeHop(o)}`,
  route: o =>
    `route ${o.type && o.type !== 'unicast' ? `${o.type} ` : ''}${o.destination}${o.nexthopId === undefined ? '' : ` nhid ${o.nexthopId}`}${describeHop(o)}${(o.nexthops ?? []).map(hop => ` nexthop${describeHop(hop)}`).join('')}${(o.table ?? MAIN_TABLE) === MAIN_TABLE ? '' : ` table ${o.table}`} proto ${o.protocol}`,
  rule: o =>
    `rule ${o.priority} from ${o.source ?? 'all'}${o.destination ? ` to ${o.destination}` : ''}${o.fwmark ? ` fwmark 0x${o.fwmark.value.toString(16)}/0x${o.fwmark.mask.toString(16)}` : ''} table ${o.table}`,
  neighbour: o => `neighbour ${o.address} lladdr ${o.mac} dev ${o.link}`,
  fdb: o => `fdb entry ${o.mac} dst ${o.destination} dev ${o.link}`,
  sysctl: o => `sysctl ${o.path} = ${o.value}`,
  feature: o => `feature ${o.name} ${o.on ? 'on' : 'off'} dev ${o.link}`,
  chain: o =>
    `${o.family === 4 ? 'iptables' : 'ip6tables'} ${o.table} chain ${o.name} (${o.rules.length} rules)`,
  jump: o => `${o.family === 4 ? 'iptables' : 'ip6tables'} ${o.table} rule -A ${o.chain} ${o.rule}`,
};

/** As `ip` or iptables would write it. */
export function describeObject<K extends Kind>(kind: K, object: ObjectTypes[K]): string {
  return DESCRIBE[kind](object);
}

/** Stands for the link of a route that names a gateway only: the kernel finds it, so it may be any. */
export const ANY_LINK = '';

/** The links an object needs: when one of them goes, so may the object. */
export function linksOf<K extends Kind>(kind: K, object: ObjectTypes[K]): string[] {
  if (kind === 'route') {
    const route = object as RouteState;
    return [route, ...(route.nexthops ?? [])].flatMap(
      ({ link, gateway }) => link ?? (gateway === undefined ? [] : ANY_LINK),
    );
  }
  if (kind === 'link') {
    const link = object as LinkState;
    return [link.name, link.master, link.vxlan?.dev, link.ipip?.dev].filter(name => name !== undefined);
  }
  if (
    kind === 'address' ||
    kind === 'neighbour' ||
    kind === 'fdb' ||
    kind === 'nexthop' ||
    kind === 'feature'
  )
    return [(object as AddressState).link];
  return [];
}

/** A table of desired or observed objects. */
export type ObjectMap<K extends Kind> = Map<string, ObjectTypes[K]>;
export type ObjectMaps = { [K in Kind]: ObjectMap<K> };

export function emptyMaps(): ObjectMaps {
  return {
    link: new Map(),
    address: new Map(),
    nexthop: new Map(),
    route: new Map(),
    rule: new Map(),
    neighbour: new Map(),
    fdb: new Map(),
    sysctl: new Map(),
    feature: new Map(),
    chain: new Map(),
    jump: new Map(),
  };
}

export function chainObject(
  table: XtablesTableState,
  chain: XtablesTableState['chains'][number],
): ChainObject {
  return { family: table.family, table: table.table, name: chain.name, rules: chain.rules };
}

export function jumpObject(table: XtablesTableState, rank: number): JumpObject {
  return { family: table.family, table: table.table, rank, ...table.jumps[rank]! };
}

/** Every object of a state under its key; of two with one key the later one stays. */
export function indexState(state: KernelState): ObjectMaps {
  const maps = emptyMaps();
  const fill = <K extends Kind>(kind: K, objects: readonly ObjectTypes[K][] | undefined): void => {
    const map: Map<string, ObjectTypes[K]> = maps[kind];
    for (const object of objects ?? []) map.set(keyOf(kind, object), object);
  };
  fill('link', state.links);
  fill('address', state.addresses);
  fill('nexthop', state.nexthops);
  fill('route', state.routes);
  fill('rule', state.rules);
  fill('neighbour', state.neighbours);
  fill('fdb', state.fdb);
  fill('sysctl', state.sysctls);
  fill('feature', state.features);
  for (const table of state.xtables ?? []) {
    fill(
      'chain',
      table.chains.map(chain => chainObject(table, chain)),
    );
    fill(
      'jump',
      table.jumps.map((_, rank) => jumpObject(table, rank)),
    );
  }
  return maps;
}
