// Keeps one family's table as planned: writes what changed, compares with the kernel, mends. It does one thing at a time;
// its owner sees to that. A comparison can be broken off between two parts, and tells so.
import { PodwireError } from '../../../../src/lib/errors.ts';
import type { Netns } from '../../../../src/linux/netns.ts';
import { Nftables } from '../../../../src/linux/nftables.ts';
import type { ResolvedPort } from '../../../model/types.ts';
import type { ForgottenFrontend } from '../../backend.ts';
import type { NftablesConfig } from '../plan/config.ts';
import { decodeFrontend } from '../plan/key.ts';
import { SET, TABLE } from '../plan/names.ts';
import { TablePlanner } from '../plan/planner.ts';
import {
  type ElementChanges,
  type Family,
  isEmpty,
  noChanges,
  type TableChanges,
  wholeTable,
} from '../plan/state.ts';
import { formatKey } from '../plan/text.ts';
import { CompiledRules, inspectElements, inspectStructure, type Structure } from './inspect.ts';
import { nftFamily, writeChanges } from './write.ts';

/** What somebody else changed, and was put back. */
export interface NftRepair {
  family: Family;
  /** In words: `map service-ips: element 10.96.0.1 . tcp . 80 missing`. */
  what: string;
}

const IPPROTO_UDP = 17;
/** Elements named one by one in a repair; of more only the number. */
const NAMED_ELEMENTS = 5;
/** So often a set that changes while it is read is read again. */
const ATTEMPTS = 5;

/** Lets others have their turn; resolves with false when the work should be broken off. */
export type Pause = () => Promise<boolean>;

async function always(pause: Pause): Promise<void> {
  await pause();
}

export class TableKeeper {
  readonly family: Family;
  readonly planner: TablePlanner;
  readonly #netns: Netns | undefined;
  readonly #nft: Nftables;
  readonly #compiled = new CompiledRules();
  readonly #forgotten: ForgottenFrontend[] = [];
  /** The table of an earlier life was taken over. */
  #adopted = false;

  constructor(family: Family, config: NftablesConfig, nft: Nftables, netns: Netns | undefined) {
    this.family = family;
    this.planner = new TablePlanner(family, config);
    this.#nft = nft;
    this.#netns = netns;
  }

  update(ports: Iterable<readonly [string, ResolvedPort | undefined]>): void {
    this.planner.update(ports);
  }

