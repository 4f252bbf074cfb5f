// Notices changes of iptables rules. Rules kept in nf_tables announce every transaction with the process that made it
// (NFNLGRP_NFTABLES), so our own are passed over. Legacy tables announce nothing: the number and size of their rules
// is asked twice a second, one getsockopt a table; what keeps both is left to the regular verification.
import { NETLINK_NETFILTER } from '../codec/netlink/constants.ts';
import { attributeString, attributes, type NetlinkMessage, u32be } from '../codec/netlink/message.ts';
import type { Iptables } from '../linux/iptables.ts';
import { NetlinkMonitor } from '../linux/netlink-monitor.ts';
import type { Netns } from '../linux/netns.ts';

const NFNLGRP_NFTABLES = 7;
const NFNL_SUBSYS_NFTABLES = 10;
/** linux/netfilter/nf_tables.h enum nf_tables_msg_types. */
const NFT_MSG = {
  NEWTABLE: 0,
  DELTABLE: 2,
  NEWCHAIN: 3,
  DELCHAIN: 5,
  NEWRULE: 6,
  DELRULE: 8,
  NEWGEN: 15,
} as const;
/** NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and NFTA_RULE_TABLE are all 1. */
const NFTA_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_RULE_CHAIN = 2;
const NFTA_GEN_PROC_PID = 2;
const NFPROTO_IPV6 = 10;
const POLL_MS = 500;
/** Notifications of a transaction may come after the program that made it has ended. */
const REMEMBERED_PIDS = 64;

export interface XtablesWatchOptions {
  iptables: Iptables;
  netns?: Netns;
  /** Tables of interest, as `4 nat`. */
  tables: () => ReadonlySet<string>;
  /** Whether a change of this chain concerns us; no chain means the table itself. */
  concerns: (family: 4 | 6, table: string, chain: string | undefined) => boolean;
  onChange: () => void;
  onError: (error: unknown) => void;
}

export class XtablesWatch {
  readonly #options: XtablesWatchOptions;
  readonly #fingerprints = new Map<string, string | undefined>();
  #ownPids: number[] = [];
  #monitor: NetlinkMonitor | undefined;
  #timer: NodeJS.Timeout | undefined;
  #touched = false;
  #stopped = false;

  constructor(options: XtablesWatchOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { backend } = await this.#options.iptables.choice();
    if (this.#stopped) return;
    if (backend === 'legacy') {
      this.#timer = setInterval(() => this.#poll(), POLL_MS);
      this.#timer.unref();
      return;
    }
    this.#monitor = new NetlinkMonitor({
      protocol: NETLINK_NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      ...(this.#options.netns !== undefined && { netns: this.#options.netns }),
      onMessages: messages => {
        for (const message of messages) this.#onMessage(message);
      },
      onLost: this.#options.onChange,
      onError: this.#options.onError,
    });
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#monitor?.close();
  }

  /** Changes made by this process are ours. */
  ownPid(pid: number): void {
    this.#ownPids.push(pid);
    if (this.#ownPids.length > REMEMBERED_PIDS) this.#ownPids = this.#ownPids.slice(-REMEMBERED_PIDS);
  }

  /** To be called after our own changes: what is there now is how it should be. */
  remember(): void {
    if (this.#timer === undefined) return;
    for (const name of this.#options.tables()) this.#fingerprints.set(name, this.#fingerprint(name));
  }

  #fingerprint(name: string): string | undefined {
    return this.#options.iptables.legacyFingerprint(name.startsWith('6') ? 6 : 4, name.slice(2));
  }

  #poll(): void {
    // Our own change; what it leaves is remembered afterwards, and what others do meanwhile is seen the next time.
    if (this.#options.iptables.isWorking) return;
    try {
      for (const name of this.#options.tables()) {
        const now = this.#fingerprint(name);
        if (!this.#fingerprints.has(name) || this.#fingerprints.get(name) === now) continue;
        this.#fingerprints.set(name, now);
        this.#options.onChange();
      }
    } catch (error) {
      this.#options.onError(error);
    }
  }

  #onMessage(message: NetlinkMessage): void {
    if (message.type >> 8 !== NFNL_SUBSYS_NFTABLES || message.payload.length < 4) return;
    const type = message.type & 0xff;
    const parts = attributes(message.payload, 4);
    if (type === NFT_MSG.NEWGEN) {
      const pid = parts.find(part => part.type === NFTA_GEN_PROC_PID);
      const own = pid !== undefined && this.#ownPids.includes(u32be(pid.value, 'NFTA_GEN_PROC_PID'));
      if (this.#touched && !own) this.#options.onChange();
      this.#touched = false;
      return;
    }
    const table = parts.find(part => part.type === NFTA_TABLE);
    if (table === undefined) return;
    const isRule = type === NFT_MSG.NEWRULE || type === NFT_MSG.DELRULE;
    const isChain = type === NFT_MSG.NEWCHAIN || type === NFT_MSG.DELCHAIN;
    if (!isRule && !isChain && type !== NFT_MSG.DELTABLE) return;
    const chain = parts.find(part => part.type === (isRule ? NFTA_RULE_CHAIN : NFTA_CHAIN_NAME));
    const family = message.payload[0] === NFPROTO_IPV6 ? 6 : 4;
    const chainName = !isRule && !isChain ? undefined : chain && attributeString(chain.value);
    if (this.#options.concerns(family, attributeString(table.value), chainName)) this.#touched = true;
  }
}
