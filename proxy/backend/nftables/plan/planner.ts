// The desired table of one family, kept up to date: a changed service port costs what its endpoints cost, and what it
// changed is known without comparing the rest. Pure.
import type { ResolvedPort } from '../../../model/types.ts';
import type { NftablesConfig } from './config.ts';
import { addressKey } from './key.ts';
import {
  balanceName,
  balancePart,
  fixedChains,
  fixedSets,
  pickName,
  pickPart,
  type Shared,
  stickyName,
  stickyPart,
} from './layout.ts';
import { type Lane, SET } from './names.ts';
import { nftablesPlaces } from './places.ts';
import { type Need, type PortPlan, planPort, slotsOf } from './port.ts';
import {
  type ChainPlan,
  type Family,
  noChanges,
  type SetPlan,
  type TableChanges,
  type TablePlan,
  wholeTable,
} from './state.ts';

const PRESENT = '';

function sameRules(left: ChainPlan, right: ChainPlan): boolean {
  return left === right || JSON.stringify(left.rules) === JSON.stringify(right.rules);
}

function sameSet(left: SetPlan, right: SetPlan): boolean {
  return left === right || JSON.stringify(left) === JSON.stringify(right);
}

interface PlannedPort {
  resolved: ResolvedPort;
  /** Undefined: the endpoints are in the order of the list. */
  slots: PortPlan['slots'];
}

export class TablePlanner implements TablePlan {
  readonly family: Family;
  readonly sets = new Map<string, SetPlan>();
  readonly chains = new Map<string, ChainPlan>();
  readonly elements = new Map<string, Map<string, string>>();
  readonly #config: NftablesConfig;
  /** Their plans are not kept: they follow from these, and would be most of this program's memory. */
  readonly #ports = new Map<string, PlannedPort>();
  /** Of keys that more than one port has. */
  readonly #counts = new Map<string, Map<string, number>>();
  readonly #shared = new Set<string>();
  #endpoints = 0;
  // What was there when the kernel last had everything, of what was touched since. Before it had anything, all is new.
  #acknowledged = false;
  readonly #oldElements = new Map<string, Map<string, string | undefined>>();
  readonly #oldChains = new Map<string, ChainPlan | undefined>();
  readonly #oldSets = new Map<string, SetPlan | undefined>();

  constructor(family: Family, config: NftablesConfig) {
    this.family = family;
    this.#config = config;
    for (const set of fixedSets(family)) this.#addSet(set);
    for (const chain of fixedChains(config, family)) this.#setChain(chain);
    const addresses = config.nodePortAddresses
      ? config.nodePortAddresses[family === 4 ? 'v4' : 'v6']
      : config.nodeIps.filter(ip => ip.includes(':') === (family === 6));
    for (const ip of addresses) this.#count(SET.nodePortIps, addressKey(ip), 1);
  }

  get endpoints(): number {
    return this.#endpoints;
  }

  /** Service ports that are new, changed or (undefined) gone. */
  update(ports: Iterable<readonly [string, ResolvedPort | undefined]>): void {
    const after: [string, ResolvedPort, PortPlan['slots']][] = [];
    // First everything goes, then everything comes: an address may pass from one Service to another.
    for (const [id, resolved] of ports) {
      const before = this.#ports.get(id);
      if (before) this.#remove(id, before);
      if (resolved) after.push([id, resolved, before && (before.slots ?? slotsOf(before.resolved))]);
    }
    for (const [id, resolved, slots] of after) this.#add(id, resolved, slots);
  }

  /** The elements and chains of one service port, one line each, for people. */
  placesOf(id: string): string[] {
    const known = this.#ports.get(id);
    return known ? nftablesPlaces(this.#planOf(known), this.sets) : [];
  }

  #planOf({ resolved, slots }: PlannedPort): PortPlan {
    return planPort(resolved, this.#config, slots);
  }

  #remove(id: string, port: PlannedPort): void {
    this.#ports.delete(id);
    this.#endpoints -= port.resolved.reachable.length;
    const plan = this.#planOf(port);
    for (const { set, key } of plan.elements) this.#setElement(set, key, undefined);
    for (const { set, key } of plan.counted) this.#count(set, key, -1);
    for (const { name } of plan.chains) this.#delChain(name);
    for (const { name } of plan.sets) this.#delSet(name);
  }

  #add(id: string, resolved: ResolvedPort, slots: PortPlan['slots']): void {
    const plan = planPort(resolved, this.#config, slots);
    this.#ports.set(id, { resolved, slots: plan.slots });
    this.#endpoints += resolved.reachable.length;
    for (const need of plan.needs) this.#provide(need);
    for (const set of plan.sets) this.#addSet(set);
    for (const chain of plan.chains) this.#setChain(chain);
    for (const { set, key, data } of plan.elements) this.#setElement(set, key, data);
    for (const { set, key } of plan.counted) this.#count(set, key, 1);
  }

