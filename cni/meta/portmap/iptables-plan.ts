// A pod's host ports as iptables rules of one family, with the reference's chains (plugins/meta/portmap/portmap_iptables.go).
// Pure.
//
//   PREROUTING, OUTPUT ── to an address of the host ──▶ CNI-HOSTPORT-DNAT ── ports, conditions ──▶ CNI-DN-<pod>
//   CNI-DN-<pod>: per port  from the pod's subnet or 127.0.0.1 ──▶ mark (CNI-HOSTPORT-SETMARK or another's);  ──▶ DNAT
//   POSTROUTING ──▶ CNI-HOSTPORT-MASQ ── mark ──▶ MASQUERADE
import { type Cidr, formatCidr } from '../../../src/lib/cidr.ts';
import { formatIp, isUnspecified } from '../../../src/lib/ip.ts';
import {
  HOSTPORT_CHAIN,
  hostPortChainName,
  hostPortComment,
  MASQUERADE_MARK_CHAIN,
  SET_MARK_CHAIN,
} from '../../iptables/chain-names.ts';
import { commentMatch, quoted } from '../../iptables/table.ts';
import type { PortMapping, PortmapConfig, Protocol } from './config.ts';

/** What -m multiport takes at most. */
const MAX_PORTS = 15;

export interface PortChainPlan {
  family: 4 | 6;
  /** Holds exactly `rules`. */
  chain: string;
  rules: string[];
  /** Rules of CNI-HOSTPORT-DNAT that lead to it. */
  entries: string[];
  /** Chains that all pods share, and what they hold. */
  shared: { chain: string; rules: string[] }[];
  /** Rules that lead to the shared chains; the first of POSTROUTING comes before what ipMasq has there. */
  jumps: { chain: string; rule: string; place: 'first' | 'last' }[];
  /** Mappings of this family. */
  mappings: PortMapping[];
}

export function planPortChains(
  config: PortmapConfig,
  network: string,
  containerId: string,
  pod: Cidr,
): PortChainPlan {
  const { family } = pod;
  const mappings = config.mappings.filter(
    ({ hostIp }) => hostIp === undefined || hostIp.length === pod.address.length,
  );
  const chain = hostPortChainName(network, containerId);
  const ownMark = config.snat && config.externalSetMarkChain === undefined;
  const jumps: PortChainPlan['jumps'] = ['PREROUTING', 'OUTPUT'].map(from => ({
    chain: from,
    rule: `-m addrtype --dst-type LOCAL -j ${HOSTPORT_CHAIN}`,
    place: 'last',
  }));
  if (ownMark)
    jumps.unshift({
      chain: 'POSTROUTING',
      rule: `${commentMatch('CNI portfwd requiring masquerade')} -j ${MASQUERADE_MARK_CHAIN}`,
      place: 'first',
    });
  return {
    family,
    chain,
    rules: mappings.flatMap(mapping => portRules(config, mapping, pod)),
    entries: entryRules(config, family, hostPortComment(network, containerId), chain),
    shared: [...(ownMark ? markChains(config.markBit) : []), { chain: HOSTPORT_CHAIN, rules: [] }],
    jumps,
    mappings,
  };
}

function markChains(bit: number): PortChainPlan['shared'] {
  const value = `0x${(2 ** bit).toString(16)}`;
  return [
    {
      chain: SET_MARK_CHAIN,
      rules: [`${commentMatch('CNI portfwd masquerade mark')} -j MARK --set-xmark ${value}/${value}`],
    },
    { chain: MASQUERADE_MARK_CHAIN, rules: [`-m mark --mark ${value}/${value} -j MASQUERADE`] },
  ];
}

/** All ports, as in the reference, though one with a host address of the other family leads to nothing in the chain. */
function entryRules(config: PortmapConfig, family: 4 | 6, comment: string, chain: string): string[] {
  const { mappings } = config;
  const protocols = [...new Set(mappings.map(one => one.protocol))].sort();
  return protocols.flatMap(protocol => {
    const ports = mappings.filter(one => one.protocol === protocol).map(one => one.hostPort);
    const groups = Array.from({ length: Math.ceil(ports.length / MAX_PORTS) }, (_, i) =>
      ports.slice(i * MAX_PORTS, (i + 1) * MAX_PORTS),
    );
    return groups.map(group => {
      const conditions = conditionText(config.conditions[family], protocol);
      const match = `-p ${protocol} ${commentMatch(comment)} -m multiport --dports ${group.join(',')}`;
      return `${match}${conditions} -j ${chain}`;
    });
  });
}

/** Two rules that mark and one that translates, in this order. */
function portRules(config: PortmapConfig, mapping: PortMapping, pod: Cidr): string[] {
  const { hostIp, hostPort, containerPort, protocol } = mapping;
  const any = hostIp === undefined || isUnspecified(hostIp);
  const destination = any ? '' : `-d ${formatIp(hostIp)} `;
  const match = `${destination}-p ${protocol} -m ${protocol} --dport ${hostPort}`;
  const address = formatIp(pod.address);
  const target = pod.family === 4 ? address : `[${address}]`;
  const sources = config.masqAll
    ? [pod.family === 4 ? '0.0.0.0/0' : '::/0']
    : [formatCidr(pod), ...(pod.family === 4 ? ['127.0.0.1'] : [])];
  const mark = config.externalSetMarkChain ?? SET_MARK_CHAIN;
  return [
    ...(config.snat ? sources.map(source => `-s ${source} ${match} -j ${mark}`) : []),
    `${match} -j DNAT --to-destination ${target}:${containerPort}`,
  ];
}

const SHORT: Readonly<Record<string, string>> = {
  '--source': '-s',
  '--src': '-s',
  '--destination': '-d',
  '--dst': '-d',
  '--in-interface': '-i',
  '--out-interface': '-o',
  '--match': '-m',
};
const PORT_OPTIONS = ['--sport', '--source-port', '--dport', '--destination-port'];
/** What would make another rule of it. */
const FORBIDDEN = /^(-[jgpAIDRLSFZNXPEtcvnx46w]|--(jump|goto|protocol|proto))$/;

/** The words of `conditionsV4` or `conditionsV6` as a part of a rule's text, with a blank before it. */
export function conditionText(words: readonly string[], protocol: Protocol): string {
  let extension = false;
  const out: string[] = [];
  for (const [i, word] of words.entries()) {
    // iptables loads the protocol's own match when its options come without one.
    const option = word === '!' ? words[i + 1] : word;
    if (!extension && option !== undefined && PORT_OPTIONS.includes(option) && words[i - 1] !== '!') {
      out.push('-m', protocol);
      extension = true;
    }
    if (word === '-m' || word === '--match') extension = true;
    const short = Object.hasOwn(SHORT, word) ? SHORT[word]! : word;
    out.push(/^[A-Za-z0-9_.,:/!+-]+$/.test(short) ? short : quoted(short));
  }
  return out.map(word => ` ${word}`).join('');
}

/** The first word that cannot be part of a condition. */
export function forbiddenWord(words: readonly string[]): string | undefined {
  return words.find(word => FORBIDDEN.test(word));
}
