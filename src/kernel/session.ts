// The reconciler's hands in one namespace: its netlink socket, its iptables, and what it knows to be in the kernel.
// One pass applies what became dirty against what is known, and compares the suspected kinds with a dump.
import { PodwireError } from '../lib/errors.ts';
import { Iptables, type IptablesBackend } from '../linux/iptables.ts';
import type { Netns } from '../linux/netns.ts';
import { Rtnetlink } from '../linux/rtnetlink.ts';
import { applyOperations, type Failure } from './apply.ts';
import { aliasOf, type DesiredIndex, type DirtyKeys, markOf } from './desired.ts';
import { describeOperation, diffMaps, type Operation, type Ownership, orderOperations } from './diff.ts';
import type { DriftContext } from './drift.ts';
import {
  emptyMaps,
  isAsWanted,
  KINDS,
  type Kind,
  NETLINK_KINDS,
  type ObjectMaps,
  type ObjectTypes,
  XTABLES_KINDS,
} from './objects.ts';
import { Observer } from './observe.ts';
import { RuleTexts } from './xtables-text.ts';

export type { Failure } from './apply.ts';

/** A replaced link takes routes along that only the next dump shows to be missing. */
const ROUNDS = 4;

export interface SessionOptions {
  index: DesiredIndex;
  netns?: Netns;
  lockDirectory?: string;
  iptablesBackend?: IptablesBackend;
  /** Rooms whose marks are ours. */
  rooms: () => ReadonlySet<string>;
  onRestore: (pid: number) => void;
  /** Told why rules went through iptables-restore instead of straight to the kernel. */
  onFallback: (reason: string) => void;
}

export interface PassResult {
  failures: Failure[];
  /** Everything that was tried. */
  tried: Operation[][];
  /** Done because the kernel differed from what was known, not because the wish changed. */
  mended: Operation[];
}

export class KernelSession {
  readonly iptables: Iptables;
  readonly #options: SessionOptions;
  readonly #rtnetlink: Rtnetlink;
  /** Links that are down, as far as notifications have told. */
  readonly #down = new Set<number>();
  readonly #observer: Observer;
  readonly #known: ObjectMaps = emptyMaps();

