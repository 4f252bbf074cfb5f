// Addresses for pods: from the node's own blocks, else from a block it claims, else borrowed from another node's. Every
// write is compare-and-swap, so any number of nodes may run this at once; within one process requests take turns.
// A request is named by its handle and may be repeated: what its handle already has is answered again, so an answer
// that was lost (the API server went away in the middle) costs no address.
import { cidrContains, formatCidr, parseCidrOrIp } from '../../src/lib/cidr.ts';
import { hasCode, PodwireError } from '../../src/lib/errors.ts';
import { parseIp } from '../../src/lib/ip.ts';
import { cidrName } from '../bgp/calico/names.ts';
import type { Pool } from '../bgp/calico/pools.ts';
import { allocate, allocations, assign, type BlockSpec, endCooldown, type Owner, release } from './block.ts';
import { blockOrder, claimBlock, ownBlocks, RETRIES } from './claim.ts';
import { decrementHandle, incrementHandle } from './handles.ts';
import type { IpamStore, Versioned } from './ipam-store.ts';

/** IPAMConfig.maxBlocksPerHost 0 means this, in Calico's code too. */
const DEFAULT_MAX_BLOCKS = 20;

export interface AllocatorOptions {
  readonly store: IpamStore;
  readonly nodeName: string;
  readonly nodeLabels: Readonly<Record<string, string>>;
  readonly now?: () => Date;
}

export interface AssignRequest {
  readonly owner: Owner;
  readonly family: 4 | 6;
  /** One certain address instead of any. */
  readonly address?: string;
  /** Only these pools, by name. */
  readonly pools?: readonly string[];
}

export interface Assigned {
  readonly address: string;
  readonly block: string;
  /** The address is from another node's block and must be announced by itself. */
  readonly borrowed: boolean;
}

interface Round {
  readonly config: Awaited<ReturnType<IpamStore['config']>>;
  readonly pools: readonly Pool[];
  readonly isReserved: (address: string) => boolean;
}

