// The text of one iptables rule exactly as iptables-save prints it, so that the kernel's rules can be compared with the
// planned ones letter by letter: `-s -d -i -p` first, then matches in the order given, then the target. Pure.

export interface RuleParts {
  /** An address or network; a bare address gets its full prefix length. */
  source?: string;
  destination?: string;
  inInterface?: string;
  /** Lower case: `tcp`. */
  protocol?: string;
  /** Needs `protocol`. */
  destinationPort?: number;
  /** `-m comment`, printed before everything but addresses and protocol. */
  comment?: string;
  /** Further matches, as printed. */
  matches?: string;
  /** Everything after the matches: `-j KUBE-SVC-…`. */
  target?: string;
}

/** Characters that iptables-save prints without quotes (xtables_save_string). */
const PLAIN = /^[-_0-9A-Za-z]+$/;

export function quote(text: string): string {
  return PLAIN.test(text) ? text : `"${text.replace(/["\\']/g, '\\$&')}"`;
}

/** `10.0.0.1` → `10.0.0.1/32`; `! 10.0.0.0/8` keeps its negation in front. */
function address(option: string, text: string): string {
  const negated = text.startsWith('! ');
  const value = negated ? text.slice(2) : text;
  const full = value.includes('/') ? value : `${value}/${value.includes(':') ? 128 : 32}`;
  return `${negated ? '! ' : ''}${option} ${full} `;
}

export function rule(parts: RuleParts): string {
  let text = '';
  if (parts.source) text += address('-s', parts.source);
  if (parts.destination) text += address('-d', parts.destination);
  if (parts.inInterface)
    text += parts.inInterface.startsWith('! ')
      ? `! -i ${parts.inInterface.slice(2)} `
      : `-i ${parts.inInterface} `;
  if (parts.protocol) text += `-p ${parts.protocol} `;
  if (parts.comment) text += `-m comment --comment ${quote(parts.comment)} `;
  if (parts.matches) text += `${parts.matches} `;
  if (parts.protocol)
    text += `-m ${parts.protocol} ${parts.destinationPort === undefined ? '' : `--dport ${parts.destinationPort} `}`;
  return (parts.target ? text + parts.target : text).trimEnd();
}

/** `-m statistic`: the kernel keeps the probability in units of 2^-31, and iptables-save prints those. */
export function randomMatch(one: number): string {
  // kube-proxy writes 1/n with ten digits; the same digits go in here.
  const units = Math.round(Number((1 / one).toFixed(10)) * 2 ** 31);
  return `-m statistic --mode random --probability ${(units / 2 ** 31).toFixed(11)}`;
}

/** `-m recent` as kube-proxy uses it for session affinity. */
export function recentMatch(name: string, family: 4 | 6, check?: { seconds: number }): string {
  const mask = family === 4 ? '255.255.255.255' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff';
  const action = check ? `--rcheck --seconds ${check.seconds} --reap` : '--set';
  return `-m recent ${action} --name ${name} --mask ${mask} --rsource`;
}
