// Does operations: netlink requests in batches, sysctls, one iptables transaction a table. An operation that fails
// does not stop the others; each failure comes back with its operation.
import type { TableCommand } from '../codec/xtables/transaction.ts';
import { errorMessage, hasCode, PodwireError } from '../lib/errors.ts';
import { Ethtool } from '../linux/ethtool.ts';
import type { Iptables } from '../linux/iptables.ts';
import type { Netns } from '../linux/netns.ts';
import type { Rtnetlink } from '../linux/rtnetlink.ts';
import type { RtnetlinkBatch } from '../linux/rtnetlink-batch.ts';
import type { LinkSettings, LinkSpec, RouteSpec } from '../linux/rtnetlink-specs.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import type { Operation, OperationOf } from './diff.ts';
import { type Kind, mustReplaceLink, type ObjectMaps } from './objects.ts';
import type { LinkState, RouteState } from './state.ts';
import { findReplaceable } from './take-over.ts';
import { buildTransaction } from './xtables-text.ts';

export interface Failure {
  operation: Operation;
  error: PodwireError;
}

export interface ApplyContext {
  rtnetlink: Rtnetlink;
  iptables: Iptables;
  netns?: Netns;
  /** True for aliases of links that are ours. */
  ownsAlias: (alias: string) => boolean;
  /** Told of the process that writes rules, so that its notifications are known as our own. */
  onRestore?: (pid: number) => void;
}

/** Kinds that are not written by rtnetlink. */
const OTHER_KINDS: ReadonlySet<Kind> = new Set(['chain', 'jump', 'sysctl', 'feature']);

/** What is already gone needs no deleting. */
const GONE = new Set(['ESRCH', 'ENOENT', 'ENODEV', 'EADDRNOTAVAIL']);

/** `operations` in the order diffMaps gives them; `desired` is everything desired, not only what changes. */
export async function applyOperations(
  operations: readonly Operation[],
  desired: ObjectMaps,
  context: ApplyContext,
): Promise<Failure[]> {
  const failures: Failure[] = [];
  const netlink = operations.filter(op => !OTHER_KINDS.has(op.kind));
  // Sysctls of a link exist with the link and count from before it is up (accept_ra, accept_dad).
  const isEarly = (op: Operation): boolean =>
    op.kind === 'link' || (op.action === 'delete' && op.kind !== 'nexthop');
  const early = netlink.filter(isEarly);
  const late = netlink.filter(op => !isEarly(op));
  sendBatch(early, context, failures, (batch, op) => writeEarly(batch, op, context));
  for (const operation of operations) {
    if (operation.desired === undefined) continue;
    if (operation.kind === 'sysctl') applySysctl(operation, context, failures);
    else if (operation.kind === 'feature') applyFeature(operation, context, failures);
  }
  const raised = early.filter(op => isNewLink(op) && !failures.some(failure => failure.operation === op));
  const refused: Failure[] = [];
  sendBatch([...raised, ...late], context, refused, writeLate);
  failures.push(...takeOverRoutes(refused, desired, context));
  await applyTables(operations, desired, context, failures);
  return failures;
}

/** Sends again, as replacements, what only a predecessor's route is in the way of; the failures that remain. */
function takeOverRoutes(refused: Failure[], desired: ObjectMaps, context: ApplyContext): Failure[] {
  const routes = refused.flatMap(({ operation, error }) =>
    operation.kind === 'route' && operation.desired && error.code === 'EEXIST' ? [operation.desired] : [],
  );
  if (routes.length === 0) return refused;
  const replaceable = findReplaceable(routes, desired, context);
  const mayReplace = ({ operation }: Failure): boolean =>
    operation.kind === 'route' && operation.desired !== undefined && replaceable.has(operation.desired);
  const remaining = refused.filter(failure => !mayReplace(failure));
  const again = refused.filter(mayReplace).map(({ operation }) => operation);
  sendBatch(again, context, remaining, (batch, { desired: route }) =>
    batch.addRoute({ ...(route as RouteState), replace: true }),
  );
  return remaining;
}

function sendBatch(
  operations: readonly Operation[],
  context: ApplyContext,
  failures: Failure[],
  write: (batch: RtnetlinkBatch, operation: Operation) => void,
): void {
  if (operations.length === 0) return;
  const failed = context.rtnetlink.tryBatch(batch => {
    for (const operation of operations) {
      batch.tag = operation;
      try {
        write(batch, operation);
      } catch (error) {
        failures.push({ operation, error: asPodwireError(error) });
      }
    }
  });
  for (const { tag, error } of failed) {
    const operation = tag as Operation;
    if (operation.action === 'delete' && GONE.has(error.code)) continue;
    failures.push({ operation, error });
  }
}

