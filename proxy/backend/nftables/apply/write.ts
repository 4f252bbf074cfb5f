// Writes changes of a table in transactions small enough that nobody waits long for the kernel's lock: what refers comes
// after what is referred to, packets meet a chain only when all behind it is there, and what goes, goes last. A small
// change is one transaction: packets see the old state or the new one.
import type { NftBatch } from '../../../../src/codec/nft/batch.ts';
import type { NftFamily } from '../../../../src/codec/nft/constants.ts';
import type { Nftables } from '../../../../src/linux/nftables.ts';
import { LAYOUT, TABLE } from '../plan/names.ts';
import type { ChainPlan, ElementPlan, Family, SetPlan, TableChanges, TablePlan } from '../plan/state.ts';
import { compileRule, compileSet, elementKind } from './compile.ts';

/** About 10 ms of the kernel's time. */
const TRANSACTION_WEIGHT = 4000;
/** A message costs about as much as so many elements; sets and rules more, as the kernel looks for sets in a list. */
const MESSAGE_WEIGHT = 4;
const SET_WEIGHT = 16;
const RULE_WEIGHT = 8;
const ELEMENTS_PER_STEP = 1000;

export function nftFamily(family: Family): NftFamily {
  return family === 4 ? 'ip' : 'ip6';
}

/** A part of a transaction that must not be divided. */
interface Step {
  weight: number;
  fill: (batch: NftBatch) => void;
}

class Writer {
  readonly #plan: TablePlan;
  readonly #family: NftFamily;
  readonly steps: Step[] = [];

  constructor(plan: TablePlan) {
    this.#plan = plan;
    this.#family = nftFamily(plan.family);
  }

  table(): void {
    this.steps.push({
      weight: 1,
      fill: batch => void batch.addTable(this.#family, TABLE, { comment: LAYOUT }),
    });
  }

  set(set: SetPlan): void {
    const spec = compileSet(this.#plan.family, set);
    this.steps.push({ weight: SET_WEIGHT, fill: batch => void batch.addSet(this.#family, TABLE, spec) });
  }

  chain(chain: ChainPlan): void {
    const spec = { name: chain.name, ...(chain.hook ? { hook: chain.hook } : {}) };
    this.steps.push({
      weight: MESSAGE_WEIGHT,
      fill: batch => void batch.addChain(this.#family, TABLE, spec),
    });
  }

  rules(chain: ChainPlan, flush: boolean): void {
    if (chain.rules.length === 0 && !flush) return;
    this.steps.push({
      weight: RULE_WEIGHT * (chain.rules.length + 1),
      fill: batch => {
        if (flush) batch.flushChain(this.#family, TABLE, chain.name);
        for (const rule of chain.rules)
          batch.addRule(this.#family, TABLE, {
            chain: chain.name,
            expressions: compileRule(this.#plan.family, rule),
          });
      },
    });
  }

  elements(name: string, del: readonly ElementPlan[], add: readonly ElementPlan[]): void {
    const set = this.#plan.sets.get(name);
    if (!set) return;
    const kind = elementKind(set);
    for (let at = 0; at < Math.max(del.length, add.length); at += ELEMENTS_PER_STEP) {
      const gone = del.slice(at, at + ELEMENTS_PER_STEP);
      const come = add.slice(at, at + ELEMENTS_PER_STEP);
      this.steps.push({
        weight: gone.length + come.length,
        fill: batch => {
          batch.delTextElements(this.#family, TABLE, name, kind, gone);
          batch.addTextElements(this.#family, TABLE, name, kind, come);
        },
      });
    }
  }

  remove(changes: TableChanges): void {
    const { delChains, delSets } = changes;
    const each = (names: readonly string[], fill: (batch: NftBatch, name: string) => void): void => {
      for (const name of names) this.steps.push({ weight: MESSAGE_WEIGHT, fill: batch => fill(batch, name) });
    };
    // Rules hold chains and sets, maps hold chains.
    each(delChains, (batch, name) => void batch.flushChain(this.#family, TABLE, name));
    each(delSets, (batch, name) => void batch.delSet(this.#family, TABLE, name));
    each(delChains, (batch, name) => void batch.delChain(this.#family, TABLE, name));
  }
}

/** Elements in the order in which they are safe one transaction after the other: targets first, ways to them last. */
function elementSteps(writer: Writer, plan: TablePlan, elements: TableChanges['elements']): void {
  const isWay = (set: string): boolean => plan.sets.get(set)?.data === 'verdict';
  const sets = [...elements.keys()].sort((a, b) => Number(isWay(a)) - Number(isWay(b)));
  const onlyGone = new Map<string, ElementPlan[]>();
  for (const set of sets) {
    const { del, add } = elements.get(set)!;
    const oldOf = new Map(del.map(one => [one.key, one]));
    // A changed element is deleted and added at once; in pairs, so that a step holds both.
    const replaced = add.filter(one => oldOf.has(one.key));
    const fresh = add.filter(one => !oldOf.has(one.key));
    for (const { key } of replaced) oldOf.delete(key);
    onlyGone.set(set, [...oldOf.values()]);
    const before = new Map(del.map(one => [one.key, one]));
    writer.elements(
      set,
      replaced.map(one => before.get(one.key)!),
      replaced,
    );
    writer.elements(set, [], fresh);
  }
  for (const set of sets.reverse()) writer.elements(set, onlyGone.get(set) ?? [], []);
}

export interface WriteOptions {
  /** The table is not there. */
  create?: boolean;
  /** Lets others have their turn between transactions. */
  pause: () => Promise<void>;
}

/** Returns the number of transactions; the first that is refused ends it. */
export async function writeChanges(
  nft: Nftables,
  plan: TablePlan,
  changes: TableChanges,
  options: WriteOptions,
): Promise<number> {
  const writer = new Writer(plan);
  if (options.create) writer.table();
  const inner = changes.addChains.filter(chain => !chain.hook);
  const hooks = changes.addChains.filter(chain => chain.hook);
  for (const set of changes.addSets) writer.set(set);
  for (const chain of inner) writer.chain(chain);
  for (const chain of inner) writer.rules(chain, false);
  for (const chain of changes.replaceRules) writer.rules(chain, true);
  elementSteps(writer, plan, changes.elements);
  for (const chain of hooks) writer.chain(chain);
  for (const chain of hooks) writer.rules(chain, false);
  let count = await transact(nft, writer.steps, options.pause);
  // By themselves, after the last reference is gone: some kernels refuse it in one transaction.
  const removal = new Writer(plan);
  removal.remove(changes);
  count += await transact(nft, removal.steps, options.pause);
  return count;
}

async function transact(nft: Nftables, steps: readonly Step[], pause: () => Promise<void>): Promise<number> {
  let count = 0;
  for (let next = 0; next < steps.length; ) {
    if (count > 0) await pause();
    nft.transaction(batch => {
      let weight = 0;
      do {
        const step = steps[next++]!;
        weight += step.weight;
        step.fill(batch);
      } while (next < steps.length && weight + steps[next]!.weight <= TRANSACTION_WEIGHT);
    });
    count++;
  }
  return count;
}
