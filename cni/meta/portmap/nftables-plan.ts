// A pod's host ports as elements of the owned table's maps. Pure. Under conditions a port has a chain of its own, which
// ends in the translation; without them it is one element.
import type { Expression } from '../../../src/codec/nft/expression/expression.ts';
import { immediate } from '../../../src/codec/nft/expression/immediate.ts';
import { dnat } from '../../../src/codec/nft/expression/nat.ts';
import { concatenate } from '../../../src/codec/nft/set.ts';
import type { Cidr } from '../../../src/lib/cidr.ts';
import { formatIp, isUnspecified } from '../../../src/lib/ip.ts';
import { parseConditions } from '../../nft/conditions.ts';
import { hairpinChain, masqueradeAllChain } from '../../nft/layout.ts';
import type { PodRule } from '../../nft/pod-rules.ts';
import { configError } from '../../runtime/errors.ts';
import { type PortMapping, type PortmapConfig, PROTOCOLS } from './config.ts';

export type NftablesPortmap = Pick<PortmapConfig, 'mappings' | 'snat' | 'masqAll' | 'conditions'>;

export function planPortMappings(config: NftablesPortmap, pods: readonly Cidr[]): PodRule[] {
  const rules = new Map<string, PodRule>();
  for (const pod of pods) {
    const words = config.conditions[pod.family];
    const conditions =
      words.length === 0 ? undefined : parseConditions(`conditionsV${pod.family}`, words, pod.family);
    let mapped = false;
    const targets = new Map<string, number>();
    for (const mapping of config.mappings) {
      const rule = planMapping(mapping, pod, conditions);
      if (rule === undefined) continue;
      mapped = true;
      const key = `${rule.set} ${rule.key.toString('hex')}`;
      const { containerPort } = mapping;
      if ((targets.get(key) ?? containerPort) !== containerPort)
        throw configError(`${rule.what} is mapped to two container ports`);
      targets.set(key, containerPort);
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
function planMapping(
  mapping: PortMapping,
  pod: Cidr,
  conditions: readonly Expression[][] | undefined,
): PodRule | undefined {
  const { hostIp, hostPort, protocol, containerPort } = mapping;
  if (hostIp !== undefined && hostIp.length !== pod.address.length) return undefined;
  const any = hostIp === undefined || isUnspecified(hostIp);
  const port = [Buffer.of(PROTOCOLS[protocol]), portBytes(hostPort)];
  const rule = {
    key: any ? concatenate(...port) : concatenate(hostIp, ...port),
    what: `host port ${any ? '' : `${formatIp(hostIp)} `}${hostPort}/${protocol}`,
  };
  const set = `${any ? 'hostports' : 'hostip_hostports'}${pod.family}` as const;
  if (conditions === undefined)
    return { ...rule, set, data: concatenate(pod.address, portBytes(containerPort)) };
  const address = any ? '' : `-${formatIp(hostIp).replaceAll(':', '-')}`;
  return {
    ...rule,
    set: `conditional_${set}`,
    chain: {
      name: `port${pod.family}-${protocol}-${hostPort}${address}`,
      rules: conditions.map(condition => [...condition, ...translation(pod, containerPort)]),
    },
  };
}

/** `dnat to POD:PORT` */
function translation(pod: Cidr, port: number): Expression[] {
  const words = pod.family === 4 ? 1 : 4;
  return [
    immediate(pod.address),
    immediate(portBytes(port), words),
    dnat({ family: pod.family, address: 0, port: words }),
  ];
}

function portBytes(port: number): Buffer {
  return Buffer.of(port >> 8, port & 255);
}

/** Protocol and port of an element's key; they are its last two fields, padded to four bytes each. */
export function readPortKey(key: Uint8Array): { protocol: number; port: number } {
  const at = key.length - 8;
  return { protocol: key[at]!, port: (key[at + 4]! << 8) | key[at + 5]! };
}