  constructor(options: SessionOptions) {
    this.#options = options;
    const { netns, lockDirectory, iptablesBackend, onFallback } = options;
    this.#rtnetlink = Rtnetlink.open(netns);
    this.iptables = new Iptables({
      onFallback,
      ...(netns !== undefined && { netns }),
      ...(lockDirectory !== undefined && { lockDirectory }),
      ...(iptablesBackend !== undefined && { backend: iptablesBackend }),
    });
    this.#observer = new Observer({
      rtnetlink: this.#rtnetlink,
      iptables: this.iptables,
      texts: new RuleTexts(),
      ...(netns !== undefined && { netns }),
    });
  }

  close(): void {
    this.#rtnetlink.close();
  }

  /** After a failure in the middle: nothing is known for sure. */
  forget(): void {
    for (const kind of KINDS) this.#known[kind].clear();
  }

  #ownership(): Ownership {
    const { index } = this.#options;
    const rooms = this.#options.rooms();
    const aliases = new Set([...rooms].map(aliasOf));
    for (const link of index.objects.link.values()) if (link.alias !== undefined) aliases.add(link.alias);
    for (const link of this.#known.link.values()) if (link.alias !== undefined) aliases.add(link.alias);
    const protocols = new Set(index.routeProtocols);
    for (const room of rooms) {
      const mark = markOf(room);
      if (mark !== undefined) protocols.add(mark);
    }
    return {
      alias: alias => aliases.has(alias),
      protocols,
      chain: (family, table, name) =>
        index.ownsChain(family, table, name) || this.#known.chain.has(`${family} ${table} ${name}`),
    };
  }

  driftContext(): DriftContext {
    const { index } = this.#options;
    return {
      desired: index.objects,
      owned: this.#ownership(),
      isUsed: link => index.linkUses.has(link),
      names: this.#observer.names,
      down: this.#down,
    };
  }

  /** The operations between the kernel as it is and what is desired. */
  async compare(kinds: ReadonlySet<Kind>, prune: boolean): Promise<Operation[]> {
    const { index } = this.#options;
    const owned = this.#ownership();
    const observed = await this.#observer.observe({
      kinds,
      desired: index.objects,
      owned,
      tables: index.tables,
    });
    return diffMaps(index.objects, observed, owned, { kinds, prune });
  }

  /** `suspects` are compared with a dump; what else changed is applied against what is known. */
  async pass(suspects: ReadonlySet<Kind>, prune: boolean): Promise<PassResult> {
    const { index } = this.#options;
    const dirty = index.takeDirty();
    const kinds = new Set(suspects);
    // Everything hangs on links: when one changes, look at the whole.
    if (dirty.has('link')) for (const kind of NETLINK_KINDS) kinds.add(kind);
    const result: PassResult = { failures: [], tried: [], mended: [] };
    const incremental = this.#incremental(dirty, kinds);
    if (incremental.length > 0) {
      const failures = await this.#apply(incremental);
      this.#know(incremental, failures);
      result.failures.push(...failures);
      result.tried.push(incremental);
    }
    if (kinds.size > 0) await this.#compareAndApply(kinds, prune, dirty, result);
    return result;
  }

  #incremental(dirty: DirtyKeys, compared: ReadonlySet<Kind>): Operation[] {
    const operations: Operation[] = [];
    for (const [kind, keys] of dirty) {
      if (compared.has(kind)) continue;
      for (const key of keys) {
        const operation = this.#incrementalOne(kind, key);
        if (operation !== undefined) operations.push(operation);
      }
    }
    return orderOperations(operations);
  }

  #incrementalOne<K extends Kind>(kind: K, key: string): Operation | undefined {
    const desired: ObjectTypes[K] | undefined = this.#options.index.objects[kind].get(key);
    const observed: ObjectTypes[K] | undefined = this.#known[kind].get(key);
    if (desired === undefined)
      return observed === undefined ? undefined : ({ action: 'delete', kind, key, observed } as Operation);
    if (observed === undefined) return { action: 'add', kind, key, desired } as Operation;
    if (isAsWanted(kind, desired, observed)) return undefined;
    return { action: 'change', kind, key, desired, observed } as Operation;
  }

  #apply(operations: readonly Operation[]): Promise<Failure[]> {
    const { netns, index, onRestore } = this.#options;
    const owned = this.#ownership();
    return applyOperations(operations, index.objects, {
      rtnetlink: this.#rtnetlink,
      iptables: this.iptables,
      ownsAlias: owned.alias,
      onRestore,
      ...(netns !== undefined && { netns }),
    });
  }

  /** What was done is known; what failed is not. */
  #know(operations: readonly Operation[], failures: readonly Failure[]): void {
    const failed = new Set(failures.map(failure => failure.operation));
    for (const operation of operations) {
      const known = this.#known[operation.kind] as Map<string, unknown>;
      if (failed.has(operation)) {
        if (operation.action !== 'delete') known.delete(operation.key);
      } else if (operation.desired === undefined) known.delete(operation.key);
      else known.set(operation.key, operation.desired);
    }
  }

  async #compareAndApply(
    kinds: ReadonlySet<Kind>,
    prune: boolean,
    dirty: DirtyKeys,
    result: PassResult,
  ): Promise<void> {
    let left: Operation[] = [];
    let open = kinds;
    for (let round = 0; round < ROUNDS; round++) {
      const operations = await this.compare(open, prune);
      // Also what was asked for while the kernel was being read is no drift.
      const asked = new Set(
        operations.filter(
          ({ kind, key }) => dirty.get(kind)?.has(key) === true || this.#options.index.isDirtyKey(kind, key),
        ),
      );
      this.#adopt(open, operations);
      // What failed in an earlier round of this pass waits for the retry, and so do the settings of a link that failed.
      left =
        round === 0 && result.failures.length === 0 ? operations : stillOpen(operations, result.failures);
      if (left.length === 0) return;
      const failures = await this.#apply(left);
      this.#know(left, failures);
      result.failures.push(...failures);
      result.tried.push(left);
      if (round === 0) {
        const failed = new Set(failures.map(failure => failure.operation));
        for (const op of left) if (!asked.has(op) && !failed.has(op)) result.mended.push(op);
      }
      if (failures.length === 0) open = needAnotherLook(open, left);
      const tables = tablesOf(left);
      if (tables.size > 0) await this.#observer.learn(tables, this.#options.index.objects);
    }
    for (const operation of left)
      result.failures.push({
        operation,
        error: new PodwireError(
          'NOT_CONVERGED',
          `${describeOperation(operation)}: done, but the kernel still does not show it`,
        ),
      });
  }

  /** Called right after a comparison: everything desired is there, except what operations are about to mend. */
  #adopt(kinds: ReadonlySet<Kind>, operations: readonly Operation[]): void {
    const doomed = new Set(operations.filter(op => op.action === 'delete').map(op => `${op.kind} ${op.key}`));
    const copy = <K extends Kind>(kind: K): void => {
      const known: Map<string, ObjectTypes[K]> = this.#known[kind];
      const desired: Map<string, ObjectTypes[K]> = this.#options.index.objects[kind];
      for (const key of known.keys())
        if (!desired.has(key) && !doomed.has(`${kind} ${key}`)) known.delete(key);
      for (const [key, object] of desired) known.set(key, object);
    };
    for (const kind of kinds) copy(kind);
  }
}

function stillOpen(operations: readonly Operation[], failures: readonly Failure[]): Operation[] {
  const failed = new Set(failures.map(({ operation }) => `${operation.kind} ${operation.key}`));
  return operations.filter(
    ({ kind, action, key }) => !(kind === 'sysctl' && action === 'add') && !failed.has(`${kind} ${key}`),
  );
}

/** Kinds of which there may be many thousands, and that nobody but us changes when one is added. */
const LARGE_KINDS: ReadonlySet<Kind> = new Set(['neighbour', 'fdb', 'nexthop', 'route']);

/**
 * What to dump again after these operations, all of which the kernel acknowledged: everything when a link, an address
 * or a next hop may have taken others along, else not the large tables, whose every entry was answered for by itself.
 */
function needAnotherLook(kinds: ReadonlySet<Kind>, done: readonly Operation[]): ReadonlySet<Kind> {
  const takesAlong = ({ kind, action, desired }: Operation): boolean =>
    kind === 'link'
      ? action !== 'add' || desired?.kind === 'existing'
      : action !== 'add' && (kind === 'address' || (kind === 'nexthop' && action === 'delete'));
  if (done.some(takesAlong)) return kinds;
  return new Set([...kinds].filter(kind => !LARGE_KINDS.has(kind)));
}

function tablesOf(operations: readonly Operation[]): Set<string> {
  const tables = new Set<string>();
  for (const operation of operations) {
    if (!XTABLES_KINDS.includes(operation.kind)) continue;
    const { family, table } = (operation.desired ?? operation.observed) as ObjectTypes['chain'];
    tables.add(`${family} ${table}`);
  }
  return tables;
}
