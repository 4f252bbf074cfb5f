// What pods have in the owned table: elements, each with its owner in the comment. One transaction per pod and verb.
// Elements are added only if nobody has their key; a shared chain comes with its first element and goes with its last;
// the table goes with the last pod. Processes that race (no lock is held) find out by EEXIST, ENOENT, EBUSY and begin anew.
import type { NftBatch } from '../../src/codec/nft/batch.ts';
import { verdict } from '../../src/codec/nft/expression/immediate.ts';
import type { Element } from '../../src/codec/nft/set.ts';
import { CniError, hasCode, KernelError } from '../../src/lib/errors.ts';
import type { Netns } from '../../src/linux/netns.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { CNI_ERROR } from '../runtime/errors.ts';
import {
  ADMIN_CHAIN,
  addExtension,
  EXTENSIONS,
  type Extension,
  extensionOf,
  extensionRules,
} from './extensions.ts';
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

/** Begins the comment of elements that belong to a shared chain; no network's name begins like this. */
const CHAIN_MARK = '@';

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
  add(owner: string, rules: readonly PodRule[], options: { adminChain?: string } = {}): void {
    if (rules.length === 0) return;
    const needed = extensionsOf(rules);
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
        const { adminChain } = options;
        const admitted =
          adminChain === undefined || (chains.has(ADMIN_CHAIN) && this.#adminChains().includes(adminChain));
        this.#nft.transaction(batch => {
          if (table === undefined) addLayout(batch);
          for (const extension of needed)
            if (!chains.has(extension.chains[0].name)) addExtension(batch, extension);
          if (!admitted) {
            // Not exclusive: the administrator may have made it.
            batch.addChain(FAMILY, TABLE, { name: adminChain });
            batch.addRule(FAMILY, TABLE, {
              chain: ADMIN_CHAIN,
              expressions: [verdict({ jump: adminChain })],
            });
          }
          for (const rule of rules) addRule(batch, owner, rule, chains);
        });
      },
      owner,
      rules,
    );
  }

  /** The administrators' chains that forwarded packets go through. */
  #adminChains(): string[] {
    return this.#nft
      .listRules(FAMILY, TABLE, ADMIN_CHAIN)
      .flatMap(rule => (rule.target === undefined ? [] : [rule.target]));
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
      for (const { set, key } of rule.chain?.elements ?? [])
        if (this.#nft.getElement(FAMILY, TABLE, set, key) === undefined)
          return `what chain ${rule.chain?.name} has in ${set}`;
    }
    if (rules.length === 0) return undefined;
    return this.#incompleteChain(rules);
  }

  /** One of the table's own chains, in as far as `rules` need it, that does not have the rules it was made with. */
  #incompleteChain(rules: readonly PodRule[]): string | undefined {
    const present = new Set(this.#nft.listChains(FAMILY, TABLE).map(chain => chain.name));
    const needed = extensionsOf(rules);
    const wanted = new Map(LAYOUT_RULES);
    for (const extension of EXTENSIONS)
      if (needed.includes(extension) || present.has(extension.chains[0].name))
        for (const [chain, count] of extensionRules(extension))
          wanted.set(chain, (wanted.get(chain) ?? 0) + count);
    const counts = new Map<string, number>();
    for (const { chain } of this.#nft.listRules(FAMILY, TABLE))
      counts.set(chain, (counts.get(chain) ?? 0) + 1);
    for (const [chain, count] of wanted)
      if (counts.get(chain) !== count) return `a rule of chain ${chain} of table ${TABLE}`;
    return undefined;
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
    const ofPods = all.filter(one => !one.element.comment?.startsWith(CHAIN_MARK));
    const gone = ofPods.filter(one => chosen(one.element.comment ?? '', one.set));
    if (gone.length === 0 && ofPods.length > 0) return [];
    if (gone.length === ofPods.length && !this.#hasAdminRules()) {
      // ERESTART when another process adds a pod in this moment.
      this.#nft.transaction(batch => batch.delTable(FAMILY, TABLE), { generation });
      return gone;
    }
    const left = new Set(ofPods.filter(one => !gone.includes(one)).map(chainOf));
    const chains = new Set(gone.map(chainOf).filter(name => name !== undefined && !left.has(name)));
    const ofChains = all.filter(
      one => one.element.comment?.startsWith(CHAIN_MARK) && chains.has(one.element.comment.slice(1)),
    );
    this.#nft.transaction(batch => {
      for (const { set, element } of [...gone, ...ofChains])
        batch.delElements(FAMILY, TABLE, set, [{ key: element.key }]);
      for (const name of chains)
        if (name !== undefined) batch.flushChain(FAMILY, TABLE, name).delChain(FAMILY, TABLE, name);
    });
    return gone;
  }

  /** What an administrator wrote stays, and the table with it. */
  #hasAdminRules(): boolean {
    return this.#adminChains().some(chain => this.#nft.listRules(FAMILY, TABLE, chain).length > 0);
  }

  #dump(): Held[] {
    const list = (name: SetName): Held[] =>
      this.#nft.listElements(FAMILY, TABLE, name).map(element => ({ set: name, element }));
    const present = new Set(this.#nft.listSets(FAMILY, TABLE).map(set => set.name));
    const extended = EXTENSIONS.filter(one => present.has(one.sets[0]!.name)).flatMap(one => one.sets);
    return [...SETS, ...extended].flatMap(({ name }) => list(name));
  }

  close(): void {
    this.#nft.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function extensionsOf(rules: readonly PodRule[]): Extension[] {
  const found = rules.flatMap(rule => extensionOf(rule.set) ?? []);
  return [...new Set(found)];
}

function addRule(batch: NftBatch, owner: string, rule: PodRule, chains: Set<string>): void {
  const { chain } = rule;
  if (chain !== undefined && !chains.has(chain.name)) {
    chains.add(chain.name);
    batch.addChain(FAMILY, TABLE, { name: chain.name }, { exclusive: true });
    for (const expressions of chain.rules) batch.addRule(FAMILY, TABLE, { chain: chain.name, expressions });
    for (const { set, key } of chain.elements ?? [])
      batch.addElements(FAMILY, TABLE, set, [{ key, comment: `${CHAIN_MARK}${chain.name}` }], {
        exclusive: true,
      });
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