function asPodwireError(error: unknown): PodwireError {
  return error instanceof PodwireError
    ? error
    : new PodwireError('EIO', errorMessage(error), { cause: error });
}

function isNewLink(operation: Operation): operation is OperationOf<'link'> & { kind: 'link' } {
  return (
    operation.kind === 'link' &&
    operation.desired?.up === true &&
    (operation.action === 'add' ||
      (operation.observed !== undefined && mustReplaceLink(operation.desired, operation.observed)))
  );
}

function linkSpec(link: LinkState): LinkSpec {
  const { name, kind, mtuBytes, mac, master, alias, vxlan, ipip } = link;
  return {
    name,
    kind,
    ...(mtuBytes !== undefined && { mtuBytes }),
    ...(mac !== undefined && { mac }),
    ...(master !== undefined && { master }),
    ...(alias !== undefined && { alias }),
    ...(vxlan !== undefined && { vxlan }),
    ...(ipip !== undefined && { tunnel: ipip }),
  };
}

function linkChange(wanted: LinkState, found: LinkState): LinkSettings {
  const change: LinkSettings = {};
  if (wanted.mtuBytes !== undefined && wanted.mtuBytes !== found.mtuBytes) change.mtuBytes = wanted.mtuBytes;
  if (wanted.mac !== undefined && wanted.mac !== found.mac) change.mac = wanted.mac;
  if (wanted.master !== undefined && wanted.master !== found.master) change.master = wanted.master;
  if (wanted.alias !== undefined && wanted.alias !== found.alias) change.alias = wanted.alias;
  if (wanted.up !== found.up) change.up = wanted.up;
  return change;
}

function writeLink(batch: RtnetlinkBatch, op: OperationOf<'link'>, context: ApplyContext): void {
  const { desired, observed, key } = op;
  if (desired === undefined) {
    batch.delLink(key);
  } else if (observed === undefined) {
    const kind = desired.kind === 'existing' ? desired.fallbackOf : desired.kind;
    if (kind === undefined) throw new PodwireError('ENODEV', `set link ${key}: there is no such link yet`);
    batch.addLink(linkSpec({ ...desired, kind }));
  } else if (desired.kind === 'existing') {
    batch.setLink(key, linkChange(desired, observed));
  } else {
    const ours = observed.alias !== undefined && context.ownsAlias(observed.alias);
    const replace = mustReplaceLink(desired, observed);
    // A link without any mark that is exactly as wanted is taken over, as from flannel; anything else is not ours.
    if (!ours && (replace || observed.alias !== undefined))
      throw new PodwireError(
        'NOT_OURS',
        `link ${key} is there, differs from what is wanted, and is not ours`,
      );
    if (replace) {
      batch.delLink(key);
      batch.addLink(linkSpec(desired));
    } else batch.setLink(key, linkChange(desired, observed));
  }
}

/** Deletions and links; a new link stays down until its sysctls are set. */
function writeEarly(batch: RtnetlinkBatch, op: Operation, context: ApplyContext): void {
  if (op.kind === 'link') {
    writeLink(batch, op, context);
    return;
  }
  switch (op.kind) {
    case 'rule':
      batch.delRule(op.observed!);
      break;
    case 'route':
      batch.delRoute(routeIdentity(op.observed!));
      break;
    case 'fdb':
      batch.delFdb(op.observed!);
      break;
    case 'neighbour': {
      const { link, address } = op.observed!;
      batch.delNeighbour({ link, address });
      break;
    }
    case 'address':
      batch.delAddress(op.observed!);
      break;
    default:
      break;
  }
}

/** Enough to meet this route and no other: not the gateway, which somebody may have changed. */
function routeIdentity(route: RouteState): RouteSpec {
  const { destination, table, metric, protocol, type } = route;
  return {
    destination,
    protocol,
    ...(table !== undefined && { table }),
    ...(metric !== undefined && { metric }),
    ...(type !== undefined && { type }),
  };
}

