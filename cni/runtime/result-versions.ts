// Results of every CNI version from 0.1.0 to 1.1.0, read into and written from podwire's own form.
// Sources: SPEC.md of each release; pkg/types/{020,040,100} of containernetworking/cni for what its users expect of
// a conversion: 0.1/0.2 carry one address a family and cannot carry a result without addresses.
import { formatAddressWithPrefix, formatCidr, parseCidr, parseCidrOrIp } from '../../src/lib/cidr.ts';
import { CniError } from '../../src/lib/errors.ts';
import { canonicalIp, ipFamily } from '../../src/lib/ip.ts';
import { CNI_ERROR, decodeError } from './errors.ts';
import type { Fields, JsonObject } from './fields.ts';
import {
  isEmptyDns,
  type Result,
  type ResultDns,
  type ResultInterface,
  type ResultIp,
  type ResultRoute,
} from './result.ts';
import { atLeast, type CniVersion, isCniVersion } from './versions.ts';

/** Reads a result; its own `cniVersion` says in which form, else `assumed` (the configuration's version). */
export function decodeResult(fields: Fields, assumed: CniVersion): Result {
  const text = fields.string('cniVersion') ?? '';
  if (text !== '' && !isCniVersion(text))
    throw decodeError(`result has unknown cniVersion ${JSON.stringify(text)}`);
  const version = text === '' ? assumed : text;
  return atLeast(version, '0.3.0') ? decodeList(fields) : decodePair(fields);
}

/** 0.1.0 and 0.2.0: `{ip4: {ip, gateway, routes}, ip6: {…}, dns}`; IPv4 comes first. */
function decodePair(fields: Fields): Result {
  const ips: ResultIp[] = [];
  const routes: ResultRoute[] = [];
  for (const key of ['ip4', 'ip6']) {
    const side = fields.fields(key);
    if (side === undefined) continue;
    ips.push(withoutUndefined({ address: addressWithPrefix(side, 'ip'), gateway: address(side, 'gateway') }));
    routes.push(...side.fieldsList('routes').map(decodeRoute));
  }
  return { interfaces: [], ips, routes, dns: decodeDns(fields.fields('dns')) };
}

/** 0.3.0 and later. */
function decodeList(fields: Fields): Result {
  return {
    interfaces: fields.fieldsList('interfaces').map(decodeInterface),
    ips: fields.fieldsList('ips').map(ip =>
      withoutUndefined({
        interface: ip.integer('interface', -1),
        address: addressWithPrefix(ip, 'address'),
        gateway: address(ip, 'gateway'),
      }),
    ),
    routes: fields.fieldsList('routes').map(decodeRoute),
    dns: decodeDns(fields.fields('dns')),
  };
}

function decodeInterface(fields: Fields): ResultInterface {
  return withoutUndefined({
    name: fields.string('name') ?? '',
    mac: nonEmpty(fields.string('mac')),
    mtu: fields.integer('mtu') || undefined,
    sandbox: nonEmpty(fields.string('sandbox')),
    socketPath: nonEmpty(fields.string('socketPath')),
    pciID: nonEmpty(fields.string('pciID')),
  });
}

/** A route of a result, or of an IPAM configuration, which has the same form. */
export function decodeRoute(fields: Fields): ResultRoute {
  const dst = parseCidr(fields.string('dst') ?? '');
  if (dst === undefined)
    throw decodeError(
      `field ${fields.at('dst')} must be a network such as 10.0.0.0/8`,
      quote(fields.raw('dst')),
    );
  return withoutUndefined({
    dst: formatCidr(dst),
    gw: address(fields, 'gw'),
    mtu: fields.integer('mtu'),
    advmss: fields.integer('advmss'),
    priority: fields.integer('priority'),
    table: fields.integer('table'),
    scope: fields.integer('scope', 0, 255),
  });
}

export function decodeDns(fields: Fields | undefined): ResultDns {
  if (fields === undefined) return {};
  const list = (key: string) => {
    const values = fields.strings(key);
    return values.length > 0 ? values : undefined;
  };
  return withoutUndefined({
    nameservers: list('nameservers'),
    domain: nonEmpty(fields.string('domain')),
    search: list('search'),
    options: list('options'),
  });
}

