// What the owned table has only once a pod needs it: the firewall's part, and host ports under conditions. Each comes
// with its first pod into a table that is there already, whichever release made that table, so its layout stays
// what it was and pods of before keep their elements. Pure.
//
//   forward (filter) ── iifname @same_bridge | @isolated ──▶ isolation: within the bridge, into another such bridge: drop
//      ├─ admin ──▶ CNI-ADMIN, the administrator's
//      └─ to a pod, answers only: @firewall[daddr]; from a pod: @firewall[saddr] ──▶ accept
//   hostports ──▶ conditional_hostports ──▶ @conditional_hostip_hostports, @conditional_hostports ──▶ port-… ──▶ dnat
import type { NftBatch } from '../../src/codec/nft/batch.ts';
import type { ChainSpec } from '../../src/codec/nft/chain.ts';
import { bitwise } from '../../src/codec/nft/expression/bitwise.ts';
import { cmp } from '../../src/codec/nft/expression/cmp.ts';
import { CT_STATE, ct } from '../../src/codec/nft/expression/ct.ts';
import type { Expression } from '../../src/codec/nft/expression/expression.ts';
import { verdict } from '../../src/codec/nft/expression/immediate.ts';
import { lookup } from '../../src/codec/nft/expression/lookup.ts';
import { meta } from '../../src/codec/nft/expression/meta.ts';
import { payload } from '../../src/codec/nft/expression/payload.ts';
import type { SetSpec } from '../../src/codec/nft/set.ts';
import { concatenate } from '../../src/codec/nft/set.ts';
import { FAMILY, family, type SharedChain, TABLE, u32Host } from './layout.ts';

const IFNAMSIZ = 16;
/** The registers that an interface name takes. */
const NAME_WORDS = IFNAMSIZ / 4;
const PRIORITY_FILTER = 0;

/** NFTNL_UDATA_SET_KEYBYTEORDER, the host's: without it nft prints interface names as nothing. */
const HOST_ORDER = Buffer.of(0, 4, 1, 0, 0, 0);

const FIREWALL_SETS = [
  { name: 'firewall4', key: ['ipv4_addr'], data: 'verdict' },
  { name: 'firewall6', key: ['ipv6_addr'], data: 'verdict' },
  { name: 'same_bridge', key: ['ifname'], userData: HOST_ORDER },
  { name: 'isolated', key: ['ifname'], userData: HOST_ORDER },
  { name: 'same_bridge_pairs', key: ['ifname', 'ifname'] },
  { name: 'isolated_pairs', key: ['ifname', 'ifname'] },
] as const satisfies readonly SetSpec[];

const CONDITION_SETS = [
  { name: 'conditional_hostports4', key: ['inet_proto', 'inet_service'], data: 'verdict' },
  { name: 'conditional_hostports6', key: ['inet_proto', 'inet_service'], data: 'verdict' },
  {
    name: 'conditional_hostip_hostports4',
    key: ['ipv4_addr', 'inet_proto', 'inet_service'],
    data: 'verdict',
  },
  {
    name: 'conditional_hostip_hostports6',
    key: ['ipv6_addr', 'inet_proto', 'inet_service'],
    data: 'verdict',
  },
] as const satisfies readonly SetSpec[];

export type ExtensionSetName = (typeof FIREWALL_SETS | typeof CONDITION_SETS)[number]['name'];

export interface Extension {
  sets: readonly (SetSpec & { name: ExtensionSetName })[];
  /** The first tells whether the extension is there. */
  chains: readonly [ChainSpec, ...ChainSpec[]];
  rules: readonly { chain: string; expressions: Expression[] }[];
  /** The one rule of the layout's own chains that leads to it, before the others there. */
  entry?: { chain: string; expressions: Expression[] };
}

/** Leads to the administrators' chains. */
export const ADMIN_CHAIN = 'admin';
const FORWARD_CHAIN = 'forward';
const ISOLATION_CHAIN = 'isolation';

const iifname = (to = 0): Expression => meta('iifname', to);
const oifname = (to = 0): Expression => meta('oifname', to);

const answers: readonly Expression[] = [
  ct('state'),
  bitwise(u32Host(CT_STATE.established | CT_STATE.related)),
  cmp('!=', u32Host(0)),
];

function podRules(number: 4 | 6): Expression[][] {
  const field = number === 4 ? 'ip' : 'ip6';
  const own = (side: 'saddr' | 'daddr'): Expression[] => [
    ...family(number),
    payload(`${field} ${side}`),
    lookup(`firewall${number}`, { to: 'verdict' }),
  ];
  return [[...answers, ...own('daddr')], own('saddr')];
}

