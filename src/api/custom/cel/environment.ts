// The language of validation rules: CEL with the functions Kubernetes adds to it (apiserver pkg/cel/library, cel-go
// ext/strings and ext/sets). What a rule may be long and deep is limited when it is read, how long it may run in
// time-limit.ts. Regular expressions are JavaScript's, as for a schema's `pattern`.
import { Environment } from '@marcbachmann/cel-js';
import { cidrContains, cidrContainsCidr, formatCidr, maskIp, parseCidr } from '../../../lib/cidr.ts';
import {
  canonicalIp,
  familyOf,
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnspecified,
  parseIp,
} from '../../../lib/ip.ts';
import {
  addQuantity,
  compareQuantity,
  isQuantity,
  parseQuantity,
  type Quantity,
  quantityValue,
  subtractQuantity,
} from '../../quantity.ts';

const LIMITS = {
  maxAstNodes: 5000,
  maxDepth: 100,
  maxListElements: 1000,
  maxMapEntries: 1000,
  maxCallArguments: 16,
};

type Scalar = string | number | bigint | boolean | Date;

class CelQuantity {
  readonly value: Quantity;
  constructor(value: Quantity) {
    this.value = value;
  }
}

class CelIp {
  readonly bytes: Uint8Array;
  constructor(text: string) {
    const bytes = parseIp(text);
    if (bytes === undefined) throw new Error(`IP Address "${text}" parse error`);
    this.bytes = bytes;
  }
}

class CelCidr {
  readonly cidr: NonNullable<ReturnType<typeof parseCidr>>;
  constructor(text: string) {
    const cidr = parseCidr(text);
    if (cidr === undefined) throw new Error(`network address "${text}" parse error`);
    this.cidr = cidr;
  }
}

class CelUrl {
  readonly url: URL;
  constructor(text: string) {
    this.url = new URL(text);
  }
}

/** What `sets.contains(…)` and `ip.isCanonical(…)` are called on. */
class SetsNamespace {}
class IpNamespace {}

const less = (a: Scalar, b: Scalar): boolean => a < b;

function isSorted(list: readonly Scalar[]): boolean {
  return list.every((item, i) => i === 0 || !less(item, list[i - 1]!));
}

function extreme(list: readonly Scalar[], name: string, better: (a: Scalar, b: Scalar) => boolean): Scalar {
  const [first, ...rest] = list;
  if (first === undefined) throw new Error(`${name} called on empty list`);
  return rest.reduce((best, item) => (better(item, best) ? item : best), first);
}

function sum(list: readonly (number | bigint)[]): number | bigint {
  let total: number | bigint = typeof list[0] === 'number' ? 0 : 0n;
  for (const item of list) total = (total as number) + (item as number);
  return total;
}

const same = (a: unknown, b: unknown): boolean => deepEqual(a, b);
const within = (list: readonly unknown[], item: unknown): boolean => list.some(one => same(one, item));

/** Equality of two values of the language, objects member by member. */
export function deepEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (a instanceof Date && b instanceof Date) return a.getTime() === b.getTime();
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, i) => deepEqual(item, b[i]));
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (a.constructor !== b.constructor) return false;
  if (a instanceof Map && b instanceof Map)
    return a.size === b.size && [...a].every(([key, value]) => b.has(key) && deepEqual(value, b.get(key)));
  const [left, right] = [Object.entries(a), b as Record<string, unknown>];
  return (
    left.length === Object.keys(right).length &&
    left.every(([name, value]) => Object.hasOwn(right, name) && deepEqual(value, right[name]))
  );
}

function addStrings(env: Environment): void {
  env
    .registerFunction('string.charAt(int): string', (text: string, at: bigint) => text.charAt(Number(at)))
    .registerFunction('string.replace(string, string): string', (text: string, from: string, to: string) =>
      text.split(from).join(to),
    )
    .registerFunction(
      'string.replace(string, string, int): string',
      (text: string, from: string, to: string, most: bigint) => {
        let left = most < 0n ? Number.POSITIVE_INFINITY : Number(most);
        const [head, ...rest] = text.split(from);
        return rest.reduce((out, part) => out + (left-- > 0 ? to : from) + part, head ?? '');
      },
    )
    .registerFunction('string.reverse(): string', (text: string) => [...text].reverse().join(''))
    .registerFunction('string.find(string): string', (text: string, pattern: string) => {
      return new RegExp(pattern, 'u').exec(text)?.[0] ?? '';
    })
    .registerFunction('string.findAll(string): list<string>', (text: string, pattern: string) =>
      [...text.matchAll(new RegExp(pattern, 'gu'))].map(match => match[0]),
    );
}

function addLists(env: Environment): void {
  env
    .registerFunction('list.isSorted(): bool', isSorted)
    .registerFunction('list<A>.min(): A', (list: Scalar[]) => extreme(list, 'min', less))
    .registerFunction('list<A>.max(): A', (list: Scalar[]) => extreme(list, 'max', (a, b) => less(b, a)))
    .registerFunction('list<A>.sum(): A', sum)
    .registerFunction('list.indexOf(dyn): int', (list: unknown[], item: unknown) =>
      BigInt(list.findIndex(one => same(one, item))),
    )
    .registerFunction('list.lastIndexOf(dyn): int', (list: unknown[], item: unknown) =>
      BigInt(list.findLastIndex(one => same(one, item))),
    )
    .registerType('SetsNamespace', { ctor: SetsNamespace, fields: {} })
    .registerConstant('sets', 'SetsNamespace', new SetsNamespace())
    .registerFunction('SetsNamespace.contains(list, list): bool', (_: unknown, a: unknown[], b: unknown[]) =>
      b.every(item => within(a, item)),
    )
    .registerFunction(
      'SetsNamespace.equivalent(list, list): bool',
      (_: unknown, a: unknown[], b: unknown[]) =>
        a.every(item => within(b, item)) && b.every(item => within(a, item)),
    )
    .registerFunction(
      'SetsNamespace.intersects(list, list): bool',
      (_: unknown, a: unknown[], b: unknown[]) => a.some(item => within(b, item)),
    );
}

