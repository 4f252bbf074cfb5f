// Cluster IPs of one service CIDR: a pool of offsets. The network address and, in IPv4, the broadcast address are never
// given out; the first address belongs to default/kubernetes.
import {
  addressOffset,
  type Cidr,
  cidrContains,
  cidrSize,
  formatCidr,
  nthAddress,
  requireCidr,
} from '../../lib/cidr.ts';
import { familyOf, formatIp, parseIp } from '../../lib/ip.ts';
import { NumberPool } from './number-pool.ts';

/** Of a bigger IPv6 range only the first part is used, as upstream's allocator does. */
const MAX_ADDRESSES = 1 << 16;

export class ClusterIps {
  readonly cidr: Cidr;
  readonly family: 'IPv4' | 'IPv6';
  readonly #pool: NumberPool;

  constructor(cidr: string) {
    this.cidr = requireCidr(cidr, 'service CIDR');
    this.family = familyOf(this.cidr.address) === 4 ? 'IPv4' : 'IPv6';
    const whole = cidrSize(this.cidr);
    const size = whole > BigInt(MAX_ADDRESSES) ? MAX_ADDRESSES : Number(whole);
    // KEP-3070: min(max(16, size / 16), 256).
    this.#pool = new NumberPool(size, Math.min(Math.max(16, Math.floor(size / 16)), 256));
    this.#pool.reserve(0, 'network');
    if (this.family === 'IPv4') this.#pool.reserve(size - 1, 'broadcast');
  }

  /** The n-th address as text. */
  address(n: number): string {
    return formatIp(nthAddress(this.cidr, n)!);
  }

  contains(address: string): boolean {
    const parsed = parseIp(address);
    return parsed !== undefined && cidrContains(this.cidr, parsed);
  }

  /** Undefined on success, else why not. */
  reserve(address: string, owner: string): string | undefined {
    const parsed = parseIp(address);
    const offset = parsed && cidrContains(this.cidr, parsed) ? addressOffset(this.cidr, parsed) : undefined;
    if (offset === undefined || offset >= BigInt(this.#pool.size))
      return `the provided IP (${address}) is not in the valid range. The range of valid IPs is ${formatCidr(this.cidr)}`;
    return this.#pool.reserve(Number(offset), owner) ? undefined : 'provided IP is already allocated';
  }

  take(owner: string): string | undefined {
    const offset = this.#pool.take(owner);
    return offset === undefined ? undefined : this.address(offset);
  }

  release(address: string, owner: string): void {
    const parsed = parseIp(address);
    if (!parsed || !cidrContains(this.cidr, parsed)) return;
    const offset = addressOffset(this.cidr, parsed);
    if (offset !== undefined) this.#pool.release(Number(offset), owner);
  }

  get used(): number {
    return this.#pool.used;
  }
}
