// The one way to the kernel's network configuration of a namespace. Planners say what they want (setDesired); the
// reconciler merges it, applies the difference to what it applied last, and keeps it so:
//
//   setDesired ─▶ DesiredIndex ─dirty keys─▶ operations ─▶ apply ─▶ known
//                      │                          ▲            └─ failures ─▶ retry with back-off
//   notifications ─▶ driftOf ─▶ kinds ─▶ dump ─▶ diff        (also at start, every 30 s, and by verify())
//
// Nothing that is not ours (Ownership) is touched. Stopping leaves everything in place, and a new start adopts it:
// what is found of ours and not wanted is removed as soon as every room it was told of has spoken.
import { NETLINK_ROUTE } from '../codec/netlink/constants.ts';
import { decodeRouteEvent } from '../codec/netlink/event.ts';
import type { NetlinkMessage } from '../codec/netlink/message.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import type { IptablesChoice } from '../linux/iptables.ts';
import { NetlinkMonitor } from '../linux/netlink-monitor.ts';
import type { Logger } from '../observe/log.ts';
import { DesiredIndex } from './desired.ts';
import { describeOperation, type Operation } from './diff.ts';
import { bringsLink, DRIFT_GROUPS, driftOf } from './drift.ts';
import { FallbackLog } from './fallback-log.ts';
import { KINDS, type Kind, NETLINK_KINDS, XTABLES_KINDS } from './objects.ts';
import type { KernelReconcilerOptions, Repair } from './reconciler-options.ts';
import { type Failure, KernelSession } from './session.ts';
import type { KernelState } from './state.ts';
import { XtablesWatch } from './xtables-watch.ts';

export type { KernelReconcilerOptions, Repair } from './reconciler-options.ts';

const VERIFY_INTERVAL_MS = 30_000;
const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 30_000;
/** Notifications come in bursts; and who fights with us over an object is answered, but not at full speed. */
const DRIFT_DELAY_MS = 10;
const DRIFT_GAP_MS = 200;
const LOGGED_FAILURES = 5;

interface Waiter<T> {
  generation: number;
  /** Only failures of this room count. */
  room?: string;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
}

function stoppedError(): PodwireError {
  return new PodwireError('STOPPED', 'the kernel reconciler was stopped');
}

export class KernelReconciler {
  readonly #options: KernelReconcilerOptions;
  readonly #log: Logger;
  readonly #index: DesiredIndex;
  readonly #spoken = new Set<string>();
  readonly #failures = new Map<string, PodwireError>();
  #session: KernelSession | undefined;
  #monitor: NetlinkMonitor | undefined;
  #xtablesWatch: XtablesWatch | undefined;
  #suspects = new Set<Kind>();
  #generation = 0;
  #waiters: Waiter<void>[] = [];
  #verifications: Waiter<Repair[]>[] = [];
  #running: Promise<void> | undefined;
  /** What an earlier life left has been dealt with: from now on a difference is somebody else's doing. */
  #adopted = false;
  #verifiedAt: number | undefined;
  #stopped = false;
  #watching = false;
  #lastDriftPass = 0;
  #retryDelayMs = RETRY_MIN_MS;
  #retryTimer: NodeJS.Timeout | undefined;
  #driftTimer: NodeJS.Timeout | undefined;
  #intervals: NodeJS.Timeout[] = [];
  #scheduled: NodeJS.Immediate | undefined;

  constructor(options: KernelReconcilerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#index = new DesiredIndex(options.rooms);
  }