  /** Shared chains stay for good: they cost little, and the next Service wants them again. */
  #provide(need: Need): void {
    if (need.is === 'chain')
      this.#share(need.chain.name, () => ({ sets: [], chains: [need.chain], elements: [] }));
    else if (need.is === 'sticky')
      this.#share(stickyName(need.lane, need.count, need.seconds), () =>
        stickyPart(this.family, need.lane, need.count, need.seconds),
      );
    else this.#provideBalance(need.lane, need.count);
  }

  #provideBalance(lane: Lane, count: number): void {
    const name = balanceName(lane, count);
    if (this.#shared.has(name)) return;
    for (let slot = 0; slot < count; slot++)
      this.#share(pickName(lane, slot), () => pickPart(this.family, lane, slot));
    if (count > 1) this.#share(name, () => balancePart(lane, count));
  }

  #share(name: string, make: () => Shared): void {
    if (this.#shared.has(name)) return;
    this.#shared.add(name);
    const part = make();
    for (const set of part.sets) this.#addSet(set);
    for (const chain of part.chains) this.#setChain(chain);
    for (const { set, key, data } of part.elements) this.#setElement(set, key, data);
  }

  #addSet(set: SetPlan): void {
    const known = this.sets.get(set.name);
    if (known && sameSet(known, set)) return;
    if (this.#acknowledged && !this.#oldSets.has(set.name)) this.#oldSets.set(set.name, known);
    this.sets.set(set.name, set);
    if (!this.elements.has(set.name)) this.elements.set(set.name, new Map());
  }

  #delSet(name: string): void {
    const known = this.sets.get(name);
    if (!known) return;
    if (this.#acknowledged && !this.#oldSets.has(name)) this.#oldSets.set(name, known);
    this.sets.delete(name);
    this.elements.delete(name);
  }

  #setChain(chain: ChainPlan): void {
    const known = this.chains.get(chain.name);
    if (this.#acknowledged && !this.#oldChains.has(chain.name)) this.#oldChains.set(chain.name, known);
    this.chains.set(chain.name, chain);
  }

  #delChain(name: string): void {
    if (this.#acknowledged && !this.#oldChains.has(name)) this.#oldChains.set(name, this.chains.get(name));
    this.chains.delete(name);
  }

  #setElement(set: string, key: string, data: string | undefined): void {
    const elements = this.elements.get(set);
    if (!elements) return;
    if (this.#acknowledged) {
      const old = this.#oldElements.get(set) ?? new Map<string, string | undefined>();
      this.#oldElements.set(set, old);
      if (!old.has(key)) old.set(key, elements.get(key));
    }
    if (data === undefined) elements.delete(key);
    else elements.set(key, data);
  }

  #count(set: string, key: string, by: 1 | -1): void {
    const counts = this.#counts.get(set) ?? new Map<string, number>();
    this.#counts.set(set, counts);
    const count = (counts.get(key) ?? (this.elements.get(set)?.has(key) ? 1 : 0)) + by;
    if (count > 1) counts.set(key, count);
    else counts.delete(key);
    if (count === 0 || (count === 1 && by === 1))
      this.#setElement(set, key, count === 0 ? undefined : PRESENT);
  }

  /** What changed since the last `acknowledge()`. */
  changes(): TableChanges {
    if (!this.#acknowledged) return wholeTable(this);
    const changes = noChanges();
    for (const [name, old] of this.#oldSets) {
      const now = this.sets.get(name);
      if (old && now && sameSet(old, now)) continue;
      if (old) changes.delSets.push(name);
      if (now) changes.addSets.push(now);
    }
    for (const [name, old] of this.#oldChains) {
      const now = this.chains.get(name);
      if (!old && now) changes.addChains.push(now);
      else if (old && !now) changes.delChains.push(name);
      else if (old && now && !sameRules(old, now)) changes.replaceRules.push(now);
    }
    for (const [set, olds] of this.#oldElements) {
      const elements = this.elements.get(set);
      // With a set go its elements.
      if (!elements) continue;
      const fresh = this.#oldSets.has(set) && this.#oldSets.get(set) === undefined;
      const del = [];
      const add = [];
      for (const [key, old] of olds) {
        const data = elements.get(key);
        if (old === data) continue;
        if (old !== undefined && !fresh) del.push({ key, data: old });
        if (data !== undefined) add.push({ key, data });
      }
      if (add.length > 0 || del.length > 0) changes.elements.set(set, { add, del });
    }
    return changes;
  }

  /** The kernel has it all. */
  acknowledge(): void {
    this.#acknowledged = true;
    this.#oldElements.clear();
    this.#oldChains.clear();
    this.#oldSets.clear();
  }
}
