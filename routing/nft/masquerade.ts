// The rules of masquerade.ts as nftables, for net-conf's EnableNFTables (flannel pkg/trafficmngr/nftables): one table a
// family, `ip flannel-ipv4` and `ip6 flannel-ipv6`, with flannel's names, so that either program finds its own again. Pure.
import type { ChainSpec } from '../../src/codec/nft/chain.ts';
import type { NftFamily } from '../../src/codec/nft/constants.ts';
import { bitwise } from '../../src/codec/nft/expression/bitwise.ts';
import { cmp } from '../../src/codec/nft/expression/cmp.ts';
import type { Expression } from '../../src/codec/nft/expression/expression.ts';
import { verdict } from '../../src/codec/nft/expression/immediate.ts';
import { masquerade } from '../../src/codec/nft/expression/masquerade.ts';
import { meta } from '../../src/codec/nft/expression/meta.ts';
import { payload } from '../../src/codec/nft/expression/payload.ts';
import { netmask, requireCidr } from '../../src/lib/cidr.ts';
import type { MasqueradeInput } from '../subnet/masquerade.ts';

export interface NftChain {
  spec: Required<ChainSpec>;
  rules: Expression[][];
}

/** A table that is ours as a whole. */
export interface NftTable {
  family: NftFamily;
  name: string;
  /** Flannel's; a table of this name without it belongs to somebody else. */
  comment: string;
  chains: NftChain[];
}

export const FORWARD = 'forward';
export const POSTROUTING = 'postrtg';

/** kube-proxy's masquerade mark, in host byte order. */
const KUBE_MARK = Buffer.from([0, 0x40, 0, 0]);
const NOTHING = Buffer.alloc(4);
/** NF_IP_PRI_NAT_SRC and NF_IP_PRI_FILTER. */
const PRIORITY = { srcnat: 100, filter: 0 } as const;

export function nftTableName(family: 4 | 6): { family: NftFamily; name: string; comment: string } {
  const name = `flannel-ipv${family}`;
  return { family: family === 4 ? 'ip' : 'ip6', name, comment: `rules for ${name}` };
}

/** Source or destination inside the network, or not. */
function within(field: 'saddr' | 'daddr', text: string, operator: '==' | '!=' = '=='): Expression[] {
  const { family, network, prefixLength } = requireCidr(text);
  return [
    payload(family === 4 ? `ip ${field}` : `ip6 ${field}`),
    bitwise(netmask(prefixLength, family)),
    cmp(operator, network),
  ];
}

/** Equivalent to: `nft -f` of flannel's rules, those of iptables one by one. */
export function planNftTable(input: MasqueradeInput): NftTable {
  const { network, subnet, randomFully } = input;
  const multicast = input.family === 4 ? '224.0.0.0/4' : 'ff00::/8';
  const accept = verdict('accept');
  const leave = verdict('return');
  const masq = masquerade({ fullyRandom: randomFully });
  const chains: NftChain[] = [];
  if (input.forward)
    chains.push({
      spec: { name: FORWARD, hook: { type: 'filter', hook: 'forward', priority: PRIORITY.filter } },
      rules: [
        [...within('saddr', network), accept],
        [...within('daddr', network), accept],
      ],
    });
  if (input.masquerade)
    chains.push({
      spec: { name: POSTROUTING, hook: { type: 'nat', hook: 'postrouting', priority: PRIORITY.srcnat } },
      rules: [
        [meta('mark'), bitwise(KUBE_MARK), cmp('!=', NOTHING), leave],
        [...within('saddr', subnet), ...within('daddr', network), leave],
        [...within('saddr', network), ...within('daddr', subnet), leave],
        [...within('saddr', network, '!='), ...within('daddr', subnet), leave],
        [...within('saddr', network), ...within('daddr', multicast, '!='), masq],
        [...within('saddr', network, '!='), ...within('daddr', network), masq],
      ],
    });
  return { ...nftTableName(input.family), chains };
}
