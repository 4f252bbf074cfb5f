// Hands out equal subnets of one network, each to one owner. Pure. Source: pkg/controller/nodeipam/ipam/cidrset.
import {
  addressOffset,
  type Cidr,
  cidrSize,
  cidrsOverlap,
  formatCidr,
  nthSubnet,
  requireCidr,
} from '../lib/cidr.ts';
import { PodwireError } from '../lib/errors.ts';
import type { IpFamily } from '../lib/ip.ts';

/** A cluster network of more subnets than this only uses the first ones; the map stays small. */
const MAX_SUBNETS = 2 ** 20;

export class CidrAllocator {
  readonly network: Cidr;
  readonly maskSize: number;
  readonly #count: number;
  readonly #taken = new Map<number, string>();
  #next = 0;

  constructor(network: string, maskSize: number) {
    this.network = requireCidr(network, 'cluster CIDR');
    this.maskSize = maskSize;
    const bits = maskSize - this.network.prefixLength;
    if (bits < 0 || maskSize > this.network.address.length * 8)
      throw new PodwireError(
        'CIDR_MASK',
        `subnets of /${maskSize} do not fit into the cluster CIDR ${network}`,
      );
    this.#count = bits > 20 ? MAX_SUBNETS : 2 ** bits;
  }

  get family(): IpFamily {
    return this.network.family;
  }

  get free(): number {
    return this.#count - this.#taken.size;
  }

  /** Marks what `cidr` covers as the owner's. Answers who has it already, where that is somebody else. */
  occupy(cidr: string, owner: string): string | undefined {
    for (const index of this.#indexes(cidr)) {
      const present = this.#taken.get(index);
      if (present !== undefined && present !== owner) return present;
      this.#taken.set(index, owner);
    }
    return undefined;
  }

  release(cidr: string, owner: string): void {
    for (const index of this.#indexes(cidr)) if (this.#taken.get(index) === owner) this.#taken.delete(index);
  }

  /** The next free subnet after the one handed out last, so that a released one rests as long as possible. */
  allocate(owner: string): string | undefined {
    for (let tried = 0; tried < this.#count; tried++) {
      const index = (this.#next + tried) % this.#count;
      if (this.#taken.has(index)) continue;
      const subnet = nthSubnet(this.network, this.maskSize, index);
      if (!subnet) return undefined;
      this.#taken.set(index, owner);
      this.#next = (index + 1) % this.#count;
      return formatCidr(subnet);
    }
    return undefined;
  }

  /** Numbers of the subnets that `text` touches; none when it lies outside. */
  #indexes(text: string): number[] {
    const cidr = requireCidr(text);
    if (!cidrsOverlap(this.network, cidr)) return [];
    const subnetSize = cidrSize(nthSubnet(this.network, this.maskSize, 0) as Cidr);
    if (cidr.prefixLength <= this.network.prefixLength)
      return Array.from({ length: this.#count }, (_, i) => i);
    const offset = addressOffset(this.network, cidr.network);
    if (offset === undefined) return [];
    const first = Number(offset / subnetSize);
    const count = Math.max(1, Number(cidrSize(cidr) / subnetSize));
    return Array.from({ length: count }, (_, i) => first + i).filter(index => index < this.#count);
  }
}
