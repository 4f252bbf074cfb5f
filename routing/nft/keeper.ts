// Keeps whole nftables tables as planned: writes them in one transaction each, hears of changes by netlink, compares and
// mends. A table of the same name that is not flannel's or ours is left alone, and is a problem.
import { NETLINK_NETFILTER } from '../../src/codec/netlink/constants.ts';
import type { ChainInfo } from '../../src/codec/nft/chain.ts';
import { encodeExpressions, sameExpressions } from '../../src/codec/nft/compare.ts';
import { NF_ACCEPT, NF_HOOK } from '../../src/codec/nft/constants.ts';
import { decodeNftEvent } from '../../src/codec/nft/event.ts';
import { errorMessage, PodwireError } from '../../src/lib/errors.ts';
import { NetlinkMonitor } from '../../src/linux/netlink-monitor.ts';
import type { Netns } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import type { Logger } from '../../src/observe/log.ts';
import { type NftChain, type NftTable, nftTableName } from './masquerade.ts';

const NFNLGRP_NFTABLES = 7;
/** Notifications come in bursts; who fights with us over a table is answered, but not at full speed. */
const DRIFT_DELAY_MS = 50;

export interface NftKeeperOptions {
  netns?: Netns;
  verifyIntervalMs: number;
  log: Logger;
  /** Told in words what somebody had changed and was put back. */
  onRepair?: (text: string) => void;
}

export class NftKeeper {
  readonly #options: NftKeeperOptions;
  #nft: Nftables | undefined;
  #monitor: NetlinkMonitor | undefined;
  #timer: NodeJS.Timeout | undefined;
  #drift: NodeJS.Timeout | undefined;
  #wanted: readonly NftTable[] = [];
  /** Names of the tables that were written: from then on a difference is somebody else's doing. */
  readonly #written = new Set<string>();
  /** Why the tables are not as wanted. */
  problem: string | undefined;

  constructor(options: NftKeeperOptions) {
    this.#options = options;
  }

  /** These tables from now on, and none of the others of flannel's names. */
  set(tables: readonly NftTable[]): void {
    this.#wanted = tables;
    this.#written.clear();
    this.problem = undefined;
    this.verify();
    if (tables.length > 0) this.#watch();
  }

  stop(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#drift);
    this.#monitor?.close();
    this.#nft?.close();
    this.#nft = undefined;
  }

  /** Compares with the kernel and mends; an error is kept in `problem`, and the next verification tries again. */
  verify(): void {
    const { netns, log } = this.#options;
    try {
      this.#nft ??= Nftables.openIfSupported(netns);
      if (this.#nft === undefined) {
        if (this.#wanted.length > 0)
          throw new PodwireError('EPROTONOSUPPORT', 'EnableNFTables: the kernel has no nf_tables');
        return;
      }
      for (const family of [4, 6] as const) this.#keep(this.#nft, family);
      this.problem = undefined;
    } catch (error) {
      const text = errorMessage(error);
      // A kernel without nf_tables has nothing of ours to remove.
      if (this.#wanted.length === 0) {
        log.debug({ error: text }, 'nftables cannot be asked');
        return;
      }
      this.problem = text;
      log.error({ error: text }, 'nftables rules are not as wanted');
    }
  }

  #keep(nft: Nftables, family: 4 | 6): void {
    const named = nftTableName(family);
    const wanted = this.#wanted.find(({ name }) => name === named.name);
    const found = nft.getTable(named.family, named.name);
    if (found !== undefined && found.comment !== named.comment) {
      if (wanted === undefined) return;
      throw new PodwireError('NOT_OURS', `table ${named.family} ${named.name} is there and is not flannel's`);
    }
    if (wanted === undefined) {
      if (found !== undefined) nft.transaction(batch => batch.delTable(named.family, named.name));
      return;
    }
    const wrong = found === undefined ? 'the table is missing' : difference(nft, wanted);
    if (wrong !== undefined) {
      write(nft, wanted, found !== undefined);
      if (this.#written.has(wanted.name))
        this.#options.onRepair?.(`nftables ${wanted.family} ${wanted.name}: ${wrong}`);
    }
    this.#written.add(wanted.name);
  }

  #watch(): void {
    if (this.#monitor !== undefined) return;
    const { netns, log, verifyIntervalMs } = this.#options;
    this.#timer = setInterval(() => this.verify(), verifyIntervalMs);
    this.#timer.unref();
    this.#monitor = new NetlinkMonitor({
      protocol: NETLINK_NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      ...(netns !== undefined && { netns }),
      onMessages: messages => {
        const names = new Set(this.#wanted.map(({ name }) => name));
        for (const message of messages) {
          const event = decodeNftEvent(message);
          if (event && names.has(event.table) && event.port !== this.#nft?.portId) this.#soon();
        }
      },
      onLost: () => this.#soon(),
      onError: error => log.error({ error: errorMessage(error) }, 'a notification could not be read'),
    });
  }

  #soon(): void {
    this.#drift ??= setTimeout(() => {
      this.#drift = undefined;
      this.verify();
    }, DRIFT_DELAY_MS);
  }
}

/** What is not as wanted, in words. */
function difference(nft: Nftables, wanted: NftTable): string | undefined {
  const chains = new Map(nft.listChains(wanted.family, wanted.name).map(chain => [chain.name, chain]));
  for (const { spec, rules } of wanted.chains) {
    const found = chains.get(spec.name);
    chains.delete(spec.name);
    if (found === undefined) return `chain ${spec.name} is missing`;
    if (!sameHook(spec, found)) return `chain ${spec.name} hangs elsewhere`;
    const there = nft.listRules(wanted.family, wanted.name, spec.name);
    const same =
      there.length === rules.length &&
      rules.every((rule, at) => sameExpressions(encodeExpressions(rule), there[at]!.expressions));
    if (!same) return `chain ${spec.name} has other rules`;
  }
  const [unknown] = chains.keys();
  return unknown === undefined ? undefined : `chain ${unknown} is not wanted`;
}

function sameHook({ hook }: NftChain['spec'], found: ChainInfo): boolean {
  return (
    found.hook !== undefined &&
    hook.type === found.hook.type &&
    NF_HOOK[hook.hook] === found.hook.number &&
    hook.priority === found.hook.priority &&
    found.hook.policy === NF_ACCEPT
  );
}

/** At one go, so that no packet meets half of it. */
function write(nft: Nftables, { family, name, comment, chains }: NftTable, replace: boolean): void {
  nft.transaction(batch => {
    if (replace) batch.delTable(family, name);
    batch.addTable(family, name, { exclusive: true, comment });
    for (const { spec, rules } of chains) {
      batch.addChain(family, name, spec);
      for (const expressions of rules) batch.addRule(family, name, { chain: spec.name, expressions });
    }
  });
}
