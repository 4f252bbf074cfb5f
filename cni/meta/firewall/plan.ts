// The firewall plugin's iptables rules: from what `iptables-save -t filter` shows to the lines for `iptables-restore
// --noflush` that are missing, or that remove a pod's. Pure. Chains and rules are those of the reference
// (plugins/meta/firewall); each pod's rules carry its owner as a comment besides, so DEL and GC need no earlier result.
export interface PodFirewall {
  owner: string;
  /** With prefix length, of one family. */
  addresses: readonly string[];
  adminChain: string;
  /** The pod's bridge, for the isolating policies. */
  isolation?: { bridge: string; sameBridgeAllowed: boolean };
}

const FORWARD = 'CNI-FORWARD';
const STAGE1 = 'CNI-ISOLATION-STAGE-1';
const STAGE2 = 'CNI-ISOLATION-STAGE-2';
const OWNER_PREFIX = 'podwire:';

const comment = (text: string) => `-m comment --comment "${text}"`;

/** The two rules of each address. */
function podRules(pod: PodFirewall): string[] {
  const mark = comment(`${OWNER_PREFIX}${pod.owner}`);
  return pod.addresses.flatMap(address => [
    `-d ${address} ${mark} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    `-s ${address} ${mark} -j ACCEPT`,
  ]);
}

/** Lines to give to iptables-restore, or undefined when all is there. */
export function planAdd(saved: string, pod: PodFirewall): string | undefined {
  const { chains, rules } = parseSave(saved);
  const lines: string[] = [];
  const wantChain = (name: string): void => {
    // -N, not `:NAME`, which would empty a chain that another process has made in the meantime.
    if (!chains.has(name)) lines.push(`-N ${name}`);
  };
  const want = (chain: string, rule: string, place: 'first' | 'last'): void => {
    if (rules.has(`${chain} ${rule}`)) return;
    lines.push(place === 'first' ? `-I ${chain} 1 ${rule}` : `-A ${chain} ${rule}`);
  };
  wantChain(FORWARD);
  wantChain(pod.adminChain);
  want('FORWARD', `${comment('CNI firewall plugin rules')} -j ${FORWARD}`, 'first');
  want(FORWARD, `${comment('CNI firewall plugin admin overrides')} -j ${pod.adminChain}`, 'first');
  for (const rule of podRules(pod)) want(FORWARD, rule, 'last');
  const { isolation } = pod;
  if (isolation !== undefined) {
    const { bridge, sameBridgeAllowed } = isolation;
    wantChain(STAGE1);
    wantChain(STAGE2);
    want('FORWARD', `${comment('CNI firewall plugin rules (ingressPolicy)')} -j ${STAGE1}`, 'first');
    want(STAGE1, '-j RETURN', 'last');
    want(STAGE2, '-j RETURN', 'last');
    want(STAGE1, `-i ${bridge} ! -o ${bridge} -j ${STAGE2}`, 'first');
    if (!sameBridgeAllowed) want(STAGE1, `-i ${bridge} -o ${bridge} -j DROP`, 'first');
    want(STAGE2, `-o ${bridge} -j DROP`, 'first');
  }
  return lines.length === 0 ? undefined : restoreText(lines);
}

/** Lines that remove the rules of the chosen owners, and those of `addresses` in the reference's form. */
export function planRemove(
  saved: string,
  chosen: (owner: string) => boolean,
  addresses: readonly string[] = [],
): string | undefined {
  const { rules } = parseSave(saved);
  const foreign = new Set(
    addresses.flatMap(address => [
      `${FORWARD} -d ${address} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
      `${FORWARD} -s ${address} -j ACCEPT`,
    ]),
  );
  const lines = [...rules].filter(rule => {
    const owner = ownerOf(rule);
    return owner === undefined ? foreign.has(rule) : chosen(owner);
  });
  return lines.length === 0 ? undefined : restoreText(lines.map(rule => `-D ${rule}`));
}

/** CHECK: a rule of the pod that is missing. */
export function missingRule(saved: string, pod: PodFirewall): string | undefined {
  const { rules } = parseSave(saved);
  return podRules(pod).find(rule => !rules.has(`${FORWARD} ${rule}`));
}

function ownerOf(rule: string): string | undefined {
  return /--comment "?podwire:([^" ]+)"?( |$)/.exec(rule)?.[1];
}

function parseSave(saved: string): { chains: Set<string>; rules: Set<string> } {
  const chains = new Set<string>();
  const rules = new Set<string>();
  for (const line of saved.split('\n')) {
    if (line.startsWith(':')) chains.add(line.slice(1).split(' ')[0]!);
    // iptables-save leaves quotes out around comments without blanks.
    else if (line.startsWith('-A '))
      rules.add(line.slice(3).replace(/--comment (podwire:\S+)/, '--comment "$1"'));
  }
  return { chains, rules };
}

function restoreText(lines: readonly string[]): string {
  return `*filter\n${lines.join('\n')}\nCOMMIT\n`;
}
