// The one nftables table that podwire's CNI plugins own: `inet podwire_cni`. Per pod there are only elements in its maps,
// so adding a pod costs the same with one neighbour or a thousand, and so does a packet. Pure.
//
//   prerouting, output ── fib daddr type local ──▶ hostports ──▶ @hostip_hostports, @hostports ──▶ dnat
//   postrouting ── ct status dnat ──▶ @snat[daddr] ──▶ snat-SUBNET: from the pod's own subnet or 127/8: masquerade
//               └─ @masq[saddr] ──▶ masq-SUBNET: inside the subnet or multicast: nothing; else masquerade

import type { NftBatch } from '../../src/codec/nft/batch.ts';
import { NFPROTO } from '../../src/codec/nft/constants.ts';
import { bitwise } from '../../src/codec/nft/expression/bitwise.ts';
import { cmp } from '../../src/codec/nft/expression/cmp.ts';
import { CT_STATUS, ct } from '../../src/codec/nft/expression/ct.ts';
import type { Expression } from '../../src/codec/nft/expression/expression.ts';
import { fibDestinationType, RTN_LOCAL } from '../../src/codec/nft/expression/fib.ts';
import { verdict } from '../../src/codec/nft/expression/immediate.ts';
import { lookup } from '../../src/codec/nft/expression/lookup.ts';
import { masquerade } from '../../src/codec/nft/expression/masquerade.ts';
import { meta } from '../../src/codec/nft/expression/meta.ts';
import { dnat } from '../../src/codec/nft/expression/nat.ts';
import { payload } from '../../src/codec/nft/expression/payload.ts';
import type { SetSpec } from '../../src/codec/nft/set.ts';
import { type Cidr, formatCidr, netmask, requireCidr } from '../../src/lib/cidr.ts';
import type { ExtensionSetName } from './extensions.ts';

export const FAMILY = 'inet';
export const TABLE = 'podwire_cni';
/** Kept in the table: tells whether a table that is there is of this layout. */
export const LAYOUT = 'podwire-cni layout 1';

/** NF_IP_PRI_NAT_DST and NF_IP_PRI_NAT_SRC. */
const PRIORITY_DSTNAT = -100;
const PRIORITY_SRCNAT = 100;

export const SETS = [
  { name: 'masq4', key: ['ipv4_addr'], data: 'verdict' },
  { name: 'masq6', key: ['ipv6_addr'], data: 'verdict' },
  { name: 'snat4', key: ['ipv4_addr'], data: 'verdict' },
  { name: 'snat6', key: ['ipv6_addr'], data: 'verdict' },
  { name: 'hostports4', key: ['inet_proto', 'inet_service'], data: ['ipv4_addr', 'inet_service'] },
  { name: 'hostports6', key: ['inet_proto', 'inet_service'], data: ['ipv6_addr', 'inet_service'] },
  {
    name: 'hostip_hostports4',
    key: ['ipv4_addr', 'inet_proto', 'inet_service'],
    data: ['ipv4_addr', 'inet_service'],
  },
  {
    name: 'hostip_hostports6',
    key: ['ipv6_addr', 'inet_proto', 'inet_service'],
    data: ['ipv6_addr', 'inet_service'],
  },
] as const satisfies readonly SetSpec[];
export type SetName = (typeof SETS)[number]['name'] | ExtensionSetName;

