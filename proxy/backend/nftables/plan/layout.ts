// The flat layout: the chains and sets every table has, and those that service ports share by the number of their
// endpoints. Upstream has a chain for each service and each endpoint, which the kernel checks again and again: its cost
// grows faster than their number (10,000 Services: 75 s). Here a Service is elements of maps:
//
//   services ── service-ips {10.96.0.1 . tcp . 80 : goto lb-3} ──▶ lb-3 ── numgen random mod 3 vmap picks
//     pick-0 ── dnat to daddr . proto . dport map endpoints-0        {10.96.0.1 . tcp . 80 : 10.244.1.2 . 8080}
//     pick-1 ── dnat to … map endpoints-1, else as pick-0            (a Service with fewer endpoints was meant)
//
// Node ports have maps of their own (`np-`, by protocol and port), as have endpoints of the Local policy (`local-`).
//
// Session affinity is flat too. Whatever frontend a client uses, its Service is known by cluster IP, protocol and port:
//
//   services ── service-ips {198.51.100.7 . tcp . 80 : goto sticky-3-10800s} ──▶ sticky-3-10800s
//     recall   sticky-services {198.51.100.7 . tcp . 80 : 10.96.0.1 . tcp . 80}
//              affinity {10.96.0.1 . tcp . 80 . CLIENT : 10.244.1.2 . 8080, 3 h}   of all clients and Services
//              sticky-endpoints {10.244.1.2 . 8080 . 10.96.0.1 . tcp . 80}         is it one still?
//     assign   sticky-picks {10.96.0.1 . tcp . 80 . numgen random mod 3 : 10.244.1.2 . 8080}, and @affinity has it
//
// Data that is used in a further lookup begins with a word that means nothing: nft (1.0.6) ends with a failed assertion
// when it lists a rule in which a lookup's result is part of a key, but never minds the registers behind its first. Pure.

import type { NftablesConfig } from './config.ts';
import { randomKey } from './key.ts';
import { CHAIN, endpointMap, type Lane, lanePrefix, SET, stickySets } from './names.ts';
import type { ChainPlan, Family, FieldType, Operand, Rule, SetPlan, Statement } from './state.ts';

const DSTNAT = -100;
const SRCNAT = 100;
const VIP: readonly Operand[] = ['daddr', 'protocol', 'dport'];
const NODE_PORT: readonly Operand[] = ['protocol', 'dport'];

export function verdict(text: string): Statement {
  return { is: 'verdict', verdict: text };
}
export function jump(chain: string): Statement {
  return verdict(`jump ${chain}`);
}
export function goto(chain: string): Statement {
  return verdict(`goto ${chain}`);
}

export function addressType(family: Family): FieldType {
  return family === 4 ? 'ipv4_addr' : 'ipv6_addr';
}

/** Traffic of this node's own pods, or all other traffic; undefined when nothing tells. */
export function fromPods(config: NftablesConfig, family: Family, not: boolean): Statement | undefined {
  const detector = config.localDetector;
  switch (detector.mode) {
    case 'cidr': {
      const cidr = family === 4 ? detector.v4 : detector.v6;
      return cidr === undefined ? undefined : { is: 'address', field: 'saddr', not, cidr };
    }
    case 'bridge':
      return { is: 'interface', not, name: detector.interface };
    case 'prefix':
      return { is: 'interface', not, name: `${detector.prefix}*` };
    case 'none':
      return undefined;
  }
}

export function fixedSets(family: Family): SetPlan[] {
  const address = addressType(family);
  const vip: FieldType[] = [address, 'inet_proto', 'inet_service'];
  const nodePort: FieldType[] = ['inet_proto', 'inet_service'];
  return [
    { name: SET.clusterIps, key: [address] },
    { name: SET.nodePortIps, key: [address] },
    { name: SET.hairpin, key: [address, address] },
    { name: SET.serviceIps, key: vip, data: 'verdict' },
    { name: SET.nodePorts, key: nodePort, data: 'verdict' },
    { name: SET.noEndpointServices, key: vip, data: 'verdict' },
    { name: SET.noEndpointNodePorts, key: nodePort, data: 'verdict' },
    { name: SET.firewallIps, key: vip, data: 'verdict' },
  ];
}

function base(
  name: string,
  type: 'filter' | 'nat',
  hook: NonNullable<ChainPlan['hook']>['hook'],
  priority: number,
  rules: Rule[],
): ChainPlan {
  return { name, rules, hook: { type, hook, priority } };
}

