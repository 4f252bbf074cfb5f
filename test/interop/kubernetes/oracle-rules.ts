// iptables-save text of a kube-proxy, reduced to what must be the same for one Service whatever the release: the names of its
// chains and where they lead. How rules are arranged inside may differ (KUBE-XLB- became KUBE-SVL- in 1.24). Pure.
import assert from 'node:assert/strict';

export interface ServicePicture {
  serviceChain: string;
  firewallChain: string;
  /** `KUBE-SEP-… 10.244.1.2:80 affinity` of the chain for all endpoints, sorted. */
  endpoints: string[];
  /** Of the chain for those of this node. */
  localEndpoints: string[];
  nodePort: string;
  sourceRanges: string[];
}

/** Rules of table nat by chain. */
export function chainsOf(save: string): Map<string, string[]> {
  const nat = save.slice(save.indexOf('*nat'));
  const table = nat.slice(0, nat.indexOf('COMMIT'));
  const chains = new Map<string, string[]>();
  for (const line of table.split('\n')) {
    const [, chain, rule] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (chain !== undefined && rule !== undefined) chains.set(chain, [...(chains.get(chain) ?? []), rule]);
  }
  return chains;
}

function jumpsOf(rules: readonly string[] = []): string[] {
  return rules.flatMap(rule => / -j (KUBE-\S+)/.exec(rule)?.[1] ?? []);
}

/** `port` as comments name it, `default/web:http`. */
export function servicePicture(chains: ReadonlyMap<string, string[]>, port: string): ServicePicture {
  const jumpOf = (comment: string): string => {
    const rules = chains.get('KUBE-SERVICES')?.filter(rule => rule.includes(`"${port} ${comment}"`));
    const jump = jumpsOf(rules).find(name => !name.startsWith('KUBE-MARK-'));
    assert.ok(jump, `no rule "${port} ${comment}"`);
    return jump;
  };
  const serviceChain = jumpOf('cluster IP');
  const hash = serviceChain.slice('KUBE-SVC-'.length);
  const endpointsOf = (chain: string): string[] =>
    [...new Set(jumpsOf(chains.get(chain)).filter(name => name.startsWith('KUBE-SEP-')))]
      .map(name => {
        const rules = chains.get(name) ?? [];
        const to = rules.flatMap(rule => /--to-destination (\S+)/.exec(rule)?.[1] ?? []);
        const affine = rules.some(rule => rule.includes('-m recent') && rule.includes(`--name ${name}`));
        return `${name} ${to} ${affine ? 'affinity' : ''}`;
      })
      .sort();
  const localChain = [`KUBE-XLB-${hash}`, `KUBE-SVL-${hash}`].find(name => chains.has(name)) ?? '';
  const firewallChain = `KUBE-FW-${hash}`;
  return {
    serviceChain,
    firewallChain: chains.has(firewallChain) ? firewallChain : '',
    endpoints: endpointsOf(serviceChain),
    localEndpoints: endpointsOf(localChain),
    nodePort: chains.get('KUBE-NODEPORTS')?.flatMap(rule => /--dport (\d+)/.exec(rule)?.[1] ?? [])[0] ?? '',
    sourceRanges: (chains.get(firewallChain) ?? []).flatMap(rule => /-s (\S+)/.exec(rule)?.[1] ?? []),
  };
}
