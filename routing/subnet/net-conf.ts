// Flannel's net-conf.json: parsing with every mistake listed at once, defaults as in flannel's pkg/subnet/config.go.
// Keys are matched without regard to case, as Go's encoding/json does. Pure.
import { type Cidr, cidrsOverlap, formatCidr, hasHostBits, parseCidr } from '../../src/lib/cidr.ts';
import { PodwireError } from '../../src/lib/errors.ts';
import type { IpFamily } from '../../src/lib/ip.ts';

export interface VxlanBackend {
  type: 'vxlan';
  vni: number;
  /** UDP port; Linux's own default 8472 where the file says 0 or nothing. */
  port: number;
  /** MTU of the underlay, in place of the underlay link's own. */
  mtuBytes?: number;
  gbp: boolean;
  learning: boolean;
  directRouting: boolean;
  /**
   * Podwire's own key `TxChecksumOffload`, which flannel passes over: false switches the devices' transmit checksum
   * offload off, true on, absent leaves it as it is. Off is for network cards that send wrong checksums of encapsulated
   * packets (63 s stalls; flannel#1279, kubernetes#122835); it costs four fifths of the throughput.
   */
  txChecksumOffload?: boolean;
}

export interface IpipBackend {
  type: 'ipip';
  directRouting: boolean;
}

export type BackendConf = VxlanBackend | IpipBackend | { type: 'host-gw' } | { type: 'alloc' };

export interface NetConf {
  /** Canonical CIDR of all IPv4 pod addresses; absent when IPv4 is off. */
  network?: string;
  ipv6Network?: string;
  enableNftables: boolean;
  backend: BackendConf;
}

/** Linux's VXLAN port, older than the assigned 4789; flannel stays with it. */
export const VXLAN_PORT = 8472;
const REFUSED_BACKENDS: Record<string, string> = {
  udp: 'the udp backend copies every packet through user space; use vxlan',
  wireguard: 'wireguard is not there yet; use vxlan, or an encrypted underlay',
  ipsec: 'ipsec needs strongSwan, which podwire does not run; use vxlan',
  extension: 'extension backends run shell commands, which podwire does not; use vxlan or host-gw',
};

type Json = Record<string, unknown>;

class Fields {
  readonly #values = new Map<string, unknown>();
  readonly #path: string;
  readonly #problems: string[];
  constructor(object: Json, path: string, problems: string[]) {
    for (const [key, value] of Object.entries(object)) this.#values.set(key.toLowerCase(), value);
    this.#path = path;
    this.#problems = problems;
  }
  get<T>(key: string, type: 'string' | 'number' | 'boolean' | 'object', fallback: T): T {
    const value = this.#values.get(key.toLowerCase());
    if (value === undefined || value === null) return fallback;
    if (typeof value === type && !Array.isArray(value)) return value as T;
    this.#problems.push(`${this.#path}${key}: ${JSON.stringify(value)} is not a ${type}`);
    return fallback;
  }
  integer(key: string, fallback: number, minimum: number, maximum: number): number {
    const value = this.get(key, 'number', fallback);
    if (Number.isInteger(value) && value >= minimum && value <= maximum) return value;
    this.#problems.push(`${this.#path}${key}: ${value} is not an integer from ${minimum} to ${maximum}`);
    return fallback;
  }
}

function readNetwork(fields: Fields, key: string, family: IpFamily, problems: string[]): Cidr | undefined {
  const text = fields.get(key, 'string', '');
  if (text === '') {
    problems.push(`${key}: missing, though IPv${family} is enabled`);
    return undefined;
  }
  const cidr = parseCidr(text);
  if (cidr?.family !== family) {
    problems.push(
      `${key}: "${text}" is not an IPv${family} network such as ${family === 4 ? '10.244.0.0/16' : 'fd00:10:244::/56'}`,
    );
    return undefined;
  }
  if (hasHostBits(cidr))
    problems.push(`${key}: "${text}" has host bits set; did you mean ${formatCidr(cidr)}?`);
  if (cidr.prefixLength > (family === 4 ? 30 : 126)) problems.push(`${key}: "${text}" is too small for pods`);
  return cidr;
}