function services(config: NftablesConfig, family: Family): Rule[] {
  const outsider = config.masqueradeAll ? [] : fromPods(config, family, true);
  const clusterIp: Statement = { is: 'in', key: ['daddr'], set: SET.clusterIps };
  return [
    // To a cluster IP from outside the cluster: the endpoint must answer through this node.
    ...(outsider === undefined ? [] : [[clusterIp, ...[outsider].flat(), jump(CHAIN.markMasquerade)]]),
    [{ is: 'vmap', key: VIP, map: SET.serviceIps }],
    [
      { is: 'in', key: ['daddr'], set: SET.nodePortIps },
      { is: 'vmap', key: NODE_PORT, map: SET.nodePorts },
    ],
  ];
}

/** The chains every table has; base chains last. */
export function fixedChains(config: NftablesConfig, family: Family): ChainPlan[] {
  const isNew: Statement = { is: 'new' };
  const check = (chain: string): Rule => [isNew, jump(chain)];
  const masquerade: Statement = { is: 'masquerade', fullyRandom: config.randomFully };
  const mark = config.masqueradeMark;
  const cidrs = config.serviceCidrs.filter(cidr => cidr.includes(':') === (family === 6));
  return [
    {
      name: CHAIN.reject,
      rules: [
        [
          { is: 'protocol', protocol: 'tcp' },
          { is: 'reject', how: 'reset' },
        ],
        [{ is: 'reject', how: 'unreachable' }],
      ],
    },
    { name: CHAIN.markMasquerade, rules: [[{ is: 'mark', mark }]] },
    {
      name: CHAIN.masquerading,
      rules: [
        // The mark goes, so that an encapsulated packet on its second way through is not masqueraded again.
        [{ is: 'marked', mark }, { is: 'unmark', mark }, masquerade],
        // A pod that reaches itself through a Service must see another source than itself.
        [{ is: 'translated' }, { is: 'in', key: ['saddr', 'daddr'], set: SET.hairpin }, masquerade],
      ],
    },
    { name: CHAIN.services, rules: services(config, family) },
    { name: CHAIN.serviceEndpointsCheck, rules: [[{ is: 'vmap', key: VIP, map: SET.noEndpointServices }]] },
    {
      name: CHAIN.nodePortEndpointsCheck,
      rules: [
        [
          { is: 'in', key: ['daddr'], set: SET.nodePortIps },
          { is: 'vmap', key: NODE_PORT, map: SET.noEndpointNodePorts },
        ],
      ],
    },
    {
      name: CHAIN.clusterIpsCheck,
      rules: [
        [{ is: 'in', key: ['daddr'], set: SET.clusterIps }, goto(CHAIN.reject)],
        ...cidrs.map((cidr): Rule => [{ is: 'address', field: 'daddr', not: false, cidr }, verdict('drop')]),
      ],
    },
    { name: CHAIN.firewallCheck, rules: [[{ is: 'vmap', key: VIP, map: SET.firewallIps }]] },
    base('filter-prerouting', 'filter', 'prerouting', DSTNAT - 10, [check(CHAIN.firewallCheck)]),
    base('filter-input', 'filter', 'input', DSTNAT - 10, [
      check(CHAIN.nodePortEndpointsCheck),
      check(CHAIN.serviceEndpointsCheck),
    ]),
    base('filter-forward', 'filter', 'forward', DSTNAT - 10, [
      check(CHAIN.serviceEndpointsCheck),
      check(CHAIN.clusterIpsCheck),
    ]),
    base('filter-output', 'filter', 'output', DSTNAT - 10, [check(CHAIN.firewallCheck)]),
    // After translation: what the node itself sends to a Service of policy Local may still have found an endpoint.
    base('filter-output-post-dnat', 'filter', 'output', DSTNAT + 10, [
      check(CHAIN.serviceEndpointsCheck),
      check(CHAIN.clusterIpsCheck),
    ]),
    base('nat-prerouting', 'nat', 'prerouting', DSTNAT, [[jump(CHAIN.services)]]),
    base('nat-output', 'nat', 'output', DSTNAT, [[jump(CHAIN.services)]]),
    base('nat-postrouting', 'nat', 'postrouting', SRCNAT, [[jump(CHAIN.masquerading)]]),
  ];
}

/** Something several service ports use: it comes with the first of them. */
export interface Shared {
  sets: SetPlan[];
  chains: ChainPlan[];
  elements: { set: string; key: string; data: string }[];
}

function picks(lane: Lane): string {
  return `${lanePrefix(lane)}picks`;
}

