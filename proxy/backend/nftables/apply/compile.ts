// Planned rules and sets as nf_tables expressions and declarations: the same steps that nft makes of the same text.
import { bitwise } from '../../../../src/codec/nft/expression/bitwise.ts';
import { cmp } from '../../../../src/codec/nft/expression/cmp.ts';
import { CT_STATE, CT_STATUS, ct } from '../../../../src/codec/nft/expression/ct.ts';
import { updateSet } from '../../../../src/codec/nft/expression/dynset.ts';
import type { Expression } from '../../../../src/codec/nft/expression/expression.ts';
import { fibDestinationType, fibSourceType, RTN_LOCAL } from '../../../../src/codec/nft/expression/fib.ts';
import { immediate, verdict } from '../../../../src/codec/nft/expression/immediate.ts';
import { lookup } from '../../../../src/codec/nft/expression/lookup.ts';
import { masquerade } from '../../../../src/codec/nft/expression/masquerade.ts';
import { meta, setMeta } from '../../../../src/codec/nft/expression/meta.ts';
import { dnat } from '../../../../src/codec/nft/expression/nat.ts';
import { numgenRandom } from '../../../../src/codec/nft/expression/numgen.ts';
import { payload } from '../../../../src/codec/nft/expression/payload.ts';
import { rejectReset, rejectUnreachable } from '../../../../src/codec/nft/expression/reject.ts';
import { type ElementKind, parseVerdict } from '../../../../src/codec/nft/scan.ts';
import type { SetSpec } from '../../../../src/codec/nft/set.ts';
import { typeofRandom } from '../../../../src/codec/nft/typeof.ts';
import { netmask, parseCidrOrIp } from '../../../../src/lib/cidr.ts';
import { PodwireError } from '../../../../src/lib/errors.ts';
import { requireIp } from '../../../../src/lib/ip.ts';
import type { Family, Operand, ProtocolName, Rule, SetPlan, Statement } from '../plan/state.ts';

const NUMBERS: Record<ProtocolName, number> = { tcp: 6, udp: 17, sctp: 132 };
const IFNAMSIZ = 16;

/** The host's byte order. */
function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

function words(family: Family): number {
  return family === 4 ? 1 : 4;
}

/** Loads a key's fields into consecutive registers. */
function load(family: Family, key: readonly Operand[]): Expression[] {
  const expressions: Expression[] = [];
  let to = 0;
  for (const field of key) {
    const isAddress = field === 'saddr' || field === 'daddr';
    if (isAddress) expressions.push(payload(family === 4 ? `ip ${field}` : `ip6 ${field}`, to));
    else expressions.push(field === 'protocol' ? meta('l4proto', to) : payload('th dport', to));
    to += isAddress ? words(family) : 1;
  }
  return expressions;
}

function matchAddress(family: Family, field: 'saddr' | 'daddr', not: boolean, text: string): Expression[] {
  const cidr = parseCidrOrIp(text);
  if (cidr?.family !== family) throw new PodwireError('INVALID_CIDR', `${text} is no IPv${family} network`);
  const operator = not ? '!=' : '==';
  const name = family === 4 ? (`ip ${field}` as const) : (`ip6 ${field}` as const);
  const { network, prefixLength } = cidr;
  // Whole bytes are compared as they are.
  if (prefixLength > 0 && prefixLength % 8 === 0) {
    const bytes = prefixLength / 8;
    return [payload(name, 0, bytes), cmp(operator, network.subarray(0, bytes))];
  }
  return [payload(name), bitwise(netmask(prefixLength, family)), cmp(operator, network)];
}

function matchInterface(not: boolean, name: string): Expression[] {
  const value = name.endsWith('*')
    ? Buffer.from(name.slice(0, -1))
    : Buffer.concat([Buffer.from(name), Buffer.alloc(Math.max(0, IFNAMSIZ - name.length))]);
  return [meta('iifname'), cmp(not ? '!=' : '==', value)];
}

/** The bit of a register is set. */
function hasBit(bit: number): Expression[] {
  return [bitwise(u32(bit)), cmp('!=', u32(0))];
}

function compileStatement(family: Family, statement: Statement): Expression[] {
  const port = words(family);
  switch (statement.is) {
    case 'address':
      return matchAddress(family, statement.field, statement.not, statement.cidr);
    case 'interface':
      return matchInterface(statement.not, statement.name);
    case 'protocol':
      return [meta('l4proto'), cmp('==', Buffer.of(NUMBERS[statement.protocol]))];
    case 'new':
      return [ct('state'), ...hasBit(CT_STATE.new)];
    case 'translated':
      return [ct('status'), ...hasBit(CT_STATUS.dnat)];
    case 'local':
      return [
        statement.field === 'saddr' ? fibSourceType() : fibDestinationType(),
        cmp('==', u32(RTN_LOCAL)),
      ];
    case 'marked':
      return [meta('mark'), ...hasBit(statement.mark)];
    case 'in':
      return [...load(family, statement.key), lookup(statement.set)];
    case 'vmap':
      return [...load(family, statement.key), lookup(statement.map, { to: 'verdict' })];
    case 'random-vmap':
      return [numgenRandom(statement.below), lookup(statement.map, { to: 'verdict' })];
    case 'random-zero':
      return [numgenRandom(statement.below), cmp('==', u32(0))];
    case 'dnat-map':
      return [
        ...load(family, statement.key),
        lookup(statement.map, { to: 0 }),
        dnat({ family, address: 0, port }),
      ];
    case 'dnat-random':
      return [
        numgenRandom(statement.below),
        lookup(statement.map, { to: 0 }),
        dnat({ family, address: 0, port }),
      ];
    case 'dnat': {
      const number = Buffer.alloc(2);
      number.writeUInt16BE(statement.port);
      const [address, port] = [0, 4];
      return [
        immediate(requireIp(statement.ip), address),
        immediate(number, port),
        dnat({ family, address, port }),
      ];
    }
    case 'remember':
      return [...load(family, ['saddr']), updateSet(statement.set, statement.seconds * 1000)];
    case 'mark':
      return [meta('mark'), bitwise(u32(~statement.mark), u32(statement.mark)), setMeta('mark')];
    case 'unmark':
      return [meta('mark'), bitwise(u32(0xffffffff), u32(statement.mark)), setMeta('mark')];
    case 'reject':
      return [statement.how === 'reset' ? rejectReset() : rejectUnreachable(family)];
    case 'masquerade':
      return [masquerade({ fullyRandom: statement.fullyRandom })];
    case 'verdict':
      return [verdict(parseVerdict(statement.verdict))];
  }
}

export function compileRule(family: Family, rule: Rule): Expression[] {
  return rule.flatMap(statement => compileStatement(family, statement));
}

export function compileSet(family: Family, set: SetPlan): SetSpec {
  const { name, data } = set;
  return {
    name,
    key: set.key === 'random' ? ['integer'] : set.key,
    ...(data === undefined ? {} : { data }),
    ...(set.dynamic ? { dynamic: true } : {}),
    ...(set.key === 'random' ? { userData: typeofRandom(data === 'verdict' ? 'verdict' : family) } : {}),
  };
}

export function elementKind(set: SetPlan): ElementKind {
  if (set.data === undefined) return 'set';
  return set.data === 'verdict' ? 'verdict' : 'data';
}