export function u32Host(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

export function family(number: 4 | 6): Expression[] {
  return [meta('nfproto'), cmp('==', Buffer.of(number === 4 ? NFPROTO.IPV4 : NFPROTO.IPV6))];
}

const toLocal = (): Expression[] => [fibDestinationType(), cmp('==', u32Host(RTN_LOCAL))];

const translated = (): Expression[] => [
  ct('status'),
  bitwise(u32Host(CT_STATUS.dnat)),
  cmp('!=', u32Host(0)),
];

/** The table with its chains and rules, empty of pods. */
export function addLayout(batch: NftBatch): void {
  batch.addTable(FAMILY, TABLE, { exclusive: true, comment: LAYOUT });
  for (const set of SETS) batch.addSet(FAMILY, TABLE, set);
  const nat = (name: string, hook: 'prerouting' | 'output' | 'postrouting', priority: number) =>
    batch.addChain(FAMILY, TABLE, { name, hook: { type: 'nat', hook, priority } });
  batch.addChain(FAMILY, TABLE, { name: 'hostports' });
  nat('prerouting', 'prerouting', PRIORITY_DSTNAT);
  nat('output', 'output', PRIORITY_DSTNAT);
  nat('postrouting', 'postrouting', PRIORITY_SRCNAT);
  const rule = (chain: string, ...expressions: Expression[]) =>
    batch.addRule(FAMILY, TABLE, { chain, expressions });
  for (const chain of ['prerouting', 'output']) rule(chain, ...toLocal(), verdict({ jump: 'hostports' }));
  for (const number of [4, 6] as const) addHostPortRules(rule, number);
  for (const number of [4, 6] as const) {
    const field = number === 4 ? 'ip' : 'ip6';
    rule(
      'postrouting',
      ...translated(),
      ...family(number),
      payload(`${field} daddr`),
      lookup(`snat${number}`, { to: 'verdict' }),
    );
    rule(
      'postrouting',
      ...family(number),
      payload(`${field} saddr`),
      lookup(`masq${number}`, { to: 'verdict' }),
    );
  }
}

/** A host port asked for on one address comes before the same port on every address. */
function addHostPortRules(rule: (chain: string, ...expressions: Expression[]) => void, number: 4 | 6): void {
  const words = number === 4 ? 1 : 4;
  const to = { family: number, address: 0, port: words };
  rule(
    'hostports',
    ...family(number),
    payload(number === 4 ? 'ip daddr' : 'ip6 daddr'),
    meta('l4proto', words),
    payload('th dport', words + 1),
    lookup(`hostip_hostports${number}`, { to: 0 }),
    dnat(to),
  );
  rule(
    'hostports',
    ...family(number),
    meta('l4proto'),
    payload('th dport', 1),
    lookup(`hostports${number}`, { to: 0 }),
    dnat(to),
  );
}

/** How many rules each chain of the table has; one with fewer was tampered with. */
export const LAYOUT_RULES: ReadonlyMap<string, number> = new Map([
  ['prerouting', 1],
  ['output', 1],
  ['hostports', 4],
  ['postrouting', 4],
]);

/** A chain that several pods share; made with the first of them and removed with the last. */
export interface SharedChain {
  name: string;
  rules: Expression[][];
  /** Elements of sets that come and go with the chain. */
  elements?: readonly { set: SetName; key: Buffer }[];
}

function inSubnet(field: 'saddr' | 'daddr', subnet: Cidr, operator: '==' | '!=' = '=='): Expression[] {
  return [
    ...family(subnet.family),
    payload(subnet.family === 4 ? `ip ${field}` : `ip6 ${field}`),
    bitwise(netmask(subnet.prefixLength, subnet.family)),
    cmp(operator, subnet.network),
  ];
}

const MULTICAST = { 4: requireCidr('224.0.0.0/4'), 6: requireCidr('ff00::/8') } as const;
const LOOPBACK4 = requireCidr('127.0.0.0/8');

/** nft reads `/`, `.` and `-` in names, but no colon. */
function chainName(kind: string, subnet: Cidr): string {
  return `${kind}-${formatCidr(subnet).replaceAll(':', '-')}`;
}

/** What leaves the subnet gets the host's address. */
export function masqueradeChain(subnet: Cidr): SharedChain {
  return {
    name: chainName('masq', subnet),
    rules: [
      [...inSubnet('daddr', subnet), verdict('return')],
      [...inSubnet('daddr', MULTICAST[subnet.family], '!='), masquerade()],
    ],
  };
}

/** Host ports used from the pod's own subnet, where the answer would not come back through the host, and from 127/8. */
export function hairpinChain(subnet: Cidr): SharedChain {
  return {
    name: chainName('snat', subnet),
    rules: [
      [...inSubnet('saddr', subnet), masquerade()],
      ...(subnet.family === 4 ? [[...inSubnet('saddr', LOOPBACK4), masquerade()]] : []),
    ],
  };
}

/** `masqAll`: host ports hide every client's address. */
export function masqueradeAllChain(): SharedChain {
  return { name: 'snat-all', rules: [[masquerade()]] };
}