  /** What `room` wants from now on, all of it; applied soon, and only the last of several in a row. */
  setDesired(room: string, fragment: KernelState): void {
    this.#index.update(room, fragment);
    this.#generation++;
    if (!this.#spoken.has(room)) {
      const before = this.#mayPrune;
      this.#spoken.add(room);
      if (this.#mayPrune && !before) this.#suspect(KINDS);
    }
    this.#schedule();
  }

  /**
   * When everything desired so far is in the kernel; rejects with the first error, though it is tried again. With a
   * room: the errors of others do not count.
   */
  settled(room?: string): Promise<void> {
    if (this.#stopped) return Promise.reject(stoppedError());
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ generation: this.#generation, room, resolve, reject });
    if (this.#session !== undefined && this.#running === undefined && !this.#hasWork)
      this.#settle(this.#generation);
    return promise;
  }

  /** Compares everything with the kernel now, mends it, and says what was mended. */
  verify(): Promise<Repair[]> {
    const { promise, resolve, reject } = Promise.withResolvers<Repair[]>();
    this.#verifications.push({ generation: this.#generation, resolve, reject });
    this.#suspect(KINDS);
    this.#schedule();
    return promise;
  }

  /** What would be done to the kernel, without doing it. With a room: what it wants, and what nobody wants any more. */
  async diff(room?: string): Promise<Operation[]> {
    while (this.#running !== undefined) await this.#running;
    const operations = await this.#requireSession().compare(new Set(KINDS), this.#mayPrune);
    return operations.filter(({ kind, key }) => {
      const rooms = this.#index.roomsOf(kind, key);
      return room === undefined || rooms.length === 0 || rooms.includes(room);
    });
  }

  /** When everything was last compared with the kernel and was, or was made, as desired; epoch milliseconds. */
  get verifiedAt(): number | undefined {
    return this.#verifiedAt;
  }

  /** Which iptables is used and why; undefined as long as nobody desires chains. */
  async iptables(): Promise<IptablesChoice | undefined> {
    return this.#watching ? await this.#session?.iptables.choice() : undefined;
  }

  async start(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.#stopped = false;
    const { netns } = this.#options;
    const fallbacks = new FallbackLog(this.#log, this.#options.onIptablesFallback);
    const session = new KernelSession({
      index: this.#index,
      ...(netns !== undefined && { netns }),
      ...(this.#options.lockDirectory !== undefined && { lockDirectory: this.#options.lockDirectory }),
      ...(this.#options.iptablesBackend !== undefined && { iptablesBackend: this.#options.iptablesBackend }),
      rooms: () => new Set([...(this.#options.rooms ?? []), ...this.#spoken]),
      onRestore: pid => this.#xtablesWatch?.ownPid(pid),
      onFallback: reason => fallbacks.note(reason),
    });
    this.#session = session;
    // Listening comes before looking, so that nothing falls in between.
    this.#monitor = new NetlinkMonitor({
      protocol: NETLINK_ROUTE,
      groups: DRIFT_GROUPS,
      ...(netns !== undefined && { netns }),
      onMessages: messages => this.#onMessages(messages),
      onLost: () => this.#drift(NETLINK_KINDS),
      onError: error => this.#log.error({ err: errorMessage(error) }, 'a notification could not be read'),
    });
    this.#xtablesWatch = new XtablesWatch({
      iptables: session.iptables,
      ...(netns !== undefined && { netns }),
      tables: () => this.#index.tables,
      concerns: (family, table, chain) => this.#concerns(family, table, chain),
      onChange: () => this.#drift(XTABLES_KINDS),
      onError: error => this.#log.error({ err: errorMessage(error) }, 'iptables rules cannot be watched'),
    });
    const { verifyIntervalMs = VERIFY_INTERVAL_MS, xtablesIntervalMs } = this.#options;
    this.#compareEvery(verifyIntervalMs, KINDS);
    if (xtablesIntervalMs !== undefined) this.#compareEvery(xtablesIntervalMs, XTABLES_KINDS);
    signal?.addEventListener('abort', () => void this.stop(), { once: true });
    this.#suspect(KINDS);
    this.#schedule();
  }

  /** Leaves the kernel's state in place. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const session = this.#session;
    if (session === undefined) return;
    this.#session = undefined;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#driftTimer);
    for (const interval of this.#intervals.splice(0)) clearInterval(interval);
    if (this.#scheduled !== undefined) clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    this.#monitor?.close();
    this.#xtablesWatch?.stop();
    await this.#running;
    session.close();
    const error = stoppedError();
    for (const waiter of [...this.#waiters, ...this.#verifications]) waiter.reject(error);
    this.#waiters = [];
    this.#verifications = [];
  }

  #requireSession(): KernelSession {
    if (this.#session === undefined)
      throw new PodwireError('STOPPED', 'the kernel reconciler is not started');
    return this.#session;
  }

  /** Every room that will speak has spoken: what nobody wants can go. */
  get #mayPrune(): boolean {
    const { rooms } = this.#options;
    return rooms === undefined ? this.#spoken.size > 0 : rooms.every(room => this.#spoken.has(room));
  }

  get #hasWork(): boolean {
    return this.#suspects.size > 0 || this.#index.isDirty;
  }

  #suspect(kinds: readonly Kind[]): void {
    for (const kind of kinds) this.#suspects.add(kind);
  }

  #compareEvery(ms: number, kinds: readonly Kind[]): void {
    const again = (): void => {
      this.#suspect(kinds);
      this.#schedule();
    };
    this.#intervals.push(setInterval(again, ms).unref());
  }

  #schedule(): void {
    if (this.#session === undefined || this.#running !== undefined || this.#scheduled !== undefined) return;
    this.#scheduled = setImmediate(() => {
      this.#scheduled = undefined;
      this.#running ??= this.#work().finally(() => {
        this.#running = undefined;
        if (this.#hasWork) this.#schedule();
        // Who asked between the end of the last pass and now.
        else this.#settle(this.#generation);
      });
    });
  }

  async #work(): Promise<void> {
    while (this.#session !== undefined && this.#hasWork) {
      const generation = this.#generation;
      const suspects = this.#suspects;
      this.#suspects = new Set();
      const verifications = suspects.size === KINDS.length ? this.#verifications.splice(0) : [];
      const retried = new Set(this.#failures.keys());
      try {
        const prune = this.#mayPrune;
        const pass = await this.#session.pass(suspects, prune);
        this.#record(suspects, pass.tried, pass.failures);
        this.#xtablesWatch?.remember();
        const repairs = this.#report(pass.mended, retried);
        for (const waiter of verifications) waiter.resolve(repairs);
        if (prune && suspects.size === KINDS.length) {
          this.#adopted = true;
          if (this.#failures.size === 0) this.#verifiedAt = Date.now();
        }
        if (this.#index.tables.size > 0) this.#watchTables();
      } catch (error) {
        const failed =
          error instanceof PodwireError
            ? error
            : new PodwireError('EIO', errorMessage(error), { cause: error });
        this.#failures.set('pass', failed);
        this.#log.error({ err: failed.message, code: failed.code }, 'the kernel could not be compared');
        for (const waiter of verifications) waiter.reject(failed);
        this.#session?.forget();
      }
      this.#settle(generation);
      this.#retryLater();
    }
  }

  /** Choosing an iptables backend runs programs, so only when there are tables at all. */
  #watchTables(): void {
    if (this.#watching) return;
    this.#watching = true;
    void this.#requireSession()
      .iptables.choice()
      .then(choice => this.#log.info({ ...choice }, 'iptables backend chosen'));
    this.#xtablesWatch
      ?.start()
      .catch(error => this.#log.error({ err: errorMessage(error) }, 'iptables rules cannot be watched'));
  }

  #record(
    suspects: ReadonlySet<Kind>,
    tried: readonly (readonly Operation[])[],
    failures: readonly Failure[],
  ): void {
    this.#failures.delete('pass');
    for (const name of [...this.#failures.keys()])
      if (suspects.has(name.slice(0, name.indexOf(' ')) as Kind)) this.#failures.delete(name);
    if (this.#failures.size > 0)
      for (const { kind, key } of tried.flat()) this.#failures.delete(`${kind} ${key}`);
    let logged = 0;
    for (const { operation, error } of failures) {
      this.#failures.set(`${operation.kind} ${operation.key}`, error);
      if (++logged <= LOGGED_FAILURES)
        this.#log.error(
          { operation: describeOperation(operation), code: error.code, err: error.message },
          'not applied',
        );
    }
    if (logged > LOGGED_FAILURES)
      this.#log.error({ count: logged - LOGGED_FAILURES }, 'more were not applied');
    for (const conflict of this.#index.conflicts)
      this.#log.warn({ ...conflict }, 'two planners want one object differently');
  }

  #report(mended: readonly Operation[], retried: ReadonlySet<string>): Repair[] {
    if (!this.#adopted) return [];
    const repairs: Repair[] = [];
    for (const operation of mended) {
      const { action, kind, key } = operation;
      if (retried.has(`${kind} ${key}`)) continue;
      const rooms = this.#index.roomsOf(kind, key);
      const repair: Repair = { action, kind, key, text: describeOperation(operation), rooms };
      repairs.push(repair);
      this.#log.warn({ repair: repair.text }, 'the kernel had drifted and was mended');
      this.#options.onRepair?.(repair);
    }
    return repairs;
  }

  #settle(generation: number): void {
    const waiting: Waiter<void>[] = [];
    for (const waiter of this.#waiters) {
      const error = this.#failureOf(waiter.room);
      if (waiter.generation > generation) waiting.push(waiter);
      else if (error !== undefined) waiter.reject(error);
      else waiter.resolve();
    }
    this.#waiters = waiting;
  }

  /** The first failure, or the first that concerns a room. What nobody wants any more concerns everybody. */
  #failureOf(room: string | undefined): PodwireError | undefined {
    for (const [name, error] of this.#failures) {
      if (room === undefined) return error;
      const space = name.indexOf(' ');
      const rooms = this.#index.roomsOf(name.slice(0, space) as Kind, name.slice(space + 1));
      if (rooms.length === 0 || rooms.includes(room)) return error;
    }
    return undefined;
  }

  #retryLater(): void {
    clearTimeout(this.#retryTimer);
    if (this.#failures.size === 0) {
      this.#retryDelayMs = RETRY_MIN_MS;
      return;
    }
    this.#retryTimer = setTimeout(() => {
      this.#suspect(KINDS);
      this.#schedule();
    }, this.#retryDelayMs);
    this.#retryTimer.unref();
    this.#retryDelayMs = Math.min(this.#retryDelayMs * 2, RETRY_MAX_MS);
  }

  #onMessages(messages: readonly NetlinkMessage[]): void {
    const session = this.#session;
    if (session === undefined) return;
    const context = session.driftContext();
    for (const message of messages) {
      const event = decodeRouteEvent(message);
      if (event === undefined) continue;
      const kinds = driftOf(event, context);
      if (kinds.length > 0) this.#drift(kinds);
      // What failed for want of a link or a way to its gateway may work now.
      else if (this.#failures.size > 0 && bringsLink(event, context)) this.#drift(NETLINK_KINDS);
    }
  }

  #concerns(family: 4 | 6, table: string, chain: string | undefined): boolean {
    if (!this.#index.tables.has(`${family} ${table}`)) return false;
    if (chain === undefined) return true;
    if (this.#index.objects.chain.has(`${family} ${table} ${chain}`)) return true;
    if (this.#index.ownsChain(family, table, chain)) return true;
    for (const jump of this.#index.objects.jump.values())
      if (jump.family === family && jump.table === table && jump.chain === chain) return true;
    return false;
  }

  #drift(kinds: readonly Kind[]): void {
    this.#suspect(kinds);
    if (this.#driftTimer !== undefined) return;
    const sinceLast = Date.now() - this.#lastDriftPass;
    this.#driftTimer = setTimeout(
      () => {
        this.#driftTimer = undefined;
        this.#lastDriftPass = Date.now();
        this.#schedule();
      },
      sinceLast > DRIFT_GAP_MS ? DRIFT_DELAY_MS : DRIFT_GAP_MS,
    );
  }
}