export const FIREWALL_EXTENSION: Extension = {
  sets: FIREWALL_SETS,
  chains: [
    { name: FORWARD_CHAIN, hook: { type: 'filter', hook: 'forward', priority: PRIORITY_FILTER } },
    { name: ISOLATION_CHAIN },
    { name: ADMIN_CHAIN },
  ],
  rules: [
    ...(['same_bridge', 'isolated'] as const).map(set => ({
      chain: FORWARD_CHAIN,
      expressions: [iifname(), lookup(set), verdict({ jump: ISOLATION_CHAIN })],
    })),
    { chain: FORWARD_CHAIN, expressions: [verdict({ jump: ADMIN_CHAIN })] },
    ...([4, 6] as const).flatMap(number =>
      podRules(number).map(expressions => ({ chain: FORWARD_CHAIN, expressions })),
    ),
    ...(
      [
        ['isolated_pairs', 'drop'],
        ['same_bridge_pairs', 'return'],
      ] as const
    ).map(([set, what]) => ({
      chain: ISOLATION_CHAIN,
      expressions: [iifname(), oifname(NAME_WORDS), lookup(set), verdict(what)],
    })),
    ...(['same_bridge', 'isolated'] as const).map(set => ({
      chain: ISOLATION_CHAIN,
      expressions: [oifname(), lookup(set), verdict('drop')],
    })),
  ],
};

const CONDITIONAL_CHAIN = 'conditional_hostports';

export const CONDITION_EXTENSION: Extension = {
  sets: CONDITION_SETS,
  chains: [{ name: CONDITIONAL_CHAIN }],
  entry: { chain: 'hostports', expressions: [verdict({ jump: CONDITIONAL_CHAIN })] },
  rules: ([4, 6] as const).flatMap(number => {
    const words = number === 4 ? 1 : 4;
    const port = (from: number): Expression[] => [meta('l4proto', from), payload('th dport', from + 1)];
    return [
      [
        payload(number === 4 ? 'ip daddr' : 'ip6 daddr'),
        ...port(words),
        lookup(`conditional_hostip_hostports${number}`, { to: 'verdict' }),
      ],
      [...port(0), lookup(`conditional_hostports${number}`, { to: 'verdict' })],
    ].map(expressions => ({
      chain: CONDITIONAL_CHAIN,
      expressions: [...family(number), ...expressions],
    }));
  }),
};

export const EXTENSIONS: readonly Extension[] = [FIREWALL_EXTENSION, CONDITION_EXTENSION];

/** The part of the table that a set is in; undefined for sets of the layout itself. */
export function extensionOf(set: string): Extension | undefined {
  return EXTENSIONS.find(extension => extension.sets.some(one => one.name === set));
}

/** EEXIST when another process was quicker. */
export function addExtension(batch: NftBatch, extension: Extension): void {
  for (const set of extension.sets) batch.addSet(FAMILY, TABLE, set);
  for (const chain of extension.chains) batch.addChain(FAMILY, TABLE, chain, { exclusive: true });
  for (const rule of extension.rules) batch.addRule(FAMILY, TABLE, rule);
  if (extension.entry !== undefined) batch.addRule(FAMILY, TABLE, extension.entry, { first: true });
}

/** How many rules an extension has in which chain. */
export function extensionRules(extension: Extension): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { chain } of [...extension.rules, ...(extension.entry === undefined ? [] : [extension.entry])])
    counts.set(chain, (counts.get(chain) ?? 0) + 1);
  return counts;
}

export type IsolatingPolicy = 'same-bridge' | 'isolated';

/** An interface's name as the kernel compares it. */
export function interfaceKey(name: string): Buffer {
  const bytes = Buffer.alloc(IFNAMSIZ);
  bytes.write(name, 'latin1');
  return bytes;
}

/** What nft reads as part of a name stays; other characters of interface names do not. */
function nameOf(bridge: string): string {
  return /^[A-Za-z0-9_./-]+$/.test(bridge) ? bridge : `0x${Buffer.from(bridge).toString('hex')}`;
}

/** Accepts; while a pod jumps here, its bridge is kept apart from others. */
export function bridgeChain(bridge: string, policy: IsolatingPolicy): SharedChain {
  const name = interfaceKey(bridge);
  const set = policy === 'same-bridge' ? 'same_bridge' : 'isolated';
  return {
    name: `${policy}-${nameOf(bridge)}`,
    rules: [[verdict('accept')]],
    elements: [
      { set, key: name },
      { set: `${set}_pairs`, key: concatenate(name, name) },
    ],
  };
}
