// Desired state against observed state: the smallest ordered list of operations between them. Pure.
// Nothing that is not owned is ever deleted; an object of somebody else in the way is left to the kernel to refuse.
import {
  describeObject,
  indexState,
  isAsWanted,
  KINDS,
  type Kind,
  mustReplaceLink,
  type ObjectMaps,
  type ObjectTypes,
} from './objects.ts';
import type {
  AddressState,
  FdbState,
  KernelState,
  LinkState,
  NeighbourState,
  RouteState,
  SysctlState,
} from './state.ts';

export type Action = 'add' | 'change' | 'delete';

export type Operation = { [K in Kind]: OperationOf<K> }[Kind];

export interface OperationOf<K extends Kind> {
  action: Action;
  kind: K;
  key: string;
  /** Absent when it is deleted. */
  desired?: ObjectTypes[K];
  /** Absent when it is added. */
  observed?: ObjectTypes[K];
}

/** What of the observed state is ours to delete. */
export interface Ownership {
  /** Of a link's alias. */
  alias: (alias: string) => boolean;
  /** Route protocol numbers, which also mark rules, addresses and neighbours. */
  protocols: ReadonlySet<number>;
  /** Chain names. */
  chain: (family: 4 | 6, table: string, name: string) => boolean;
}

/** Says for every object of a dump whether it is ours. */
export function isOwned<K extends Kind>(
  kind: K,
  object: ObjectTypes[K],
  owned: Ownership,
  ownLinks: ReadonlySet<string>,
): boolean {
  const marked = (protocol: number | undefined): boolean =>
    protocol !== undefined && owned.protocols.has(protocol);
  switch (kind) {
    case 'link': {
      const { alias } = object as LinkState;
      return alias !== undefined && owned.alias(alias);
    }
    case 'route':
    case 'rule':
    case 'nexthop':
      return marked((object as RouteState).protocol);
    case 'address':
    case 'neighbour': {
      const { link, protocol } = object as AddressState | NeighbourState;
      return marked(protocol) || ownLinks.has(link);
    }
    case 'fdb':
      return ownLinks.has((object as FdbState).link);
    case 'chain': {
      const chain = object as ObjectTypes['chain'];
      return owned.chain(chain.family, chain.table, chain.name);
    }
    case 'jump':
      // The dump only shows rules of built-in chains that lead into chains of ours.
      return true;
    default:
      return false;
  }
}

/** The links that are ours by their alias. */
export function ownedLinks(links: Iterable<LinkState>, owned: Ownership): Set<string> {
  const names = new Set<string>();
  for (const link of links) if (link.alias !== undefined && owned.alias(link.alias)) names.add(link.name);
  return names;
}

export interface DiffOptions {
  /** Only these kinds; all unless told. */
  kinds?: ReadonlySet<Kind>;
  /** Whether to delete what is owned and not desired; true unless told. */
  prune?: boolean;
}

/** The operations that turn `observed` into `desired`, in the order in which they can be done. */
export function diffState(
  desired: KernelState,
  observed: KernelState,
  owned: Ownership,
  options: DiffOptions = {},
): Operation[] {
  return diffMaps(indexState(desired), indexState(observed), owned, options);
}

/** diffState on indexed states. */
export function diffMaps(
  desired: ObjectMaps,
  observed: ObjectMaps,
  owned: Ownership,
  options: DiffOptions = {},
): Operation[] {
  const operations: Operation[] = [];
  const ownLinks = ownedLinks(observed.link.values(), owned);
  // Whatever hangs on a link that is made anew goes with the old one.
  const lost = new Set<string>();
  const made = new Set<string>();
  for (const [name, wanted] of desired.link) {
    const found = observed.link.get(name);
    if (found !== undefined && ownLinks.has(name) && mustReplaceLink(wanted, found)) lost.add(name);
    if (lost.has(name) || (found === undefined && wanted.kind !== 'existing' && hasKind(options, 'link')))
      made.add(name);
  }
  const diffKind = <K extends Kind>(kind: K): void => {
    if (!hasKind(options, kind)) return;
    const wanted: Map<string, ObjectTypes[K]> = desired[kind];
    const found: Map<string, ObjectTypes[K]> = observed[kind];
    for (const [key, object] of wanted) {
      let there = found.get(key);
      if (there !== undefined && kind !== 'link' && lost.has((there as AddressState).link)) there = undefined;
      // The settings of a link that is about to be made are the kernel's own choice until they are written.
      if (kind === 'sysctl' && isOfLink(object as SysctlState, made)) there = undefined;
      if (there === undefined) push(operations, { action: 'add', kind, key, desired: object });
      else if (!isAsWanted(kind, object, there))
        push(operations, { action: 'change', kind, key, desired: object, observed: there });
    }
    if (options.prune === false) return;
    for (const [key, object] of found)
      if (!wanted.has(key) && isOwned(kind, object, owned, ownLinks))
        push(operations, { action: 'delete', kind, key, observed: object });
  };
  for (const kind of KINDS) diffKind(kind);
  return orderOperations(operations);
}

function hasKind({ kinds }: DiffOptions, kind: Kind): boolean {
  return kinds === undefined || kinds.has(kind);
}

/** `net/ipv6/conf/LINK/accept_ra` */
function isOfLink({ path }: SysctlState, links: ReadonlySet<string>): boolean {
  return links.size > 0 && path.split('/').some(part => links.has(part));
}

function push<K extends Kind>(operations: Operation[], operation: OperationOf<K>): void {
  operations.push(operation as Operation);
}

const LAST_RANK = 100;
const PLACE = Object.fromEntries(KINDS.map((kind, place) => [kind, place])) as Readonly<Record<Kind, number>>;

/** Deletions from the outside in, then everything else from the inside out; direct routes before routes via them. */
function rank(operation: Operation): number {
  const { action, kind } = operation;
  if (kind === 'chain' || kind === 'jump') return LAST_RANK;
  // Last: the routes that used it are replaced by then; a next hop that goes takes its routes along.
  if (action === 'delete' && kind === 'nexthop') return LAST_RANK - 1;
  if (action === 'delete') return KINDS.length - PLACE[kind];
  const base = 20 + PLACE[kind] * 4;
  if (operation.kind === 'link') {
    const { kind: linkKind, master, vxlan } = operation.desired ?? {};
    return base + (linkKind === 'existing' || master !== undefined ? 2 : vxlan?.dev !== undefined ? 1 : 0);
  }
  if (operation.kind === 'route') {
    const { gateway, nexthops } = operation.desired ?? {};
    return base + (gateway !== undefined || nexthops !== undefined ? 1 : 0);
  }
  return base;
}

/** In the order in which they can be done; the order within a step stays. */
export function orderOperations(operations: readonly Operation[]): Operation[] {
  const steps: Operation[][] = Array.from({ length: LAST_RANK + 1 }, () => []);
  for (const operation of operations) steps[rank(operation)]!.push(operation);
  return steps.flat();
}

/** `add route 10.244.1.0/24 via …`. */
export function describeOperation(operation: Operation): string {
  const { action, kind, desired, observed } = operation;
  const object = desired ?? observed;
  return `${action} ${object === undefined ? `${kind} ${operation.key}` : describeObject(kind, object)}`;
}
