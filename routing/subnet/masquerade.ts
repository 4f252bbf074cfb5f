// Flannel's iptables rules (flannel pkg/trafficmngr/iptables): pods leaving the pod network take the node's address, and
// FORWARD lets pod traffic through, also where Docker set its policy to DROP. Rule texts are as iptables-save prints
// them, so that what is in the kernel can be compared with them. Pure.
import type { XtablesTableState } from '../../src/kernel/state.ts';
import type { IpFamily } from '../../src/lib/ip.ts';

export const POSTROUTING_CHAIN = 'FLANNEL-POSTRTG';
export const FORWARD_CHAIN = 'FLANNEL-FWD';

/** kube-proxy's masquerade mark: what carries it is masqueraded by kube-proxy, and must not be a second time. */
const KUBE_MARK = '0x4000/0x4000';
const MASQ_COMMENT = '-m comment --comment "flanneld masq"';
const FORWARD_COMMENT = '-m comment --comment "flanneld forward"';

export interface MasqueradeInput {
  family: IpFamily;
  /** The cluster's pod network. */
  network: string;
  /** This node's part of it. */
  subnet: string;
  /** --ip-masq. */
  masquerade: boolean;
  /** --iptables-forward-rules. */
  forward: boolean;
  /** --ip-masq-fully-random-disable, inverted: MASQUERADE picks source ports at random. */
  randomFully: boolean;
}

export function planMasquerade(input: MasqueradeInput): XtablesTableState[] {
  const { family, network, subnet } = input;
  const multicast = family === 4 ? '224.0.0.0/4' : 'ff00::/8';
  const masquerade = `-j MASQUERADE${input.randomFully ? ' --random-fully' : ''}`;
  const tables: XtablesTableState[] = [];
  if (input.forward)
    tables.push({
      family,
      table: 'filter',
      chains: [
        {
          name: FORWARD_CHAIN,
          rules: [`-s ${network} ${FORWARD_COMMENT} -j ACCEPT`, `-d ${network} ${FORWARD_COMMENT} -j ACCEPT`],
        },
      ],
      jumps: [{ chain: 'FORWARD', rule: `${FORWARD_COMMENT} -j ${FORWARD_CHAIN}`, position: 'last' }],
    });
  if (input.masquerade)
    tables.push({
      family,
      table: 'nat',
      chains: [
        {
          name: POSTROUTING_CHAIN,
          rules: [
            `-m mark --mark ${KUBE_MARK} ${MASQ_COMMENT} -j RETURN`,
            `-s ${subnet} -d ${network} ${MASQ_COMMENT} -j RETURN`,
            `-s ${network} -d ${subnet} ${MASQ_COMMENT} -j RETURN`,
            `! -s ${network} -d ${subnet} ${MASQ_COMMENT} -j RETURN`,
            `-s ${network} ! -d ${multicast} ${MASQ_COMMENT} ${masquerade}`,
            `! -s ${network} -d ${network} ${MASQ_COMMENT} ${masquerade}`,
          ],
        },
      ],
      jumps: [{ chain: 'POSTROUTING', rule: `${MASQ_COMMENT} -j ${POSTROUTING_CHAIN}`, position: 'last' }],
    });
  return tables;
}