function addQuantities(env: Environment): void {
  const compare = (a: CelQuantity, b: CelQuantity): number => compareQuantity(a.value, b.value);
  env
    .registerType('Quantity', { ctor: CelQuantity, fields: {} })
    .registerFunction('isQuantity(string): bool', (text: string) => isQuantity(text))
    .registerFunction('quantity(string): Quantity', (text: string) => new CelQuantity(parseQuantity(text)))
    .registerFunction('Quantity.isGreaterThan(Quantity): bool', (a, b) => compare(a, b) > 0)
    .registerFunction('Quantity.isLessThan(Quantity): bool', (a, b) => compare(a, b) < 0)
    .registerFunction('Quantity.compareTo(Quantity): int', (a, b) => BigInt(Math.sign(compare(a, b))))
    .registerFunction('Quantity.sign(): int', a =>
      BigInt(Math.sign(compare(a, new CelQuantity(parseQuantity('0'))))),
    )
    .registerFunction('Quantity.asInteger(): int', a => quantityValue(a.value))
    .registerFunction(
      'Quantity.add(Quantity): Quantity',
      (a, b) => new CelQuantity(addQuantity(a.value, b.value)),
    )
    .registerFunction(
      'Quantity.sub(Quantity): Quantity',
      (a, b) => new CelQuantity(subtractQuantity(a.value, b.value)),
    )
    .registerOperator('Quantity == Quantity', (a, b) => compare(a, b) === 0);
}

function addAddresses(env: Environment): void {
  const test = (name: string, holds: (bytes: Uint8Array) => boolean): void => {
    env.registerFunction(`IP.${name}(): bool`, (ip: CelIp) => holds(ip.bytes));
  };
  env
    .registerType('IP', { ctor: CelIp, fields: {} })
    .registerType('CIDR', { ctor: CelCidr, fields: {} })
    .registerFunction('ip(string): IP', (text: string) => new CelIp(text))
    .registerFunction('isIP(string): bool', (text: string) => parseIp(text) !== undefined)
    .registerFunction('IP.family(): int', (ip: CelIp) => BigInt(familyOf(ip.bytes)))
    .registerOperator('IP == IP', (a: CelIp, b: CelIp) => deepEqual([...a.bytes], [...b.bytes]))
    .registerType('IpNamespace', { ctor: IpNamespace, fields: {} })
    .registerConstant('ip', 'IpNamespace', new IpNamespace())
    .registerFunction(
      'IpNamespace.isCanonical(string): bool',
      (_: unknown, text: string) => canonicalIp(text) === text,
    )
    .registerFunction('cidr(string): CIDR', (text: string) => new CelCidr(text))
    .registerFunction('isCIDR(string): bool', (text: string) => parseCidr(text) !== undefined)
    .registerFunction('CIDR.containsIP(string): bool', ({ cidr }: CelCidr, text: string) =>
      cidrContains(cidr, new CelIp(text).bytes),
    )
    .registerFunction('CIDR.containsIP(IP): bool', ({ cidr }: CelCidr, ip: CelIp) =>
      cidrContains(cidr, ip.bytes),
    )
    .registerFunction('CIDR.containsCIDR(string): bool', ({ cidr }: CelCidr, text: string) =>
      cidrContainsCidr(cidr, new CelCidr(text).cidr),
    )
    .registerFunction('CIDR.containsCIDR(CIDR): bool', (outer: CelCidr, inner: CelCidr) =>
      cidrContainsCidr(outer.cidr, inner.cidr),
    )
    .registerFunction('CIDR.prefixLength(): int', ({ cidr }: CelCidr) => BigInt(cidr.prefixLength))
    .registerFunction('CIDR.masked(): CIDR', ({ cidr }: CelCidr) => {
      const masked = maskIp(cidr.network, cidr.prefixLength);
      return new CelCidr(formatCidr({ ...cidr, network: masked }));
    })
    .registerOperator('CIDR == CIDR', (a: CelCidr, b: CelCidr) => formatCidr(a.cidr) === formatCidr(b.cidr));
  test('isLoopback', isLoopback);
  test('isLinkLocalUnicast', isLinkLocal);
  test('isUnspecified', isUnspecified);
  test('isGlobalUnicast', bytes =>
    ![isLoopback, isLinkLocal, isUnspecified, isMulticast].some(is => is(bytes)));
}

function addUrls(env: Environment): void {
  const part = (name: string, read: (url: URL) => string): void => {
    env.registerFunction(`URL.${name}(): string`, ({ url }: CelUrl) => read(url));
  };
  env
    .registerType('URL', { ctor: CelUrl, fields: {} })
    .registerFunction('url(string): URL', (text: string) => new CelUrl(text))
    .registerFunction('isURL(string): bool', (text: string) => URL.canParse(text));
  part('getScheme', url => url.protocol.replace(/:$/, ''));
  part('getHost', url => url.host);
  part('getHostname', url => url.hostname.replace(/^\[|\]$/g, ''));
  part('getPort', url => url.port);
  part('getEscapedPath', url => url.pathname);
}

/** Everything but `self` and `oldSelf`. */
export function baseEnvironment(): Environment {
  const env = new Environment({
    enableOptionalTypes: true,
    homogeneousAggregateLiterals: false,
    limits: LIMITS,
  });
  addStrings(env);
  addLists(env);
  addQuantities(env);
  addAddresses(env);
  addUrls(env);
  return env;
}
