// Planned rules and sets as nf_tables expressions and declarations: the same steps that nft makes of the same text.
import { bitwise } from '../../../../src/codec/nft/expression/bitwise.ts';
import { cmp } from '../../../../src/codec/nft/expression/cmp.ts';
import { CT_STATE, CT_STATUS, ct } from '../../../../src/codec/nft/expression/ct.ts';
import { deleteFromSet, updateSet } from '../../../../src/codec/nft/expression/dynset.ts';
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
import { SET } from '../plan/names.ts';
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
function load(family: Family, key: readonly Operand[], at = 0): Expression[] {
  const expressions: Expression[] = [];
  let to = at;
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

/**
 * Registers of session affinity, in words of four bytes; IPv6 needs all sixteen.
 *
 *     0       1 … w     1+w    2+w … 1+2w   2+2w    3+2w    4+2w … 3+3w
 *   nothing  endpoint   its     cluster IP  proto-  port    client, or the number
 *             address   port                  col           of an endpoint
 *
 * Every key and every datum is a run of these. What a lookup brings begins in the register before: see layout.ts.
 */
function stickyRegisters(family: Family) {
  const w = words(family);
  return { nothing: 0, endpoint: 1, endpointPort: 1 + w, service: 2 + w, client: 4 + 2 * w };
}

/** The service port that the packet's destination belongs to, and something in the endpoint's place for nft to print. */
function loadService(family: Family, key: readonly Operand[], services: string): Expression[] {
  const at = stickyRegisters(family);
  const destination = family === 4 ? 'ip daddr' : 'ip6 daddr';
  const byPort = key.length === 2;
  return [
    ...(byPort ? [payload(destination, at.service)] : []),
    ...load(family, key, byPort ? at.service + words(family) : at.service),
    lookup(services, { from: byPort ? at.service + words(family) : at.service, to: at.endpointPort }),
    payload(destination, at.endpoint),
    payload('th dport', at.endpointPort),
  ];
}

/** Ends with the client's affinity set or started anew, and the packet's destination. */
function toEndpoint(family: Family, expressions: Expression[]): Expression[] {
  const { endpoint, endpointPort, nothing } = stickyRegisters(family);
  return [
    immediate(Buffer.alloc(4), nothing),
    ...expressions,
    dnat({ family, address: endpoint, port: endpointPort }),
  ];
}

function recall(family: Family, { key, sets, seconds }: Statement & { is: 'recall' }): Expression[] {
  const at = stickyRegisters(family);
  return [
    ...loadService(family, key, sets.services),
    ...load(family, ['saddr'], at.client),
    lookup(SET.affinity, { from: at.service, to: at.nothing }),
    lookup(sets.endpoints, { from: at.endpoint }),
    ...toEndpoint(family, [updateSet(SET.affinity, seconds * 1000, { key: at.service, data: at.nothing })]),
  ];
}

function assign(family: Family, { key, sets, below, seconds }: Statement & { is: 'assign' }): Expression[] {
  const at = stickyRegisters(family);
  const registers = { key: at.service, data: at.nothing };
  return [
    ...loadService(family, key, sets.services),
    below === undefined ? immediate(Buffer.alloc(4), at.client) : numgenRandom(below, at.client),
    lookup(sets.picks, { from: at.service, to: at.nothing }),
    ...toEndpoint(
      family,
      seconds === undefined
        ? []
        : [
            ...load(family, ['saddr'], at.client),
            // Data of an element that is there would stay as it is.
            deleteFromSet(SET.affinity, registers),
            updateSet(SET.affinity, seconds * 1000, registers),
          ],
    ),
  ];
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
    case 'recall':
      return recall(family, statement);
    case 'assign':
      return assign(family, statement);
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
    ...(set.size === undefined ? {} : { size: set.size }),
    ...(set.key === 'random' ? { userData: typeofRandom(data === 'verdict' ? 'verdict' : family) } : {}),
  };
}

export function elementKind(set: SetPlan): ElementKind {
  if (set.data === undefined) return 'set';
  return set.data === 'verdict' ? 'verdict' : 'data';
}
