// portmap's conditionsV4 and conditionsV6 in nft's language: what a packet must be like besides its port. Each becomes the
// expressions of rules; several values in braces become several rules, so no set has to be made for them. Pure.
//
//   ip saddr 10.0.0.0/8 iifname != "eth1"      ip saddr { 10.0.0.1, 10.0.1.0-10.0.1.9 }
//   meta mark & 0xff == 0x1     ct state new     tcp sport 1024-65535     fib saddr type unicast
import { bitwise } from '../../src/codec/nft/expression/bitwise.ts';
import { cmp } from '../../src/codec/nft/expression/cmp.ts';
import { CT_STATE, CT_STATUS, ct } from '../../src/codec/nft/expression/ct.ts';
import type { Expression } from '../../src/codec/nft/expression/expression.ts';
import { fibDestinationType, fibSourceType, RTN_TYPE } from '../../src/codec/nft/expression/fib.ts';
import { meta } from '../../src/codec/nft/expression/meta.ts';
import { payload } from '../../src/codec/nft/expression/payload.ts';
import { range } from '../../src/codec/nft/expression/range.ts';
import { netmask, parseCidrOrIp } from '../../src/lib/cidr.ts';
import { familyOf, parseIp } from '../../src/lib/ip.ts';
import { Words } from './condition-words.ts';
import { interfaceKey } from './extensions.ts';
import { family as familyOnly, u32Host } from './layout.ts';

type Operator = '==' | '!=';
/** What ends a rule unless one value matches (or does not, with `!=`). */
type Test = (word: string, operator: Operator, words: Words) => Expression[];

interface Selector {
  /** Loads the value into register 0, after checks that it is there. */
  load: readonly Expression[];
  test: Test;
  /** Words that stand for bits: a packet has any of them. */
  flags?: Readonly<Record<string, number>>;
  /** `& MASK` may stand before the comparison. */
  masked?: boolean;
}

const PROTOCOLS = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, 'ipv6-icmp': 58, sctp: 132 } as const;
/** Rules that one condition may become; braces multiply. */
const MAX_RULES = 64;

/** Rules' beginnings, any of which the packet must match; one empty list when there is no condition. */
export function parseConditions(field: string, fragments: readonly string[], family: 4 | 6): Expression[][] {
  const words = new Words(field, fragments);
  let rules: Expression[][] = [[]];
  while (!words.done) {
    const alternatives = parseOne(words, family);
    rules = rules.flatMap(rule => alternatives.map(more => [...rule, ...more]));
    if (rules.length > MAX_RULES) throw words.refuse(undefined, `it takes more than ${MAX_RULES} rules`);
  }
  return rules;
}

function parseOne(words: Words, family: 4 | 6): Expression[][] {
  const { load, test, flags, masked } = readSelector(words, family);
  const mask =
    masked && words.skip('&', 'and') ? [bitwise(u32Host(readNumber(words.take(), 2 ** 32, words)))] : [];
  const operator: Operator = words.skip('!=') ? '!=' : '==';
  if (operator === '==') words.skip('==');
  const values = words.values();
  if (flags !== undefined) {
    while (!values.braces && words.skip(',')) values.words.push(words.take());
    return [[...load, ...anyFlag(values.words, flags, operator, words)]];
  }
  const tests = values.words.map(word => [...load, ...mask, ...test(word, operator, words)]);
  return operator === '!=' ? [tests.flat()] : tests;
}

function readSelector(words: Words, family: 4 | 6): Selector {
  const first = words.take();
  switch (first) {
    case 'ip':
    case 'ip6':
      return readNetwork(first, words, family);
    case 'tcp':
    case 'udp':
    case 'sctp':
    case 'th':
      return readPort(first, words);
    case 'ct':
      return readConntrack(words);
    case 'fib': {
      const [side, what] = [words.take(), words.take()];
      if ((side !== 'saddr' && side !== 'daddr') || what !== 'type') throw words.refuse();
      const load = side === 'saddr' ? fibSourceType() : fibDestinationType();
      return { load: [load], test: testName(RTN_TYPE, u32Host) };
    }
    default:
      return readMeta(first === 'meta' ? words.take() : first, words);
  }
}

function readNetwork(header: 'ip' | 'ip6', words: Words, family: 4 | 6): Selector {
  if ((header === 'ip') !== (family === 4))
    throw words.refuse(header, `the condition is for IPv${family} only`);
  const field = words.take();
  if (field === 'saddr' || field === 'daddr')
    // The family is known, but nft prints an address as one only where it sees that.
    return { load: [...familyOnly(family), payload(`${header} ${field}`)], test: testAddress(family) };
  if (field === (header === 'ip' ? 'protocol' : 'nexthdr')) return readMeta('l4proto', words);
  throw words.refuse();
}