  /** Writes what changed since the last success. */
  async write(pause: Pause): Promise<void> {
    const changes = this.planner.changes();
    if (!isEmpty(changes))
      await writeChanges(this.#nft, this.planner, changes, { pause: () => always(pause) });
    this.planner.acknowledge();
  }

  /** Makes the table what is planned, whatever it was; what had to be changed. */
  async replace(pause: Pause): Promise<NftRepair[]> {
    const wait = { pause: () => always(pause) };
    const structure = await this.#compare(pause);
    if (structure.state !== 'ours') {
      if (structure.state === 'foreign')
        this.#nft.transaction(batch => batch.delTable(nftFamily(this.family), TABLE));
      await writeChanges(this.#nft, this.planner, wholeTable(this.planner), { ...wait, create: true });
      this.planner.acknowledge();
      return [this.#repair(`table ${TABLE} ${structure.state}`)];
    }
    const { changes } = structure;
    const repairs = this.#describe(changes);
    if (repairs.length > 0) await writeChanges(this.#nft, this.planner, changes, wait);
    this.planner.acknowledge();
    if (!this.#adopted) this.#forget(changes);
    this.#adopted = true;
    return repairs;
  }

  /** What `replace` would have to change; changes nothing. */
  async compare(pause: Pause): Promise<NftRepair[]> {
    const structure = await this.#compare(pause);
    return structure.state === 'ours'
      ? this.#describe(structure.changes)
      : [this.#repair(`table ${TABLE} ${structure.state}`)];
  }

  /** UDP frontends of an earlier life that went with the first comparison; each only once. */
  takeForgotten(): ForgottenFrontend[] {
    return this.#forgotten.splice(0);
  }

  #forget({ elements }: TableChanges): void {
    for (const name of [SET.serviceIps, SET.nodePorts]) {
      const { del = [], add = [] } = elements.get(name) ?? {};
      const stay = new Set(add.map(({ key }) => key));
      for (const { key } of del) {
        const { protocol, ...frontend } = decodeFrontend(key);
        if (protocol === IPPROTO_UDP && !stay.has(key))
          this.#forgotten.push({ family: this.family, ...frontend });
      }
    }
  }

  async #compare(pause: Pause): Promise<Structure> {
    const structure = inspectStructure(this.#nft, this.planner, this.#compiled);
    if (structure.state !== 'ours') return structure;
    const { changes } = structure;
    for (const name of this.planner.sets.keys()) {
      if (changes.elements.has(name) || changes.addSets.some(set => set.name === name)) continue;
      // Nobody is to write before all is known, so this is not broken off.
      const found = await this.#inspect(name, async () => {
        await pause();
        return true;
      });
      if (found && (found.add.length > 0 || found.del.length > 0)) changes.elements.set(name, found);
    }
    return structure;
  }

  /** Compares declarations, chains and rules, and mends. */
  async verifyStructure(pause: Pause): Promise<NftRepair[]> {
    const structure = inspectStructure(this.#nft, this.planner, this.#compiled);
    if (structure.state === 'ours' && isEmpty(structure.changes)) return [];
    return this.replace(pause);
  }

  /** Compares one set's elements, and mends; undefined when it was broken off. */
  async verifyElements(name: string, pause: Pause): Promise<NftRepair[] | undefined> {
    const found = await this.#inspect(name, pause);
    if (found === undefined) return undefined;
    const changes = { ...noChanges(), elements: new Map([[name, found]]) };
    const repairs = this.#describe(changes);
    if (repairs.length > 0)
      await writeChanges(this.#nft, this.planner, changes, { pause: () => always(pause) });
    return repairs;
  }

  async #inspect(name: string, pause: Pause): Promise<ElementChanges | undefined> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      // A socket of its own: a dump that is broken off leaves answers behind.
      using nft = Nftables.open(this.#netns);
      const parts = inspectElements(nft, this.planner, name);
      // After enough attempts without a break in between, which nobody can disturb but another process.
      const patient = attempt < ATTEMPTS - 2;
      for (;;) {
        const { done, value } = parts.next();
        if (done) {
          if (value !== undefined) return value;
          break;
        }
        if (patient && !(await pause())) return undefined;
      }
    }
    throw new PodwireError(
      'DUMP_INTERRUPTED',
      `set ${TABLE} ${name}: changed while it was read, ${ATTEMPTS} times`,
    );
  }

  #repair(what: string): NftRepair {
    return { family: this.family, what };
  }

  #describe(changes: TableChanges): NftRepair[] {
    const repairs: NftRepair[] = [];
    const say = (names: readonly string[], text: (name: string) => string): void => {
      for (const name of names) repairs.push(this.#repair(text(name)));
    };
    say(
      changes.addSets.map(set => set.name),
      name => `set ${name} missing`,
    );
    say(
      changes.addChains.map(chain => chain.name),
      name => `chain ${name} missing`,
    );
    say(
      changes.replaceRules.map(chain => chain.name),
      name => `chain ${name}: other rules`,
    );
    say(changes.delChains, name => `chain ${name} unknown`);
    say(changes.delSets, name => `set ${name} unknown`);
    for (const [name, { add, del }] of changes.elements) {
      const set = this.planner.sets.get(name);
      const wrong = new Map<string, string>();
      for (const { key } of del) wrong.set(key, 'unknown');
      for (const { key } of add) wrong.set(key, wrong.has(key) ? 'other data' : 'missing');
      const named = [...wrong].slice(0, NAMED_ELEMENTS);
      say(
        named.map(([key, why]) => `${set ? formatKey(set, key) : key} ${why}`),
        text => `${name}: element ${text}`,
      );
      if (wrong.size > named.length)
        repairs.push(this.#repair(`${name}: ${wrong.size - named.length} more elements`));
    }
    return repairs;
  }
}
