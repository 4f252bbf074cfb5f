// What a group of peers with the same view was told (Adj-RIB-Out, RFC 4271 section 3.2). The route is worked out and
// the messages are built once for the group. A member that is new, or reads too slowly, gets nets instead of messages:
// they wait in its own set and are sent from the group's table when there is room, so a slow peer costs no memory.
import type { Family, MessageContext } from '../packet/context.ts';
import {
  ENCODE_SCRATCH_BYTES,
  encodeAnnouncements,
  encodeEndOfRib,
  encodeWithdrawals,
} from '../packet/message/update.ts';
import type { PrefixBatch } from '../packet/prefix-batch.ts';
import type { AttributeEntry } from '../rib/attribute-store.ts';
import type { PathSource } from '../rib/path-source.ts';
import { NONE, type Rib } from '../rib/rib.ts';
import { type ExportContext, exportRoute } from './export.ts';
import type { RouteExporter } from './route-exporter.ts';

/** Bytes a peer may leave unread before it gets no more. */
const BACKLOG_LIMIT_BYTES = 1 << 20;
const NETS_PER_TURN = 8192;
const CHUNK_BYTES = 64 * 1024;

/** A session as the group sees it. */
export interface GroupMember {
  /** Index of the peer as a path source: its own routes are not sent back to it. */
  readonly sourceIndex: number;
  readonly backlogBytes: () => number;
  readonly send: (bytes: Buffer) => void;
}

interface MemberState {
  readonly member: GroupMember;
  /** Nets whose present state this member has yet to be told. */
  readonly pending: Set<number>;
  /** End-of-RIB follows when `pending` is empty. */
  owesEndOfRib: boolean;
  /** Sent when `pending` is empty. */
  after: Buffer | undefined;
}

export class AdjRibOut implements RouteExporter {
  readonly family: Family;
  readonly context: ExportContext;
  readonly #send: MessageContext;
  readonly #rib: Rib;
  readonly #sources: readonly (PathSource | undefined)[];
  readonly #members = new Map<GroupMember, MemberState>();
  /** By net: what was announced, and whose route it is. */
  #entry: (AttributeEntry | undefined)[] = [];
  #source: Uint16Array = new Uint16Array(64);
  #cache = new Map<AttributeEntry, { source: PathSource; result: AttributeEntry | undefined }>();
  readonly #scratch: Buffer;
  readonly #batch: PrefixBatch;
  /** Routes announced. */
  size = 0;

  constructor(options: {
    rib: Rib;
    sources: readonly (PathSource | undefined)[];
    context: ExportContext;
    send: MessageContext;
    scratch: Buffer;
    batch: PrefixBatch;
  }) {
    this.#batch = options.batch;
    this.#rib = options.rib;
    this.family = options.rib.family;
    this.#sources = options.sources;
    this.context = options.context;
    this.#send = options.send;
    this.#scratch = options.scratch;
  }

  static scratch(): Buffer {
    return Buffer.allocUnsafe(ENCODE_SCRATCH_BYTES);
  }

  get memberCount(): number {
    return this.#members.size;
  }

