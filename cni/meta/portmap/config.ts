// The portmap plugin's configuration. Pure. Fields as in the reference (plugins/meta/portmap/main.go); docs/cni.md says
// which of them need the iptables backend.
import { type Cidr, requireCidr } from '../../../src/lib/cidr.ts';
import { type IpBytes, requireIp } from '../../../src/lib/ip.ts';
import { configError } from '../../runtime/errors.ts';
import type { Fields } from '../../runtime/fields.ts';
import { type Call, runtimeConfig } from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';

/** IPPROTO_* of netinet/in.h. */
export const PROTOCOLS = { tcp: 6, udp: 17, sctp: 132 } as const;
export type Protocol = keyof typeof PROTOCOLS;

export interface PortMapping {
  hostPort: number;
  containerPort: number;
  protocol: Protocol;
  /** Absent: every address of the host. */
  hostIp: IpBytes | undefined;
}

/** Which kernel tables a pod's host ports go to. */
export type PortmapBackend = 'iptables' | 'nftables';

export interface PortmapConfig {
  backend: PortmapBackend;
  mappings: PortMapping[];
  snat: boolean;
  masqAll: boolean;
  /** Words of the backend's language, one list a family. */
  conditions: Record<4 | 6, string[]>;
  /** The bit that says "masquerade" (iptables). */
  markBit: number;
  /** Another program's chain that sets such a mark (iptables), such as KUBE-MARK-MASQ. */
  externalSetMarkChain: string | undefined;
}

const DEFAULT_MARK_BIT = 13;

export function readPortmapConfig(call: Call): PortmapConfig {
  const { config } = call;
  const mark = config.integer('markMasqBit', 0, 31);
  const external = config.string('externalSetMarkChain') || undefined;
  if (mark !== undefined && external !== undefined)
    throw configError('cannot specify externalSetMarkChain and markMasqBit');
  if (external !== undefined && !/^[^\s!-]\S{0,27}$/.test(external))
    throw configError(`externalSetMarkChain ${JSON.stringify(external)} cannot be the name of a chain`);
  const conditions = { 4: readConditions(config, 'conditionsV4'), 6: readConditions(config, 'conditionsV6') };
  return {
    backend: readBackend(config, conditions, external),
    conditions,
    markBit: mark ?? DEFAULT_MARK_BIT,
    externalSetMarkChain: external,
    mappings: runtimeConfig(call)
      .fieldsList('portMappings')
      .map(fields => {
        const hostPort = fields.integer('hostPort', -65536, 1 << 30) ?? 0;
        const containerPort = fields.integer('containerPort', -65536, 1 << 30) ?? 0;
        if (hostPort <= 0 || hostPort > 65535) throw configError(`invalid host port number: ${hostPort}`);
        if (containerPort <= 0 || containerPort > 65535)
          throw configError(`invalid container port number: ${containerPort}`);
        return {
          hostPort,
          containerPort,
          protocol: readProtocol(fields.string('protocol') ?? ''),
          hostIp: readHostIp(fields.string('hostIP') ?? ''),
        };
      }),
    snat: config.boolean('snat') ?? true,
    masqAll: config.boolean('masqAll') ?? false,
  };
}

function readConditions(config: Fields, field: string): string[] {
  return config.strings(field).filter(word => word.trim() !== '');
}

/** nftables, unless the configuration has what only iptables can do. Fields of the other backend are an error. */
function readBackend(
  config: Fields,
  conditions: PortmapConfig['conditions'],
  external: string | undefined,
): PortmapBackend {
  const needs: Record<PortmapBackend, string[]> = { iptables: [], nftables: [] };
  if (external !== undefined) needs.iptables.push('externalSetMarkChain');
  for (const family of [4, 6] as const) {
    const first = conditions[family][0];
    // As the reference tells them apart: no condition of nft begins so, and every one of iptables.
    if (first !== undefined)
      needs[/^[-!]/.test(first) ? 'iptables' : 'nftables'].push(`conditionsV${family}`);
  }
  const asked = config.string('backend') || (needs.iptables.length > 0 ? 'iptables' : 'nftables');
  if (asked !== 'iptables' && asked !== 'nftables')
    throw configError(`unrecognized backend ${JSON.stringify(asked)}`, 'known are iptables and nftables');
  const wrong = asked === 'iptables' ? 'nftables' : 'iptables';
  if (needs[wrong].length > 0)
    throw configError(
      `${asked} backend was requested but configuration contains ${wrong}-specific options ${needs[wrong].join(', ')}`,
    );
  return asked;
}

function readProtocol(text: string): Protocol {
  const name = (text || 'tcp').toLowerCase();
  if (Object.hasOwn(PROTOCOLS, name)) return name as Protocol;
  throw configError(`unknown port protocol ${JSON.stringify(text)}`, 'known are tcp, udp and sctp');
}

function readHostIp(text: string): IpBytes | undefined {
  return text === '' ? undefined : requireIp(text, 'hostIP');
}

/** The pod's addresses, the first of each family; those of host interfaces are not the pod's. */
export function podAddresses(result: Result): Cidr[] {
  const found: Cidr[] = [];
  for (const ip of result.ips) {
    const owner =
      ip.interface === undefined || ip.interface < 0 ? undefined : result.interfaces[ip.interface];
    if (owner !== undefined && owner.sandbox === undefined) continue;
    const cidr = requireCidr(ip.address, 'address in prevResult');
    if (!found.some(one => one.family === cidr.family)) found.push(cidr);
  }
  return found;
}
