// The nftables mode: owns the tables `ip podwire-proxy` and `ip6 podwire-proxy` whole, writes them by netlink, and sees to
// it that they stay what they are meant to be.
//
//   ServiceProxy ── set, sync ──▶ planner ── changes ──▶ transactions ──▶ kernel
//                                    ▲                                      │ NFNLGRP_NFTABLES: somebody else's changes
//                                    └── compare, mend ◀── dump of the part ◀┘ and now and then everything
//
// A sync never waits for a verification: that is broken off and goes on afterwards.
import { decodeNftEvent } from '../../../src/codec/nft/event.ts';
import type { KernelState } from '../../../src/kernel/state.ts';
import { errorMessage, KernelError } from '../../../src/lib/errors.ts';
import { NetlinkMonitor } from '../../../src/linux/netlink-monitor.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { Nftables } from '../../../src/linux/nftables.ts';
import type { Logger } from '../../../src/observe/log.ts';
import type { Family, ResolvedPort } from '../../model/types.ts';
import type { Difference, ForgottenFrontend, ProxyBackend } from '../backend.ts';
import { type NftRepair, type Pause, TableKeeper } from './apply/keeper.ts';
import { nftFamily } from './apply/write.ts';
import type { NftablesConfig } from './plan/config.ts';
import { TABLE } from './plan/names.ts';

const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTABLES = 7;
/** Somebody who deletes something deletes more: wait a little, mend once. */
const REACTION_MS = 20;
/** After a failed repair. */
const RETRY_MS = 500;
const VERIFY_INTERVAL_MS = 60_000;

export interface NftablesBackendOptions {
  families: readonly Family[];
  config: NftablesConfig;
  netns?: Netns;
  /** The rest of the desired state: sysctls. */
  setDesired: (state: KernelState) => void;
  settled?: () => Promise<void>;
  verifyIntervalMs?: number;
  onRepair?: (repairs: NftRepair[]) => void;
  log?: Logger;
}

function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve));
}

/** What has yet to be compared with the kernel, of one table. */
interface Doubt {
  structure: boolean;
  sets: Set<string>;
}

export class NftablesBackend implements ProxyBackend {
  readonly #options: NftablesBackendOptions;
  readonly #nft: Nftables;
  readonly #keepers: TableKeeper[];
  readonly #doubts = new Map<Family, Doubt>();
  #queued = new Map<string, ResolvedPort | undefined>();
  #work: Promise<unknown> = Promise.resolve();
  #syncsWaiting = 0;
  #written = false;
  #verifiedAt: number | undefined;
  /** Everything is being compared: when no doubt is left, all of it was. */
  #verifying = false;
  #stopped = false;
  #monitor: NetlinkMonitor | undefined;
  #interval: NodeJS.Timeout | undefined;
  #reaction: NodeJS.Timeout | undefined;

  constructor(options: NftablesBackendOptions) {
    this.#options = options;
    this.#nft = Nftables.open(options.netns);
    this.#keepers = options.families.map(
      family => new TableKeeper(family, options.config, this.#nft, options.netns),
    );
    for (const family of options.families) this.#doubts.set(family, { structure: false, sets: new Set() });
  }

  set(id: string, resolved: ResolvedPort | undefined): void {
    this.#queued.set(id, resolved);
  }

  get endpoints(): number {
    return this.#keepers.reduce((sum, { planner }) => sum + planner.endpoints, 0);
  }

  placesOf({ port }: ResolvedPort): string[] {
    const keeper = this.#keepers.find(({ family }) => family === port.family);
    return keeper?.planner.placesOf(port.id) ?? [];
  }

  takeForgotten(): ForgottenFrontend[] {
    return this.#keepers.flatMap(keeper => keeper.takeForgotten());
  }

  get verifiedAt(): number | undefined {
    return this.#verifiedAt;
  }

  async diff(): Promise<Difference[]> {
    const all: Difference[] = [];
    for (const keeper of this.#keepers) {
      const repairs = await this.#exclusive(() => keeper.compare(() => nextTurn().then(() => true)));
      for (const { family, what } of repairs) all.push({ what: `${nftFamily(family)} ${TABLE} ${what}` });
    }
    return all;
  }

