// What pods have in the owned table: elements, each with its owner in the comment. One transaction per pod and verb.
// Elements are added only if nobody has their key; a shared chain comes with its first element and goes with its last;
// the table goes with the last pod. Processes that race (no lock is held) find out by EEXIST, ENOENT, EBUSY and begin anew.
import type { NftBatch } from '../../src/codec/nft/batch.ts';
import type { Element } from '../../src/codec/nft/set.ts';
import { CniError, hasCode, KernelError } from '../../src/lib/errors.ts';
import type { Netns } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { CNI_ERROR } from '../runtime/errors.ts';
import {
  addLayout,
  FAMILY,
  LAYOUT,
  LAYOUT_RULES,
  SETS,
  type SetName,
  type SharedChain,
  TABLE,
} from './layout.ts';

const ATTEMPTS = 20;

export interface PodRule {
  set: SetName;
  key: Buffer;
  /** Data of a map; `chain` is jumped to. */
  data?: Buffer;
  chain?: SharedChain;
  /** For a message when somebody else has the key: `host port 8080/tcp`. */
  what: string;
}

interface Held {
  set: SetName;
  element: Element;
}

export class PodRules implements Disposable {
  readonly #nft: Nftables;

  private constructor(nft: Nftables) {
    this.#nft = nft;
  }

  static open(hostNetns: Netns): PodRules {
    return new PodRules(Nftables.open(hostNetns));
  }

  /** Adds a pod's rules, all or none. Those that `owner` has from an ADD that was broken off are replaced. */
  add(owner: string, rules: readonly PodRule[]): void {
    if (rules.length === 0) return;
    this.#retry(
      () => {
        const table = this.#nft.getTable(FAMILY, TABLE);
        if (table !== undefined && table.comment !== LAYOUT)
          throw new CniError(
            CNI_ERROR.INTERNAL,
            `nftables table ${FAMILY} ${TABLE} is of another podwire version (${table.comment ?? 'unknown'})`,
          );
        const chains = new Set(
          table === undefined ? [] : this.#nft.listChains(FAMILY, TABLE).map(chain => chain.name),
        );
        this.#nft.transaction(batch => {
          if (table === undefined) addLayout(batch);
          for (const rule of rules) addRule(batch, owner, rule, chains);
        });
      },
      owner,
      rules,
    );
  }

  /** The error that a rule of somebody else is in the way, or undefined when it is our own old rule. */
  #conflict(owner: string, rules: readonly PodRule[]): CniError | undefined {
    for (const rule of rules) {
      const holder = this.#nft.getElement(FAMILY, TABLE, rule.set, rule.key)?.comment;
      if (holder !== undefined && holder !== owner)
        return new CniError(CNI_ERROR.INTERNAL, `${rule.what} is already taken`, `by ${holder}`);
    }
    return undefined;
  }

  #retry(work: () => void, owner: string, rules: readonly PodRule[]): void {
    for (let attempt = 1; ; attempt++)
      try {
        work();
        return;
      } catch (error) {
        if (!isRace(error) || attempt === ATTEMPTS) throw error;
        if (error instanceof KernelError && error.op.startsWith('add element')) {
          const conflict = this.#conflict(owner, rules);
          if (conflict !== undefined) throw conflict;
          const sets = new Set(rules.map(rule => rule.set));
          this.remove((holder, set) => holder === owner && sets.has(set));
        }
      }
  }

  /** Everything that an owner has. */
  list(owner: string): Held[] {
    return this.#dump().filter(one => one.element.comment === owner);
  }

  /** CHECK: what is missing or different in the kernel, a pod's rule or one of the table's own; else undefined. */
  missing(owner: string, rules: readonly PodRule[]): string | undefined {
    for (const rule of rules) {
      const element = this.#nft.getElement(FAMILY, TABLE, rule.set, rule.key);
      if (element?.comment !== owner) return rule.what;
      const { data } = element;
      const same =
        rule.chain === undefined
          ? data instanceof Uint8Array && rule.data?.equals(data)
          : typeof data === 'object' && 'jump' in data && data.jump === rule.chain.name;
      if (!same) return rule.what;
      if (
        rule.chain !== undefined &&
        this.#nft.listRules(FAMILY, TABLE, rule.chain.name).length !== rule.chain.rules.length
      )
        return `chain ${rule.chain.name}`;
    }
    if (rules.length === 0) return undefined;
    const own = new Set(['prerouting', 'output', 'postrouting', 'hostports']);
    const count = this.#nft.listRules(FAMILY, TABLE).filter(rule => own.has(rule.chain)).length;
    return count === LAYOUT_RULES ? undefined : `a rule of table ${TABLE}`;
  }

  /** Removes the elements whose owner and set are chosen, then what nobody needs any more. Returns what was removed. */
  remove(chosen: (owner: string, set: SetName) => boolean): Held[] {
    for (let attempt = 1; ; attempt++)
      try {
        return this.#removeOnce(chosen);
      } catch (error) {
        if (!isRace(error) || attempt === ATTEMPTS) throw error;
      }
  }

  #removeOnce(chosen: (owner: string, set: SetName) => boolean): Held[] {
    const generation = this.#nft.generation();
    if (this.#nft.getTable(FAMILY, TABLE) === undefined) return [];
    const all = this.#dump();
    const gone = all.filter(one => chosen(one.element.comment ?? '', one.set));
    if (gone.length === 0 && all.length > 0) return [];
    if (gone.length === all.length) {
      // ERESTART when another process adds a pod in this moment.
      this.#nft.transaction(batch => batch.delTable(FAMILY, TABLE), { generation });
      return gone;
    }
    const left = new Set(all.filter(one => !gone.includes(one)).map(chainOf));
    const chains = new Set(gone.map(chainOf).filter(name => name !== undefined && !left.has(name)));
    this.#nft.transaction(batch => {
      for (const { set, element } of gone) batch.delElements(FAMILY, TABLE, set, [{ key: element.key }]);
      for (const name of chains)
        if (name !== undefined) batch.flushChain(FAMILY, TABLE, name).delChain(FAMILY, TABLE, name);
    });
    return gone;
  }

  #dump(): Held[] {
    return SETS.flatMap(({ name }) =>
      this.#nft.listElements(FAMILY, TABLE, name).map(element => ({ set: name, element })),
    );
  }

  close(): void {
    this.#nft.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function addRule(batch: NftBatch, owner: string, rule: PodRule, chains: Set<string>): void {
  const { chain } = rule;
  if (chain !== undefined && !chains.has(chain.name)) {
    chains.add(chain.name);
    batch.addChain(FAMILY, TABLE, { name: chain.name }, { exclusive: true });
    for (const expressions of chain.rules) batch.addRule(FAMILY, TABLE, { chain: chain.name, expressions });
  }
  const data = chain === undefined ? rule.data : { jump: chain.name };
  const element = { key: rule.key, comment: owner, ...(data === undefined ? {} : { data }) };
  batch.addElements(FAMILY, TABLE, rule.set, [element], { exclusive: true });
}

function chainOf(held: Held): string | undefined {
  const { data } = held.element;
  return typeof data === 'object' && 'jump' in data ? data.jump : undefined;
}

/** Somebody else was quicker; the next look shows how things are now. */
function isRace(error: unknown): boolean {
  return ['EEXIST', 'ENOENT', 'EBUSY', 'ERESTART', 'E85', 'EAGAIN'].some(code => hasCode(error, code));
}