function writeLate(batch: RtnetlinkBatch, op: Operation): void {
  const replace = op.action === 'change';
  switch (op.kind) {
    case 'link':
      batch.setLink(op.key, { up: true });
      break;
    case 'address':
      if (replace) batch.delAddress(op.observed!);
      batch.addAddress({ ...op.desired!, noDad: true, replace: true });
      break;
    case 'neighbour': {
      const { state: _, ...neighbour } = op.desired!;
      batch.setNeighbour(neighbour);
      break;
    }
    case 'fdb':
      if (op.key === `${op.desired!.link} ${op.desired!.mac}`) batch.setFdb(op.desired!);
      else batch.appendFdb(op.desired!);
      break;
    case 'nexthop': {
      if (op.desired === undefined) batch.delNexthop(Number(op.key));
      else batch.setNexthop(op.desired);
      break;
    }
    case 'route':
      batch.addRoute({ ...op.desired!, replace });
      break;
    case 'rule':
      if (replace) batch.delRule(op.observed!);
      batch.addRule(op.desired!);
      break;
    default:
      break;
  }
}

function applySysctl(op: OperationOf<'sysctl'>, context: ApplyContext, failures: Failure[]): void {
  const { path, value, optional } = op.desired!;
  try {
    writeSysctl(context.netns, path, value);
  } catch (error) {
    if (optional && hasCode(error, 'ENOENT')) return;
    failures.push({ operation: op as Operation, error: asPodwireError(error) });
  }
}

function applyFeature(op: OperationOf<'feature'>, context: ApplyContext, failures: Failure[]): void {
  const { link, name, on } = op.desired!;
  try {
    using ethtool = Ethtool.open(context.netns);
    ethtool.setFeature(link, name, on);
  } catch (error) {
    failures.push({ operation: op as Operation, error: asPodwireError(error) });
  }
}

/**
 * Tables are separate transactions. A Service without endpoints is refused in `filter`, one with endpoints rewritten in
 * `nat`; a connection that begins between the two would be neither, and conntrack would remember it so until it ends.
 * So `filter` comes before the others when it grows, and after them when it shrinks.
 */
function inSafeOrder(tables: ReadonlyMap<string, Operation[]>): [string, Operation[]][] {
  const rules = (op: Operation, which: 'desired' | 'observed'): number =>
    op.kind === 'chain' ? (op[which]?.rules.length ?? 0) : 0;
  const growth = (list: Operation[]): number =>
    list.reduce((sum, op) => sum + rules(op, 'desired') - rules(op, 'observed'), 0);
  const rank = ([name, list]: [string, Operation[]]): number =>
    name.endsWith(' filter') ? (growth(list) < 0 ? 1 : -1) : 0;
  return [...tables].sort((a, b) => a[0].charCodeAt(0) - b[0].charCodeAt(0) || rank(a) - rank(b));
}

async function applyTables(
  operations: readonly Operation[],
  desired: ObjectMaps,
  context: ApplyContext,
  failures: Failure[],
): Promise<void> {
  const tables = new Map<string, Operation[]>();
  for (const op of operations) {
    if (op.kind !== 'chain' && op.kind !== 'jump') continue;
    const { family, table } = (op.desired ?? op.observed)!;
    const name = `${family} ${table}`;
    const list = tables.get(name);
    if (list === undefined) tables.set(name, [op]);
    else list.push(op);
  }
  for (const [name, list] of inSafeOrder(tables)) {
    const family = name.startsWith('6') ? 6 : 4;
    const table = name.slice(2);
    const transaction = buildTransaction(table, list, desired.jump);
    const change = (commands: readonly TableCommand[]): Promise<void> =>
      context.iptables.change(family, { table, commands }, context.onRestore);
    const fail = (error: unknown, which: (op: Operation) => boolean): void => {
      for (const operation of list)
        if (which(operation)) failures.push({ operation, error: asPodwireError(error) });
    };
    try {
      await change(transaction.commands);
    } catch (error) {
      const { withoutRemoval, removal } = transaction;
      if (withoutRemoval === undefined || removal === undefined) {
        fail(error, () => true);
        continue;
      }
      // Perhaps a rule of somebody else still leads into a chain that should go.
      const isRemoval = (op: Operation): boolean => op.kind === 'chain' && op.action === 'delete';
      const first = await change(withoutRemoval).then(
        () => undefined,
        (thrown: unknown) => thrown ?? error,
      );
      if (first !== undefined) fail(first, () => true);
      else await change(removal).catch((thrown: unknown) => fail(thrown, isRemoval));
    }
  }
}