  /** True while some member has yet to be told of nets; their numbers must not be reused. */
  get hasPending(): boolean {
    for (const state of this.#members.values()) if (state.pending.size > 0) return true;
    return false;
  }

  entryOf(net: number): AttributeEntry | undefined {
    return this.#entry[net];
  }

  /** Routes this member was told (its own ones are not among them). */
  announcedTo(member: GroupMember, net: number): AttributeEntry | undefined {
    return this.#source[net] === member.sourceIndex ? undefined : this.#entry[net];
  }

  /** A session came up: it gets the whole table, then End-of-RIB unless that is held back. */
  join(member: GroupMember, endOfRib: boolean, told: readonly number[] = []): void {
    const state: MemberState = { member, pending: new Set(), owesEndOfRib: endOfRib, after: undefined };
    if (this.#members.size === 0) this.#fill();
    this.#members.set(member, state);
    this.#queueAll(state);
    for (const net of told) state.pending.add(net);
    this.drain(member);
  }

  leave(member: GroupMember): void {
    this.#members.delete(member);
    if (this.#members.size === 0) this.#clear();
  }

  /** The whole table again (ROUTE-REFRESH, RFC 2918), then `after` (the end marker of RFC 7313). */
  resend(member: GroupMember, after?: Buffer): void {
    const state = this.#members.get(member);
    if (state === undefined) return;
    this.#queueAll(state);
    state.after = after;
    this.drain(member);
  }

  /** True when the member has yet to be told of something. */
  lags(member: GroupMember): boolean {
    return (this.#members.get(member)?.pending.size ?? 0) > 0;
  }

  /** What the next group has of it replaces it there; the rest is withdrawn there. */
  handOver(member: GroupMember): readonly number[] {
    const told = new Set(this.#members.get(member)?.pending);
    for (let net = 0; net < this.#entry.length; net++)
      if (this.announcedTo(member, net) !== undefined) told.add(net);
    return [...told];
  }

  /** Sends End-of-RIB once everything before it is out (RFC 4724 section 4.1). */
  endOfRib(member: GroupMember): void {
    const state = this.#members.get(member);
    if (state === undefined) return;
    state.owesEndOfRib = true;
    this.drain(member);
  }

  #queueAll(state: MemberState): void {
    for (let net = 0; net < this.#entry.length; net++)
      if (this.announcedTo(state.member, net) !== undefined) state.pending.add(net);
  }

  /** The group had no members and kept nothing. */
  #fill(): void {
    const { nets } = this.#rib;
    for (let net = 0; net < nets.limit; net++) if (nets.has(net)) this.#set(net);
  }

  #clear(): void {
    for (const entry of this.#entry) if (entry !== undefined) this.#rib.store.release(entry);
    this.#entry = [];
    this.#cache.clear();
    this.size = 0;
  }

  /** The export verdict for a path; undefined means it is not sent. */
  #exported(net: number, path: number): AttributeEntry | undefined {
    const rib = this.#rib;
    const entry = rib.entry[path]!;
    const source = this.#sources[rib.source[path]!]!;
    const { policyDependsOnPrefix } = this.context;
    if (!policyDependsOnPrefix) {
      const cached = this.#cache.get(entry);
      if (cached !== undefined && cached.source === source) return cached.result;
    }
    const verdict = exportRoute(this.context, entry, source, rib.store, {
      family: this.family,
      words: rib.nets.words,
      at: net * rib.nets.stride,
      length: rib.nets.lengths[net]!,
    });
    const result = typeof verdict === 'string' ? undefined : verdict;
    if (!policyDependsOnPrefix) {
      // The cache holds no references; bounded, so that it cannot outgrow the table.
      if (this.#cache.size > 4096) this.#cache.clear();
      this.#cache.set(entry, { source, result });
    }
    return result;
  }

  /** Brings the group's table up to date for one net; true when something changed. */
  #set(net: number): boolean {
    const rib = this.#rib;
    const best = rib.best[net]!;
    const entry = best === NONE ? undefined : this.#exported(net, best);
    const source = best === NONE ? 0 : rib.source[best]!;
    const before = this.#entry[net];
    if (before === entry && (entry === undefined || this.#source[net] === source)) return false;
    if (net >= this.#source.length) {
      const grown = new Uint16Array(Math.max(net + 1, this.#source.length * 2));
      grown.set(this.#source);
      this.#source = grown;
    }
    while (this.#entry.length <= net) this.#entry.push(undefined);
    if (entry !== undefined) entry.references++;
    if (before !== undefined) rib.store.release(before);
    this.#entry[net] = entry;
    this.#source[net] = source;
    this.size += (entry === undefined ? 0 : 1) - (before === undefined ? 0 : 1);
    return true;
  }

  /** Works out the nets that changed and tells the members. */
  process(nets: readonly number[]): void {
    if (this.#members.size === 0) return;
    const changed: number[] = [];
    /** Whose route was announced before, or NONE; beside `changed`. */
    const before: number[] = [];
    const sources = new Set<number>();
    for (const net of nets) {
      const previous = this.#entry[net] === undefined ? NONE : this.#source[net]!;
      if (!this.#set(net)) continue;
      changed.push(net);
      before.push(previous);
      if (previous !== NONE) sources.add(previous);
      if (this.#entry[net] !== undefined) sources.add(this.#source[net]!);
    }
    if (changed.length === 0) return;
    let common: Buffer[] | undefined;
    for (const state of this.#members.values()) {
      const { member, pending } = state;
      if (pending.size > 0 || member.backlogBytes() > BACKLOG_LIMIT_BYTES) {
        for (const net of changed) pending.add(net);
        continue;
      }
      if (sources.has(member.sourceIndex)) {
        // What it was never told, because it came from itself, needs no withdrawal.
        const { sourceIndex } = member;
        const told = changed.filter(
          (net, i) =>
            this.announcedTo(member, net) !== undefined || (before[i] !== NONE && before[i] !== sourceIndex),
        );
        for (const chunk of this.#encode(told, member)) member.send(chunk);
        continue;
      }
      common ??= this.#encode(changed, undefined);
      for (const chunk of common) member.send(chunk);
    }
  }

  /** Goes on with what a member has yet to be told, as far as it reads. */
  drain(member: GroupMember): void {
    const state = this.#members.get(member);
    if (state === undefined) return;
    const { pending } = state;
    while (pending.size > 0 && member.backlogBytes() <= BACKLOG_LIMIT_BYTES) {
      const nets: number[] = [];
      for (const net of pending) {
        nets.push(net);
        pending.delete(net);
        if (nets.length >= NETS_PER_TURN) break;
      }
      for (const chunk of this.#encode(nets, member)) member.send(chunk);
    }
    if (pending.size === 0 && state.after !== undefined) {
      member.send(state.after);
      state.after = undefined;
    }
    if (pending.size === 0 && state.owesEndOfRib) {
      state.owesEndOfRib = false;
      member.send(encodeEndOfRib(this.family));
    }
  }

  /** The present state of `nets` as messages; for a member, without what it sent us itself. */
  #encode(nets: readonly number[], member: GroupMember | undefined): Buffer[] {
    const chunks = new ChunkList();
    const buckets = new Map<AttributeEntry, number[]>();
    const withdrawn: number[] = [];
    for (const net of nets) {
      const entry = member === undefined ? this.#entry[net] : this.announcedTo(member, net);
      if (entry === undefined) {
        withdrawn.push(net);
        continue;
      }
      const bucket = buckets.get(entry);
      if (bucket === undefined) buckets.set(entry, [net]);
      else bucket.push(net);
    }
    if (withdrawn.length > 0) {
      this.#load(withdrawn);
      encodeWithdrawals(this.#batch, this.#send, this.#scratch, message => chunks.add(message));
    }
    for (const [entry, bucket] of buckets) {
      this.#load(bucket);
      encodeAnnouncements(this.#batch, entry.attributes, this.#send, this.#scratch, message =>
        chunks.add(message),
      );
    }
    return chunks.finish();
  }

  #load(nets: readonly number[]): void {
    const batch = this.#batch;
    const { words, lengths, stride } = this.#rib.nets;
    batch.reset(this.family);
    for (const net of nets) {
      const index = batch.next();
      for (let i = 0; i < stride; i++) batch.words[index * stride + i] = words[net * stride + i]!;
      batch.lengths[index] = lengths[net]!;
      batch.pathIds[index] = 0;
    }
  }
}

/** Collects messages into few larger buffers: one write a message would cost more than encoding it. */
class ChunkList {
  #chunks: Buffer[] = [];
  #current: Buffer | undefined;
  #used = 0;

  add(message: Buffer): void {
    if (this.#current === undefined || this.#used + message.length > this.#current.length) {
      this.#close();
      this.#current = Buffer.allocUnsafe(this.#chunks.length === 0 ? 8192 : CHUNK_BYTES);
      if (message.length > this.#current.length) this.#current = Buffer.allocUnsafe(message.length);
    }
    message.copy(this.#current, this.#used);
    this.#used += message.length;
  }

  #close(): void {
    if (this.#current !== undefined && this.#used > 0)
      this.#chunks.push(this.#current.subarray(0, this.#used));
    this.#current = undefined;
    this.#used = 0;
  }

  finish(): Buffer[] {
    this.#close();
    return this.#chunks;
  }
}
