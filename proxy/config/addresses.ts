// The texts in kube-proxy's configuration that stand for more than themselves: `0.0.0.0:10256`, `30000-32767`,
// `10.0.0.0/8,fd00::/8`. Each parser returns undefined for what it cannot read. Pure.
import { type Cidr, parseCidr } from '../../src/lib/cidr.ts';
import { parseIp } from '../../src/lib/ip.ts';

export interface ListenAddress {
  address: string;
  port: number;
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65_535;
}

/** `0.0.0.0:10256`, `[::]:10256`, `:10256` (every address). */
export function parseListenAddress(text: string): ListenAddress | undefined {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(text);
  if (!match || !isPort(match[3] ?? '')) return undefined;
  const address = match[1] ?? (match[2] === '' ? '0.0.0.0' : match[2]) ?? '';
  return parseIp(address) ? { address, port: Number(match[3]) } : undefined;
}

/** Both ends belong to it. */
export interface PortRange {
  first: number;
  last: number;
}

/** `BEGIN-END`, `BEGIN+SIZE` (size ports after the first, as upstream) or one port; 'any' for nothing, 0 and 0-0. */
export function parsePortRange(text: string): PortRange | 'any' | undefined {
  const match = /^\s*(\d+)\s*(?:([-+])\s*(\d+)\s*)?$/.exec(text);
  if (!match) return text.trim() === '' ? 'any' : undefined;
  const first = Number(match[1]);
  const second = match[3] === undefined ? first : Number(match[3]);
  const last = match[2] === '+' ? first + second : second;
  if (first === 0 && last === 0) return 'any';
  return first >= 1 && last >= first && last <= 65_535 ? { first, last } : undefined;
}

/** A comma separated list of at most one network a family. */
export function parseClusterCidrs(text: string): { v4?: Cidr; v6?: Cidr } | undefined {
  const found: { v4?: Cidr; v6?: Cidr } = {};
  for (const part of text.split(',').map(piece => piece.trim())) {
    if (part === '') continue;
    const cidr = parseCidr(part);
    const key = cidr?.family === 6 ? 'v6' : 'v4';
    if (!cidr || found[key]) return undefined;
    found[key] = cidr;
  }
  return found;
}