export class IpamAllocator {
  readonly #store: IpamStore;
  readonly #options: AllocatorOptions;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: AllocatorOptions) {
    this.#store = options.store;
    this.#options = options;
  }

  assign(request: AssignRequest): Promise<Assigned> {
    return this.#inTurn(() => this.#assign(request));
  }

  /** Frees everything a handle has; answers the addresses. A handle that has nothing is fine. */
  releaseHandle(handle: string): Promise<string[]> {
    return this.#inTurn(() => this.#releaseHandle(handle));
  }

  #now(): Date {
    return this.#options.now?.() ?? new Date();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #round(request: AssignRequest): Promise<Round> {
    const config = await this.#store.config();
    const reserved = (await this.#store.reservedCidrs()).flatMap(text => parseCidrOrIp(text) ?? []);
    const pools = (await this.#store.pools()).filter(
      pool =>
        pool.cidr.family === request.family &&
        !pool.disabled &&
        (pool.automatic || request.pools?.includes(pool.name) === true) &&
        pool.allowedUses.includes('Workload') &&
        (request.pools === undefined || request.pools.includes(pool.name)) &&
        pool.selectsNode(this.#options.nodeLabels),
    );
    const isReserved = (address: string): boolean => {
      const bytes = parseIp(address);
      return bytes !== undefined && reserved.some(cidr => cidrContains(cidr, bytes));
    };
    return { config, pools, isReserved };
  }

  async #assign(request: AssignRequest): Promise<Assigned> {
    const round = await this.#round(request);
    if (round.pools.length === 0)
      throw new PodwireError(
        'NO_POOL',
        `no IPv${request.family} pool is usable on ${this.#options.nodeName}`,
      );
    const again = await this.#byHandle(request);
    if (again !== undefined) return again;
    const own = (await ownBlocks(this.#store, this.#options.nodeName, this.#now())).filter(block =>
      round.pools.some(pool => contains(pool, block.spec)),
    );
    if (request.address !== undefined) return this.#assignGiven(request, round);
    for (const block of own) {
      const got = await this.#takeFrom(block, request, round);
      if (got !== undefined) return got;
    }
    return (
      (await this.#fromNewBlock(request, round, own.length)) ??
      (await this.#borrow(request, round)) ??
      this.#exhausted(request, round)
    );
  }

  #exhausted(request: AssignRequest, round: Round): never {
    throw new PodwireError(
      'IPAM_EXHAUSTED',
      `no free IPv${request.family} address in ${round.pools.map(pool => pool.name).join(', ')} for ${request.owner.handle}`,
    );
  }

  /** The handle is counted before an address is taken, so it leads to whatever an earlier try got. */
  async #byHandle(request: AssignRequest): Promise<Assigned | undefined> {
    const handle = await this.#store.handles.get(request.owner.handle);
    for (const cidr of Object.keys(handle?.spec.block ?? {})) {
      const block =
        cidr.includes(':') === (request.family === 6)
          ? await this.#store.blocks.get(cidrName(cidr))
          : undefined;
      const found = block === undefined ? undefined : this.#existing(block.spec, request);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #existing(block: BlockSpec, request: AssignRequest): Assigned | undefined {
    const found = allocations(block).find(
      one =>
        one.handle === request.owner.handle &&
        (request.address === undefined || one.address === request.address),
    );
    return found === undefined ? undefined : this.#assigned(block, found.address);
  }

  #assigned(block: BlockSpec, address: string): Assigned {
    return { address, block: block.cidr, borrowed: block.affinity !== `host:${this.#options.nodeName}` };
  }

  async #takeFrom(
    first: Versioned<BlockSpec>,
    request: AssignRequest,
    round: Round,
  ): Promise<Assigned | undefined> {
    return this.#change(first, request, block => {
      const ready = endCooldown(block, this.#now(), round.config.ipCooldownSeconds ?? 0);
      const result = allocate(ready, { count: 1, owner: request.owner, isReserved: round.isReserved });
      return result === undefined ? undefined : { block: result.block, address: result.addresses[0]! };
    });
  }

  /** Compare-and-swap on one block, with the handle counted before, as Calico orders it. */
  async #change(
    first: Versioned<BlockSpec>,
    request: AssignRequest,
    edit: (block: BlockSpec) => { block: BlockSpec; address: string } | undefined,
  ): Promise<Assigned | undefined> {
    let current: Versioned<BlockSpec> | undefined = first;
    const { handle } = request.owner;
    for (let attempt = 0; attempt < RETRIES && current !== undefined; attempt++) {
      const again = this.#existing(current.spec, request);
      if (again !== undefined) return again;
      if (current.spec.deleted === true) return undefined;
      const edited = edit(current.spec);
      if (edited === undefined) return undefined;
      await incrementHandle(this.#store, handle, current.spec.cidr, 1);
      try {
        const stored = await this.#store.blocks.update(current.name, edited.block, current.version);
        return this.#assigned(stored.spec, edited.address);
      } catch (error) {
        if (!hasCode(error, 'Conflict') && !hasCode(error, 'NotFound')) throw error;
        await decrementHandle(this.#store, handle, current.spec.cidr, 1);
        current = await this.#store.blocks.get(current.name);
      }
    }
    return undefined;
  }

  async #assignGiven(request: AssignRequest, round: Round): Promise<Assigned> {
    const address = request.address!;
    const bytes = parseIp(address);
    const pool = round.pools.find(one => bytes !== undefined && cidrContains(one.cidr, bytes));
    if (bytes === undefined || pool === undefined)
      throw new PodwireError('NOT_IN_POOL', `${address} is in no pool usable on ${this.#options.nodeName}`);
    for (const block of await this.#store.blocks.list()) {
      const cidr = parseCidrOrIp(block.spec.cidr);
      if (cidr === undefined || !cidrContains(cidr, bytes)) continue;
      const got = await this.#change(block, request, spec => {
        const next = assign(endCooldown(spec, this.#now(), 0), address, request.owner);
        return next === undefined ? undefined : { block: next, address };
      });
      if (got !== undefined) return got;
      throw new PodwireError('ADDRESS_IN_USE', `${address} is taken`);
    }
    const block = blockOf(pool, address);
    // Ours now, or somebody else's: either way it exists and is looked at again.
    await claimBlock(this.#store, this.#options.nodeName, block, this.#now());
    return this.#assignGiven(request, round);
  }

  async #fromNewBlock(request: AssignRequest, round: Round, owned: number): Promise<Assigned | undefined> {
    const limit = round.config.maxBlocksPerHost || DEFAULT_MAX_BLOCKS;
    if (!round.config.autoAllocateBlocks || owned >= limit) return undefined;
    const taken = new Set((await this.#store.blocks.list()).map(({ spec }) => spec.cidr));
    for (const pool of round.pools)
      for (const cidr of blockOrder(pool, this.#options.nodeName)) {
        if (taken.has(cidr)) continue;
        const block = await claimBlock(this.#store, this.#options.nodeName, cidr, this.#now());
        const got = block === undefined ? undefined : await this.#takeFrom(block, request, round);
        if (got !== undefined) return got;
      }
    return undefined;
  }

  /** From blocks of others, or of nobody, when strict affinity does not forbid it. */
  async #borrow(request: AssignRequest, round: Round): Promise<Assigned | undefined> {
    if (round.config.strictAffinity) return undefined;
    for (const block of await this.#store.blocks.list()) {
      if (!round.pools.some(pool => contains(pool, block.spec))) continue;
      const got = await this.#takeFrom(block, request, round);
      if (got !== undefined) return got;
    }
    return undefined;
  }

  async #releaseHandle(handle: string): Promise<string[]> {
    const stored = await this.#store.handles.get(handle);
    const { ipCooldownSeconds = 0 } = await this.#store.config();
    const freed: string[] = [];
    for (const cidr of Object.keys(stored?.spec.block ?? {})) {
      for (let attempt = 0; attempt < RETRIES; attempt++) {
        const block = await this.#store.blocks.get(cidrName(cidr));
        const mine = block === undefined ? [] : allocations(block.spec).filter(one => one.handle === handle);
        const next =
          block === undefined ? undefined : release(block.spec, mine, this.#now(), ipCooldownSeconds);
        try {
          if (block !== undefined && next !== undefined)
            await this.#store.blocks.update(block.name, next, block.version);
          freed.push(...mine.map(one => one.address));
          break;
        } catch (error) {
          if (!hasCode(error, 'Conflict')) throw error;
        }
      }
      await decrementHandle(this.#store, handle, cidr, Number.POSITIVE_INFINITY);
    }
    return freed;
  }
}

function contains(pool: Pool, block: BlockSpec): boolean {
  const cidr = parseCidrOrIp(block.cidr);
  return cidr !== undefined && cidrContains(pool.cidr, cidr.network);
}

function blockOf(pool: Pool, address: string): string {
  const cidr = parseCidrOrIp(`${address}/${pool.blockSize}`);
  if (cidr === undefined) throw new PodwireError('INVALID_ADDRESS', `${address} is no address`);
  return formatCidr(cidr);
}