function readBackend(fields: Fields, problems: string[]): BackendConf {
  const raw = fields.get<Json | undefined>('Backend', 'object', undefined);
  const backend = new Fields(raw ?? {}, 'Backend.', problems);
  const type = backend.get('Type', 'string', 'udp').toLowerCase();
  if (type === 'vxlan') {
    const mtuBytes = backend.integer('MTU', 0, 0, 65_535);
    const txChecksumOffload = backend.get<boolean | undefined>('TxChecksumOffload', 'boolean', undefined);
    return {
      type: 'vxlan',
      vni: backend.integer('VNI', 1, 1, 0xff_ffff),
      port: backend.integer('Port', 0, 0, 65_535) || VXLAN_PORT,
      ...(mtuBytes > 0 ? { mtuBytes } : {}),
      gbp: backend.get('GBP', 'boolean', false),
      learning: backend.get('Learning', 'boolean', false),
      directRouting: backend.get('DirectRouting', 'boolean', false),
      ...(txChecksumOffload === undefined ? {} : { txChecksumOffload }),
    };
  }
  if (type === 'ipip') return { type, directRouting: backend.get('DirectRouting', 'boolean', false) };
  if (type === 'host-gw' || type === 'alloc') return { type };
  const hint = raw === undefined ? 'no Backend is given, and flannel then takes udp: ' : '';
  problems.push(
    REFUSED_BACKENDS[type]
      ? `Backend.Type: ${hint}${REFUSED_BACKENDS[type]}`
      : `Backend.Type: "${type}" is none of vxlan, host-gw, ipip, alloc`,
  );
  return { type: 'alloc' };
}

/** Reads net-conf.json; throws one PodwireError `INVALID_NET_CONF` that lists everything wrong with it. */
export function parseNetConf(text: string): NetConf {
  const problems: string[] = [];
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new PodwireError('INVALID_NET_CONF', `net-conf.json is not JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new PodwireError('INVALID_NET_CONF', 'net-conf.json is not a JSON object');
  const fields = new Fields(json as Json, '', problems);
  const v4 = fields.get('EnableIPv4', 'boolean', true)
    ? readNetwork(fields, 'Network', 4, problems)
    : undefined;
  const v6 = fields.get('EnableIPv6', 'boolean', false)
    ? readNetwork(fields, 'IPv6Network', 6, problems)
    : undefined;
  if (!v4 && !v6 && problems.length === 0) problems.push('EnableIPv4 and EnableIPv6 are both false');
  const backend = readBackend(fields, problems);
  if (backend.type === 'ipip' && v6)
    problems.push('Backend.Type: ipip carries IPv4 only, and EnableIPv6 is true');
  const conf: NetConf = {
    ...(v4 ? { network: formatCidr(v4) } : {}),
    ...(v6 ? { ipv6Network: formatCidr(v6) } : {}),
    enableNftables: fields.get('EnableNFTables', 'boolean', false),
    backend,
  };
  if (problems.length > 0)
    throw new PodwireError('INVALID_NET_CONF', `net-conf.json: ${problems.join('; ')}`);
  return conf;
}

/** The pod network of one family, parsed. */
export function networkOf(config: NetConf, family: IpFamily): Cidr | undefined {
  const text = family === 4 ? config.network : config.ipv6Network;
  return text === undefined ? undefined : parseCidr(text);
}

/** Refuses a pod network that covers the node's own addresses: the overlay would route its own envelopes into itself. */
export function underlayConflict(config: NetConf, underlayAddresses: readonly string[]): string | undefined {
  for (const family of [4, 6] as const) {
    const network = networkOf(config, family);
    if (!network) continue;
    for (const text of underlayAddresses) {
      const address = parseCidr(text);
      if (address && cidrsOverlap(network, address))
        return `the pod network ${formatCidr(network)} overlaps the node's own network ${formatCidr(address)}`;
    }
  }
  return undefined;
}
