// Walks a packet through a planned nftables table, taking every branch that chance may take: what can become of it. A
// second opinion on the plan that knows nothing of how it was made.
import type { Operand, Statement, TablePlan } from '../../../proxy/backend/nftables/plan/state.ts';
import { cidrContains, parseCidrOrIp } from '../../../src/lib/cidr.ts';
import { requireIp } from '../../../src/lib/ip.ts';

export interface Packet {
  saddr: string;
  daddr: string;
  protocol: number;
  dport: number;
  /** The source is an address of this node. */
  fromNode?: boolean;
  /** The affinity map: service port (cluster IP, protocol, port) and client to endpoint, all latin1. */
  remembered?: ReadonlyMap<string, string>;
}

/** One possible end: where it was sent (latin1 of address and port), whether marked, and the verdict. */
export interface Outcome {
  target?: string;
  marked: boolean;
  verdict: 'accept' | 'drop' | 'reject';
}

/** Data of sticky maps begin with a word that says nothing. */
const NOTHING_BYTES = 4;

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

function field(packet: Packet, operand: Operand): string {
  switch (operand) {
    case 'saddr':
      return latin1(requireIp(packet.saddr));
    case 'daddr':
      return latin1(requireIp(packet.daddr));
    case 'protocol':
      return latin1(Uint8Array.of(packet.protocol, 0, 0, 0));
    case 'dport':
      return latin1(Uint8Array.of(packet.dport >> 8, packet.dport & 255, 0, 0));
  }
}

const randomKey = (n: number): string => latin1(Uint8Array.of(n & 255, n >> 8, 0, 0));

interface State {
  marked: boolean;
}

type Next = { end: Outcome } | { goto: string } | { jump: string } | 'next' | 'no match' | 'return';

export class PacketWalk {
  readonly #plan: TablePlan;
  readonly #packet: Packet;

  constructor(plan: TablePlan, packet: Packet) {
    this.#plan = plan;
    this.#packet = packet;
  }

  /** Every way through a chain; a packet that falls out of it is accepted there. */
  run(chain: string): Outcome[] {
    return this.#chain(chain, 0, { marked: false }, state => [{ marked: state.marked, verdict: 'accept' }]);
  }

  #lookup(key: readonly Operand[], map: string): string | undefined {
    const text = key.map(operand => field(this.#packet, operand)).join('');
    const set = this.#plan.sets.get(map);
    if (!set) throw new Error(`no set ${map}`);
    return this.#plan.elements.get(map)?.get(text);
  }

  /** The service port that this destination belongs to. */
  #service(key: readonly Operand[], services: string): string | undefined {
    return this.#lookup(key, services)?.slice(NOTHING_BYTES);
  }

  #chain(name: string, at: number, state: State, after: (state: State) => Outcome[]): Outcome[] {
    const chain = this.#plan.chains.get(name);
    if (!chain) throw new Error(`no chain ${name}`);
    const rule = chain.rules[at];
    if (!rule) return after(state);
    return this.#rule(rule, 0, state).flatMap(([next, then]) => {
      if (next === 'next' || next === 'no match') return this.#chain(name, at + 1, then, after);
      if (next === 'return') return after(then);
      if ('end' in next) return [next.end];
      if ('goto' in next) return this.#chain(next.goto, 0, then, after);
      return this.#chain(next.jump, 0, then, back => this.#chain(name, at + 1, back, after));
    });
  }

  #rule(rule: readonly Statement[], at: number, state: State): [Next, State][] {
    const statement = rule[at];
    if (!statement) return [['next', state]];
    return this.#statement(statement, state).flatMap(([next, then]): [Next, State][] =>
      next === 'next' ? this.#rule(rule, at + 1, then) : [[next, then]],
    );
  }

  #verdict(text: string | undefined, state: State): [Next, State][] {
    if (text === undefined) return [['no match', state]];
    if (text.startsWith('goto ')) return [[{ goto: text.slice(5) }, state]];
    if (text.startsWith('jump ')) return [[{ jump: text.slice(5) }, state]];
    if (text === 'return') return [['return', state]];
    return [[{ end: { marked: state.marked, verdict: text as 'drop' | 'accept' } }, state]];
  }

  #dnat(target: string | undefined, state: State): [Next, State][] {
    if (target === undefined) return [['no match', state]];
    return [[{ end: { target, marked: state.marked, verdict: 'accept' } }, state]];
  }

  #if(condition: boolean, state: State): [Next, State][] {
    return [[condition ? 'next' : 'no match', state]];
  }

  #statement(statement: Statement, state: State): [Next, State][] {
    const packet = this.#packet;
    switch (statement.is) {
      case 'address': {
        const inside = cidrContains(parseCidrOrIp(statement.cidr)!, requireIp(packet[statement.field]));
        return this.#if(inside !== statement.not, state);
      }
      case 'protocol':
        return this.#if(packet.protocol === { tcp: 6, udp: 17, sctp: 132 }[statement.protocol], state);
      case 'new':
        return [['next', state]];
      case 'local':
        return this.#if(packet.fromNode ?? false, state);
      case 'in':
        return this.#if(this.#lookup(statement.key, statement.set) !== undefined, state);
      case 'vmap':
        return this.#verdict(this.#lookup(statement.key, statement.map), state);
      case 'random-vmap':
        return Array.from({ length: statement.below }, (_, n) =>
          this.#plan.elements.get(statement.map)?.get(randomKey(n)),
        ).flatMap(text => this.#verdict(text, state));
      case 'dnat-map':
        return this.#dnat(this.#lookup(statement.key, statement.map), state);
      case 'dnat-random':
        return Array.from({ length: statement.below }, (_, n) =>
          this.#plan.elements.get(statement.map)?.get(randomKey(n)),
        ).flatMap(target => this.#dnat(target, state));
      case 'recall': {
        const service = this.#service(statement.key, statement.sets.services);
        const endpoint = this.#packet.remembered?.get(`${service}${field(packet, 'saddr')}`);
        const isThere = this.#plan.elements.get(statement.sets.endpoints)?.has(`${endpoint}${service}`);
        return this.#dnat(isThere ? endpoint : undefined, state);
      }
      case 'assign': {
        const service = this.#service(statement.key, statement.sets.services);
        const picks = this.#plan.elements.get(statement.sets.picks);
        return Array.from({ length: statement.below ?? 1 }, (_, n) =>
          picks?.get(`${service}${randomKey(n)}`)?.slice(NOTHING_BYTES),
        ).flatMap(target => this.#dnat(target, state));
      }
      case 'mark':
        return [['next', { marked: true }]];
      case 'verdict':
        return this.#verdict(statement.verdict, state);
      case 'reject':
        return [[{ end: { marked: state.marked, verdict: 'reject' } }, state]];
      default:
        throw new Error(`not walked: ${statement.is}`);
    }
  }
}