  sync(full: boolean): Promise<void> {
    this.#syncsWaiting++;
    return this.#exclusive(async () => {
      this.#syncsWaiting--;
      await this.#sync(full);
    });
  }

  async #sync(full: boolean): Promise<void> {
    if (this.#stopped) return;
    const queued = this.#queued;
    this.#queued = new Map();
    for (const keeper of this.#keepers)
      keeper.update([...queued].filter(([id]) => id.startsWith(`${keeper.family} `)));
    const pause: Pause = () => nextTurn().then(() => true);
    if (!full && this.#written) {
      for (const keeper of this.#keepers) await this.#write(keeper, pause);
      return;
    }
    this.#written = false;
    this.#options.setDesired({ sysctls: this.#sysctls() });
    for (const keeper of this.#keepers) await keeper.replace(pause);
    await this.#options.settled?.();
    this.#written = true;
    this.#watch();
    // What was written is looked at once as well, after whoever waits for it was told.
    this.#doubtEverything();
  }

  /** A refusal means that somebody changed the table and we have not looked yet: then it is compared and made whole. */
  async #write(keeper: TableKeeper, pause: Pause): Promise<void> {
    try {
      await keeper.write(pause);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      this.#options.log?.warn(`${error.message}; comparing the whole table`);
      this.#report(await keeper.replace(pause));
    }
  }

  /** Traffic between two pods of one bridge must pass the rules too, or answers are not translated back. */
  #sysctls(): NonNullable<KernelState['sysctls']> {
    const path = {
      4: 'net/bridge/bridge-nf-call-iptables',
      6: 'net/bridge/bridge-nf-call-ip6tables',
    } as const;
    return this.#options.families.map(family => ({ path: path[family], value: '1', optional: true }));
  }

  /** Compares everything with the kernel now; what was mended. */
  async verify(): Promise<NftRepair[]> {
    const all: NftRepair[] = [];
    for (const keeper of this.#keepers)
      all.push(...(await this.#exclusive(() => keeper.replace(() => nextTurn().then(() => true)))));
    this.#report(all);
    this.#verifiedAt = Date.now();
    return all;
  }

  stop(): void {
    this.#stopped = true;
    this.#monitor?.close();
    clearInterval(this.#interval);
    clearTimeout(this.#reaction);
    void this.#work.then(
      () => this.#nft.close(),
      () => this.#nft.close(),
    );
  }

  /** One thing at a time, in order. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#work.then(work, work);
    this.#work = result.catch(() => {});
    return result;
  }

  #watch(): void {
    if (this.#stopped || this.#monitor) return;
    const { netns, log, verifyIntervalMs = VERIFY_INTERVAL_MS } = this.#options;
    this.#monitor = new NetlinkMonitor({
      protocol: NETLINK_NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      ...(netns === undefined ? {} : { netns }),
      onMessages: messages => {
        for (const message of messages) {
          if (message.port === this.#nft.portId) continue;
          const event = decodeNftEvent(message);
          const keeper = this.#keepers.find(({ family }) => nftFamily(family) === event?.family);
          if (!event || !keeper || event.table !== TABLE) continue;
          this.#doubt(keeper, event.kind === 'elements' ? event.name : undefined);
        }
      },
      onLost: () => this.#doubtEverything(),
      onError: error => log?.error(`nftables notifications: ${errorMessage(error)}`),
    });
    this.#interval = setInterval(() => this.#doubtEverything(), verifyIntervalMs);
    this.#interval.unref();
  }

  #doubtEverything(): void {
    this.#verifying = true;
    for (const keeper of this.#keepers) {
      this.#doubt(keeper, undefined);
      for (const [name, set] of keeper.planner.sets) if (!set.dynamic) this.#doubt(keeper, name);
    }
  }

  #doubt(keeper: TableKeeper, set: string | undefined): void {
    const doubt = this.#doubts.get(keeper.family)!;
    if (set === undefined) doubt.structure = true;
    else if (keeper.planner.sets.get(set)?.dynamic) return;
    else doubt.sets.add(set);
    this.#react(REACTION_MS);
  }

  #react(delayMs: number): void {
    if (this.#stopped || this.#reaction !== undefined) return;
    this.#reaction = setTimeout(() => {
      void this.#settleDoubts().then(again => {
        this.#reaction = undefined;
        if (again) this.#react(again);
      });
    }, delayMs);
    this.#reaction.unref();
  }

  /** Resolves with how long to wait until the rest is to be looked at; 0 when there is none. */
  async #settleDoubts(): Promise<number> {
    for (const keeper of this.#keepers) {
      const doubt = this.#doubts.get(keeper.family)!;
      while (!this.#stopped && (doubt.structure || doubt.sets.size > 0))
        try {
          if (!(await this.#exclusive(() => this.#settleOne(keeper, doubt)))) return REACTION_MS;
        } catch (error) {
          this.#options.log?.error(`verify nftables: ${errorMessage(error)}`);
          this.#doubtEverything();
          return RETRY_MS;
        }
    }
    if (this.#verifying && !this.#stopped) this.#verifiedAt = Date.now();
    this.#verifying = false;
    return 0;
  }

  /** False when a sync wants its turn first. */
  async #settleOne(keeper: TableKeeper, doubt: Doubt): Promise<boolean> {
    const pause = async (): Promise<boolean> => {
      await nextTurn();
      return this.#syncsWaiting === 0 && !this.#stopped;
    };
    if (doubt.structure) {
      doubt.structure = false;
      const repairs = await keeper.verifyStructure(pause);
      // A chain that was taken away took the elements with it that led there.
      this.#report(repairs);
      return true;
    }
    const [name] = doubt.sets;
    if (name === undefined) return true;
    doubt.sets.delete(name);
    const repairs = await keeper.verifyElements(name, pause);
    if (repairs === undefined) doubt.sets.add(name);
    else this.#report(repairs);
    return repairs !== undefined;
  }

  #report(repairs: NftRepair[]): void {
    if (repairs.length === 0) return;
    const { log, onRepair } = this.#options;
    if (onRepair) onRepair(repairs);
    else
      for (const { family, what } of repairs)
        log?.warn({ table: `${nftFamily(family)} ${TABLE}` }, `somebody changed our table, mended: ${what}`);
  }
}
