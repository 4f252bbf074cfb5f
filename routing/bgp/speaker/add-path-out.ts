// Adj-RIB-Out of peers that take several paths per prefix (RFC 7911): every usable path that may go to them, each under
// an identifier of ours. Kept apart from AdjRibOut, whose tables are one entry a net and made for a hundred thousand.
import type { Family, MessageContext } from '../packet/context.ts';
import { encodeAnnouncements, encodeEndOfRib, encodeWithdrawals } from '../packet/message/update.ts';
import type { PrefixBatch } from '../packet/prefix-batch.ts';
import type { AttributeEntry } from '../rib/attribute-store.ts';
import type { PathSource } from '../rib/path-source.ts';
import { NONE, PATH_FLAG, type Rib } from '../rib/rib.ts';
import type { GroupMember } from './adj-rib-out.ts';
import { type ExportContext, exportRoute } from './export.ts';
import type { NextHops } from './next-hops.ts';
import type { RouteExporter } from './route-exporter.ts';

interface Told {
  readonly entry: AttributeEntry;
  readonly source: number;
}

export class AddPathOut implements RouteExporter {
  readonly context: ExportContext;
  readonly family: Family;
  readonly #rib: Rib;
  readonly #send: MessageContext;
  readonly #sources: readonly (PathSource | undefined)[];
  readonly #nextHops: NextHops;
  readonly #scratch: Buffer;
  readonly #batch: PrefixBatch;
  readonly #members = new Set<GroupMember>();
  /** What was announced: by net, then by path identifier. */
  readonly #told = new Map<number, Map<number, Told>>();
  size = 0;
  /** Everything is written at once; these peers are few. */
  readonly hasPending = false;

  constructor(options: {
    rib: Rib;
    sources: readonly (PathSource | undefined)[];
    nextHops: NextHops;
    context: ExportContext;
    send: MessageContext;
    scratch: Buffer;
    batch: PrefixBatch;
  }) {
    this.#rib = options.rib;
    this.family = options.rib.family;
    this.#sources = options.sources;
    this.#nextHops = options.nextHops;
    this.context = options.context;
    this.#send = options.send;
    this.#scratch = options.scratch;
    this.#batch = options.batch;
  }

  get memberCount(): number {
    return this.#members.size;
  }

  join(member: GroupMember, endOfRib: boolean): void {
    this.#members.add(member);
    const { nets } = this.#rib;
    for (let net = 0; net < nets.limit; net++) {
      if (!nets.has(net)) continue;
      if (this.#members.size === 1) this.#update(net);
    }
    this.resend(member);
    if (endOfRib) this.endOfRib(member);
  }

  leave(member: GroupMember): void {
    this.#members.delete(member);
    if (this.#members.size > 0) return;
    for (const paths of this.#told.values())
      for (const { entry } of paths.values()) this.#rib.store.release(entry);
    this.#told.clear();
    this.size = 0;
  }

  resend(member: GroupMember, after?: Buffer): void {
    for (const [net, paths] of this.#told)
      for (const [id, told] of paths)
        if (told.source !== member.sourceIndex) this.#announce([member], net, id, told);
    if (after !== undefined) member.send(after);
  }

  /** Path identifiers are this group's own: everything is taken back. */
  handOver(member: GroupMember): readonly number[] {
    for (const [net, paths] of this.#told)
      for (const [id, { source }] of paths)
        if (source !== member.sourceIndex) this.#withdraw([member], net, id);
    return [];
  }

  endOfRib(member: GroupMember): void {
    member.send(encodeEndOfRib(this.family));
  }

  lags(): boolean {
    return false;
  }

  drain(): void {
    // Nothing is held back.
  }

  process(nets: readonly number[]): void {
    if (this.#members.size === 0) return;
    for (const net of nets) {
      const before = new Map(this.#told.get(net));
      this.#update(net);
      const now = this.#told.get(net);
      for (const [id, { source }] of before)
        if (!now?.has(id)) this.#withdraw(this.#othersThan(source), net, id);
      for (const [id, told] of now ?? [])
        if (before.get(id)?.entry !== told.entry)
          this.#announce(this.#othersThan(told.source), net, id, told);
    }
  }

  #othersThan(source: number): GroupMember[] {
    return [...this.#members].filter(member => member.sourceIndex !== source);
  }

  /** Works out what is announced for a net. The row of a path is its identifier: unique, and stable while it lives. */
  #update(net: number): void {
    const rib = this.#rib;
    const wanted = new Map<number, Told>();
    for (const path of rib.pathsOf(net)) {
      const source = this.#sources[rib.source[path]!];
      const entry = rib.entry[path]!;
      if (source === undefined || (rib.flags[path]! & PATH_FLAG.REFUSED) !== 0) continue;
      const { nextHop } = entry.attributes;
      if (source.kind !== 'local' && (nextHop === undefined || this.#nextHops.get(nextHop) === undefined))
        continue;
      const verdict = exportRoute(this.context, entry, source, rib.store, {
        family: this.family,
        words: rib.nets.words,
        at: net * rib.nets.stride,
        length: rib.nets.lengths[net]!,
      });
      if (typeof verdict !== 'string') wanted.set(path + 1, { entry: verdict, source: source.index });
    }
    for (const { entry } of wanted.values()) entry.references++;
    const before = this.#told.get(net);
    for (const { entry } of before?.values() ?? []) rib.store.release(entry);
    this.size += wanted.size - (before?.size ?? 0);
    if (wanted.size > 0) this.#told.set(net, wanted);
    else this.#told.delete(net);
  }

  #load(net: number, id: number): void {
    const { words, lengths, stride } = this.#rib.nets;
    this.#batch.reset(this.family);
    const index = this.#batch.next();
    for (let i = 0; i < stride; i++) this.#batch.words[index * stride + i] = words[net * stride + i]!;
    this.#batch.lengths[index] = lengths[net]!;
    this.#batch.pathIds[index] = id;
  }

  #announce(members: readonly GroupMember[], net: number, id: number, { entry }: Told): void {
    if (members.length === 0) return;
    this.#load(net, id);
    encodeAnnouncements(this.#batch, entry.attributes, this.#send, this.#scratch, message =>
      sendTo(members, message),
    );
  }

  #withdraw(members: readonly GroupMember[], net: number, id: number): void {
    if (members.length === 0) return;
    this.#load(net, id);
    encodeWithdrawals(this.#batch, this.#send, this.#scratch, message => sendTo(members, message));
  }

  /** The first of possibly several: what the looking glass shows as advertised. */
  entryOf(net: number): AttributeEntry | undefined {
    const best = this.#rib.best[net] ?? NONE;
    return best === NONE ? undefined : this.#told.get(net)?.get(best + 1)?.entry;
  }
}

/** The message is a view of the scratch buffer, so it is copied once for all members. */
function sendTo(members: readonly GroupMember[], message: Buffer): void {
  const copy = Buffer.from(message);
  for (const member of members) member.send(copy);
}