/** The JSON of `result` in the form of `version`. */
export function encodeResult(result: Result, version: CniVersion): JsonObject {
  return atLeast(version, '0.3.0') ? encodeList(result, version) : encodePair(result, version);
}

function encodePair(result: Result, version: CniVersion): JsonObject {
  const side = (family: 4 | 6) => {
    const ip = result.ips.find(one => familyOfPrefix(one.address) === family);
    if (ip === undefined) return undefined;
    const routes = result.routes.filter(route => familyOfPrefix(route.dst) === family);
    return withoutUndefined({
      ip: ip.address,
      gateway: ip.gateway,
      routes: routes.length > 0 ? routes.map(encodeRoute) : undefined,
    });
  };
  const ip4 = side(4);
  const ip6 = side(6);
  if (ip4 === undefined && ip6 === undefined)
    throw new CniError(CNI_ERROR.INTERNAL, `cannot convert result to CNI ${version}: no valid IP addresses`);
  return withoutUndefined({ cniVersion: version, ip4, ip6, dns: encodeDns(result.dns) });
}

function encodeList(result: Result, version: CniVersion): JsonObject {
  const before1 = !atLeast(version, '1.0.0');
  const with11 = atLeast(version, '1.1.0');
  return withoutUndefined({
    cniVersion: version,
    interfaces: nonEmptyList(result.interfaces.map(one => encodeInterface(one, with11))),
    ips: nonEmptyList(
      result.ips.map(ip =>
        withoutUndefined({
          version: before1 ? String(familyOfPrefix(ip.address)) : undefined,
          interface: ip.interface,
          address: ip.address,
          gateway: ip.gateway,
        }),
      ),
    ),
    routes: nonEmptyList(result.routes.map(encodeRoute)),
    dns: before1 || !isEmptyDns(result.dns) ? encodeDns(result.dns) : undefined,
  });
}

function encodeInterface(one: ResultInterface, with11: boolean): JsonObject {
  return withoutUndefined({
    name: one.name,
    mac: one.mac,
    mtu: with11 ? one.mtu : undefined,
    sandbox: one.sandbox,
    socketPath: with11 ? one.socketPath : undefined,
    pciID: with11 ? one.pciID : undefined,
  });
}

function encodeRoute(route: ResultRoute): JsonObject {
  const { dst, gw, mtu, advmss, priority, table, scope } = route;
  return withoutUndefined({ dst, gw, mtu, advmss, priority, table, scope });
}

function encodeDns(dns: ResultDns): JsonObject {
  const { nameservers, domain, search, options } = dns;
  return withoutUndefined({ nameservers, domain, search, options });
}

function familyOfPrefix(text: string): 4 | 6 | undefined {
  return ipFamily(text.split('/')[0]!);
}

function addressWithPrefix(fields: Fields, key: string): string {
  const cidr = parseCidrOrIp(fields.string(key) ?? '');
  if (cidr === undefined)
    throw decodeError(
      `field ${fields.at(key)} must be an address such as 10.0.0.5/24`,
      quote(fields.raw(key)),
    );
  return formatAddressWithPrefix(cidr);
}

function address(fields: Fields, key: string): string | undefined {
  const text = nonEmpty(fields.string(key));
  if (text === undefined) return undefined;
  const canonical = canonicalIp(text);
  if (canonical === undefined)
    throw decodeError(`field ${fields.at(key)} must be an IP address`, quote(text));
  return canonical;
}

function quote(value: unknown): string {
  return `got ${JSON.stringify(value) ?? 'nothing'}`;
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text;
}

function nonEmptyList<T>(list: T[]): T[] | undefined {
  return list.length > 0 ? list : undefined;
}

/** Drops keys whose value is undefined, so that results compare and print as the specification shows them. */
function withoutUndefined<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(entry => entry[1] !== undefined)) as T;
}