function readPort(protocol: 'tcp' | 'udp' | 'sctp' | 'th', words: Words): Selector {
  const field = words.take();
  if (field !== 'sport' && field !== 'dport') throw words.refuse();
  const check = protocol === 'th' ? [] : [meta('l4proto'), cmp('==', Buffer.of(PROTOCOLS[protocol]))];
  return { load: [...check, payload(`th ${field}`)], test: testPort };
}

function readConntrack(words: Words): Selector {
  switch (words.take()) {
    case 'state':
      return { load: [ct('state')], test: testMark, flags: CT_STATE };
    case 'status':
      return { load: [ct('status')], test: testMark, flags: CT_STATUS };
    case 'mark':
      return { load: [ct('mark')], test: testMark, masked: true };
    default:
      throw words.refuse();
  }
}

function readMeta(key: string, words: Words): Selector {
  switch (key) {
    case 'mark':
      return { load: [meta('mark')], test: testMark, masked: true };
    case 'iifname':
    case 'oifname':
      return { load: [meta(key)], test: testInterface };
    case 'l4proto':
      return { load: [meta('l4proto')], test: testName(PROTOCOLS, number => Buffer.of(number)) };
    default:
      throw words.refuse(
        key,
        'known are ip, ip6, tcp, udp, sctp, th, ct, fib, mark, iifname, oifname, l4proto',
      );
  }
}

function anyFlag(
  names: readonly string[],
  flags: Readonly<Record<string, number>>,
  operator: Operator,
  words: Words,
): Expression[] {
  let mask = 0;
  for (const name of names) {
    const bit = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (bit === undefined) throw words.refuse(name, `known are ${Object.keys(flags).join(', ')}`);
    mask |= bit;
  }
  return [bitwise(u32Host(mask)), cmp(operator === '==' ? '!=' : '==', u32Host(0))];
}

function testAddress(family: 4 | 6): Test {
  return (word, operator, words) => {
    const [low = '', high] = word.split('-');
    if (high !== undefined) {
      const ends = [parseIp(low), parseIp(high)] as const;
      const [from, to] = ends;
      if (from === undefined || to === undefined || familyOf(from) !== family || familyOf(to) !== family)
        throw words.refuse(word);
      if (Buffer.compare(from, to) > 0) throw words.refuse(word, 'the range ends before it begins');
      return [range(operator, from, to)];
    }
    const cidr = parseCidrOrIp(word);
    if (cidr === undefined || cidr.family !== family) throw words.refuse(word);
    const whole = cidr.prefixLength === cidr.address.length * 8;
    return [...(whole ? [] : [bitwise(netmask(cidr.prefixLength, family))]), cmp(operator, cidr.network)];
  };
}

const testPort: Test = (word, operator, words) => {
  const [low = '', high] = word.split('-');
  const bytes = (text: string): Buffer => {
    const port = readNumber(text, 65536, words);
    return Buffer.of(port >> 8, port & 255);
  };
  if (high === undefined) return [cmp(operator, bytes(low))];
  if (Buffer.compare(bytes(low), bytes(high)) > 0)
    throw words.refuse(word, 'the range ends before it begins');
  return [range(operator, bytes(low), bytes(high))];
};

const testMark: Test = (word, operator, words) => [cmp(operator, u32Host(readNumber(word, 2 ** 32, words)))];

/** `eth*` is every name that begins so. */
const testInterface: Test = (word, operator, words) => {
  const name = word.replaceAll('"', '');
  const prefix = name.endsWith('*') ? name.slice(0, -1) : undefined;
  if (name === '' || prefix === '' || Buffer.byteLength(name) > 15) throw words.refuse(word);
  return [cmp(operator, prefix === undefined ? interfaceKey(name) : Buffer.from(prefix))];
};

function testName(numbers: Readonly<Record<string, number>>, encode: (number: number) => Buffer): Test {
  return (word, operator, words) => {
    const known = Object.hasOwn(numbers, word) ? numbers[word] : undefined;
    return [cmp(operator, encode(known ?? readNumber(word, 256, words)))];
  };
}

function readNumber(word: string, below: number, words: Words): number {
  const number = /^(0x[0-9a-f]+|[0-9]+)$/i.test(word) ? Number(word) : Number.NaN;
  if (!(number < below)) throw words.refuse(word);
  return number;
}