export function pickName(lane: Lane, slot: number): string {
  return `${lanePrefix(lane)}pick-${slot}`;
}

/** Where one of `count` endpoints is chosen. */
export function balanceName(lane: Lane, count: number): string {
  return count === 1 ? pickName(lane, 0) : `${lanePrefix(lane)}lb-${count}`;
}

/** Endpoint number `slot`: its chain, its map, and the way from the random number to it. */
export function pickPart(family: Family, lane: Lane, slot: number): Shared {
  const name = pickName(lane, slot);
  const address = addressType(family);
  const map = endpointMap(lane, slot);
  const ports: FieldType[] = ['inet_proto', 'inet_service'];
  const dnat: Rule = [{ is: 'dnat-map', key: lane.nodePort ? NODE_PORT : VIP, map }];
  return {
    sets: [
      { name: map, key: lane.nodePort ? ports : [address, ...ports], data: [address, 'inet_service'] },
      { name: picks(lane), key: 'random', data: 'verdict' },
    ],
    // The number was drawn among more endpoints than there are by now: the first is always there.
    chains: [{ name, rules: slot === 0 ? [dnat] : [dnat, [goto(pickName(lane, 0))]] }],
    elements: [{ set: picks(lane), key: randomKey(slot), data: `goto ${name}` }],
  };
}

/** One of `count` endpoints, at least two, at random; needs as many picks. */
export function balancePart(lane: Lane, count: number): Shared {
  const rule: Rule = [{ is: 'random-vmap', below: count, map: picks(lane) }];
  return { sets: [], chains: [{ name: balanceName(lane, count), rules: [rule] }], elements: [] };
}

/** So many clients of all Services are remembered. Of a multiple of 65536 the kernel sets nothing aside beforehand. */
const MAX_REMEMBERED = 1_048_576;

/** Where one of `count` endpoints is chosen for clients that keep theirs for so many seconds. */
export function stickyName(lane: Lane, count: number, seconds: number): string {
  return `${lanePrefix(lane)}sticky-${count}-${seconds}s`;
}

export function stickyPart(family: Family, lane: Lane, count: number, seconds: number): Shared {
  const address = addressType(family);
  const vip: FieldType[] = [address, 'inet_proto', 'inet_service'];
  const endpoint: FieldType[] = [address, 'inet_service'];
  const key = lane.nodePort ? NODE_PORT : VIP;
  const sets = stickySets(lane);
  const below = count === 1 ? {} : { below: count };
  return {
    sets: [
      {
        name: sets.services,
        key: lane.nodePort ? ['inet_proto', 'inet_service'] : vip,
        data: ['mark', ...vip],
      },
      { name: sets.picks, key: [...vip, 'mark'], data: ['mark', ...endpoint] },
      { name: sets.endpoints, key: [...endpoint, ...vip] },
      {
        name: SET.affinity,
        key: [...vip, address],
        data: ['mark', ...endpoint],
        dynamic: true,
        size: MAX_REMEMBERED,
      },
    ],
    chains: [
      {
        name: stickyName(lane, count, seconds),
        rules: [
          [{ is: 'recall', key, sets, seconds }],
          [{ is: 'assign', key, sets, ...below, seconds }],
          // Nobody more can be remembered: then at least somebody answers.
          [{ is: 'assign', key, sets, ...below }],
          // The number was drawn among more endpoints than there are by now.
          ...(count === 1 ? [] : [[{ is: 'assign', key, sets } as const]]),
        ],
      },
    ],
    elements: [],
  };
}

/** The way in from outside with the Cluster policy: masqueraded, since the endpoint may be on another node. */
export function externalRules(cluster: string): Rule[] {
  return [[jump(CHAIN.markMasquerade)], [goto(cluster)]];
}

/**
 * The way in from outside with the Local policy. Pods and the node itself are not outside: they get all endpoints.
 * Without a local endpoint the rest goes on untranslated, to be dropped by the endpoints check.
 */
export function externalLocalRules(
  config: NftablesConfig,
  family: Family,
  cluster: string | undefined,
  local: string | undefined,
): Rule[] {
  const pods = fromPods(config, family, false);
  const node: Statement = { is: 'local', field: 'saddr' };
  return [
    ...(cluster === undefined
      ? []
      : [
          ...(pods ? [[pods, goto(cluster)]] : []),
          [node, jump(CHAIN.markMasquerade)],
          [node, goto(cluster)],
        ]),
    ...(local === undefined ? [] : [[goto(local)]]),
  ];
}
