// The portmap plugin's configuration and the plan of its rules. Pure. Fields as in the reference
// (plugins/meta/portmap/main.go); docs/cni.md says which of them need the iptables backend.
import { concatenate } from '../../../src/codec/nft/set.ts';
import { type Cidr, requireCidr } from '../../../src/lib/cidr.ts';
import { CniError } from '../../../src/lib/errors.ts';
import { formatIp, type IpBytes, isUnspecified, requireIp } from '../../../src/lib/ip.ts';
import { hairpinChain, masqueradeAllChain } from '../../nft/layout.ts';
import type { PodRule } from '../../nft/pod-rules.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
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

export interface PortmapConfig {
  mappings: PortMapping[];
  snat: boolean;
  masqAll: boolean;
}

export function readPortmapConfig(call: Call): PortmapConfig {
  const { config } = call;
  const backend = config.string('backend') || 'nftables';
  if (backend !== 'iptables' && backend !== 'nftables')
    throw configError(`unrecognized backend ${JSON.stringify(backend)}`, 'known are iptables and nftables');
  const mark = config.integer('markMasqBit', 0, 31);
  const external = config.string('externalSetMarkChain') || undefined;
  if (mark !== undefined && external !== undefined)
    throw configError('cannot specify externalSetMarkChain and markMasqBit');
  const conditions = [...config.strings('conditionsV4'), ...config.strings('conditionsV6')];
  if (external !== undefined || conditions.length > 0)
    throw new CniError(
      CNI_ERROR.UNSUPPORTED_FIELD,
      `portmap: ${external === undefined ? 'conditionsV4 and conditionsV6 are' : 'externalSetMarkChain is'} not supported`,
      'they are words of the iptables command, which podwire does not execute',
    );
  return {
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

export function planPortMappings(config: PortmapConfig, pods: readonly Cidr[]): PodRule[] {
  const rules = new Map<string, PodRule>();
  for (const pod of pods) {
    let mapped = false;
    for (const mapping of config.mappings) {
      const rule = planMapping(mapping, pod);
      if (rule === undefined) continue;
      mapped = true;
      const key = `${rule.set} ${rule.key.toString('hex')}`;
      const other = rules.get(key);
      if (other !== undefined && !other.data!.equals(rule.data!))
        throw configError(`${rule.what} is mapped to two container ports`);
      rules.set(key, rule);
    }
    if (mapped && (config.snat || config.masqAll))
      rules.set(`snat ${pod.family}`, {
        set: pod.family === 4 ? 'snat4' : 'snat6',
        key: Buffer.from(pod.address),
        chain: config.masqAll ? masqueradeAllChain() : hairpinChain(pod),
        what: `masquerading of host ports to ${formatIp(pod.address)}`,
      });
  }
  return [...rules.values()];
}

/** Undefined when the mapping's host address is of the other family. */
function planMapping(mapping: PortMapping, pod: Cidr): PodRule | undefined {
  const { hostIp, hostPort, protocol } = mapping;
  if (hostIp !== undefined && hostIp.length !== pod.address.length) return undefined;
  const any = hostIp === undefined || isUnspecified(hostIp);
  const port = [Buffer.of(PROTOCOLS[protocol]), portBytes(hostPort)];
  return {
    set: `${any ? 'hostports' : 'hostip_hostports'}${pod.family}`,
    key: any ? concatenate(...port) : concatenate(hostIp, ...port),
    data: concatenate(pod.address, portBytes(mapping.containerPort)),
    what: `host port ${any ? '' : `${formatIp(hostIp)} `}${hostPort}/${protocol}`,
  };
}

function portBytes(port: number): Buffer {
  return Buffer.of(port >> 8, port & 255);
}

/** Protocol and port of an element's key; they are its last two fields, padded to four bytes each. */
export function readPortKey(key: Uint8Array): { protocol: number; port: number } {
  const at = key.length - 8;
  return { protocol: key[at]!, port: (key[at + 4]! << 8) | key[at + 5]! };
}
