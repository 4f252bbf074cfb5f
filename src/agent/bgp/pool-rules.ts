// What IP pools ask of the node beside routes: pods of a natOutgoing pool take the node's address on their way to where
// no pool is, and FORWARD lets pods' traffic through where something set its policy to DROP. Rule texts are as
// iptables-save prints them. Pure.
import type { Pool } from '../../../routing/bgp/calico/pools.ts';
import type { KernelState, XtablesTableState } from '../../kernel/state.ts';
import { formatCidr } from '../../lib/cidr.ts';

const NAT_CHAIN = 'PODWIRE-NAT-OUT';
const FORWARD_CHAIN = 'PODWIRE-FWD';
const COMMENT = '-m comment --comment "podwire pools"';
/** kube-proxy's mark: what carries it is masqueraded by kube-proxy. */
const KUBE_MARK = '0x4000/0x4000';
const MULTICAST: Record<4 | 6, string> = { 4: '224.0.0.0/4', 6: 'ff00::/8' };

export function planPoolRules(pools: readonly Pool[], families: readonly (4 | 6)[]): KernelState {
  return {
    sysctls: [
      ...(families.includes(4) ? [{ path: 'net/ipv4/ip_forward', value: '1' }] : []),
      ...(families.includes(6) ? [{ path: 'net/ipv6/conf/all/forwarding', value: '1', optional: true }] : []),
    ],
    xtables: families.flatMap(family => tablesOf(pools, family)),
  };
}

function tablesOf(pools: readonly Pool[], family: 4 | 6): XtablesTableState[] {
  const own = pools.filter(pool => pool.cidr.family === family);
  const cidrs = own.map(pool => formatCidr(pool.cidr));
  const outgoing = own.filter(pool => pool.natOutgoing && !pool.disabled).map(pool => formatCidr(pool.cidr));
  return [
    {
      family,
      table: 'filter',
      chains: [
        {
          name: FORWARD_CHAIN,
          rules: cidrs.flatMap(cidr => [
            `-s ${cidr} ${COMMENT} -j ACCEPT`,
            `-d ${cidr} ${COMMENT} -j ACCEPT`,
          ]),
        },
      ],
      jumps: [{ chain: 'FORWARD', rule: `${COMMENT} -j ${FORWARD_CHAIN}`, position: 'last' }],
    },
    {
      family,
      table: 'nat',
      chains: [
        {
          name: NAT_CHAIN,
          rules: [
            `-m mark --mark ${KUBE_MARK} ${COMMENT} -j RETURN`,
            ...cidrs.map(cidr => `-d ${cidr} ${COMMENT} -j RETURN`),
            `-d ${MULTICAST[family]} ${COMMENT} -j RETURN`,
            ...outgoing.map(cidr => `-s ${cidr} ${COMMENT} -j MASQUERADE --random-fully`),
          ],
        },
      ],
      jumps: [{ chain: 'POSTROUTING', rule: `${COMMENT} -j ${NAT_CHAIN}`, position: 'last' }],
    },
  ];
}
