// Attribute sets, each stored once and found by the bytes it came as. A received UPDATE is looked up by its raw
// attribute bytes, so a set that is known costs one hash and one compare and is not decoded again; sets that podwire
// makes itself (policy, export) are looked up by their canonical encoding. Reference counted: a set goes with its last path.
import { encodeAttributeList } from '../packet/attribute/table.ts';
import { DEFAULT_CONTEXT } from '../packet/context.ts';
import type { UpdateScan } from '../packet/message/update-scan.ts';
import { asPathLength, neighbourAs, type PathAttributes } from '../packet/path-attributes.ts';

/** Tag of the keys of sets that podwire made; keys of received sets have their context's tag (1..7). */
const CANONICAL = 0;

/** One attribute set, with what the decision process asks for most. */
export class AttributeEntry {
  readonly attributes: PathAttributes;
  readonly asPathLength: number;
  readonly neighbourAs: number;
  /** RFC 7606: the set was received malformed; its prefixes count as withdrawn. */
  readonly unusable: boolean;
  readonly hash: number;
  readonly key: Buffer;
  references = 0;
  /** The next entry with the same hash. */
  chain: AttributeEntry | undefined = undefined;
  /** The verdict of the last import check, and whose it was: most sets are checked for many prefixes in a row. */
  verdictBy: object | undefined = undefined;
  verdict: unknown = undefined;

  constructor(attributes: PathAttributes, unusable: boolean, hash: number, key: Buffer) {
    this.attributes = attributes;
    this.asPathLength = asPathLength(attributes.asPath);
    this.neighbourAs = neighbourAs(attributes.asPath);
    this.unusable = unusable;
    this.hash = hash;
    this.key = key;
  }
}

/** FNV-1a, folded to a small integer so that a Map keeps it unboxed. */
function hashBytes(bytes: Buffer, start: number, end: number): number {
  let h = 0x811c9dc5;
  for (let i = start; i < end; i++) h = Math.imul(h ^ bytes[i]!, 0x01000193);
  return (h ^ (h >>> 15)) & 0x3fffffff;
}

export class AttributeStore {
  #byHash = new Map<number, AttributeEntry>();
  #scratch = Buffer.allocUnsafe(2 * 65536);
  /** Entries in the store. */
  size = 0;

  /**
   * The entry of a received attribute list. `tag` tells decode contexts apart (the same bytes mean other things to
   * two-octet and to external peers). `decode` runs only for a list that is new.
   */
  received(
    buffer: Buffer,
    scan: UpdateScan,
    tag: number,
    decode: () => { attributes: PathAttributes; withdraw: boolean },
  ): AttributeEntry {
    const key = this.#scratch;
    let length = 1;
    key[0] = tag;
    if (scan.reachFamily === 0 && scan.unreachFamily === 0)
      length += buffer.copy(key, 1, scan.attributesStart, scan.attributesEnd);
    else length = this.#keyWithoutPrefixes(buffer, scan, tag);
    const hash = hashBytes(key, 0, length);
    const found = this.#find(hash, length);
    if (found !== undefined) return found;
    // Decoding may use the scratch of others, never ours; still the key is copied first.
    const own = Buffer.from(key.subarray(0, length));
    const { attributes, withdraw } = decode();
    return this.#add(new AttributeEntry(attributes, withdraw, hash, own));
  }

  /** MP attributes hold prefixes, so the key has only their next hop, and the rest of the list around them. */
  #keyWithoutPrefixes(buffer: Buffer, scan: UpdateScan, tag: number): number {
    const key = this.#scratch;
    let to = 1;
    key[0] = tag | 8;
    if (scan.reachFamily !== 0) {
      key[to++] = scan.nextHopLength;
      to += buffer.copy(key, to, scan.nextHopStart, scan.nextHopStart + scan.nextHopLength);
    }
    const cuts: [number, number][] = [];
    if (scan.reachFamily !== 0) cuts.push([scan.reachAttributeStart, scan.reachAttributeEnd]);
    if (scan.unreachFamily !== 0) cuts.push([scan.unreachAttributeStart, scan.unreachAttributeEnd]);
    cuts.sort((a, b) => a[0] - b[0]);
    let from = scan.attributesStart;
    for (const [start, end] of cuts) {
      to += buffer.copy(key, to, from, start);
      from = end;
    }
    return to + buffer.copy(key, to, from, scan.attributesEnd);
  }

  /** The entry of a set that podwire made. */
  canonical(attributes: PathAttributes): AttributeEntry {
    const key = this.#scratch;
    key[0] = CANONICAL;
    let length =
      1 + key.write(`${attributes.nextHop ?? ''} ${attributes.linkLocalNextHop ?? ''} `, 1, 'latin1');
    length = encodeAttributeList(attributes, DEFAULT_CONTEXT, false, key, length);
    const hash = hashBytes(key, 0, length);
    const found = this.#find(hash, length);
    if (found !== undefined) return found;
    return this.#add(new AttributeEntry(attributes, false, hash, Buffer.from(key.subarray(0, length))));
  }

  #find(hash: number, length: number): AttributeEntry | undefined {
    for (let entry = this.#byHash.get(hash); entry !== undefined; entry = entry.chain)
      if (entry.key.length === length && this.#scratch.compare(entry.key, 0, length, 0, length) === 0)
        return entry;
    return undefined;
  }

  #add(entry: AttributeEntry): AttributeEntry {
    entry.chain = this.#byHash.get(entry.hash);
    this.#byHash.set(entry.hash, entry);
    this.size++;
    return entry;
  }

  acquire(entry: AttributeEntry): void {
    entry.references++;
  }

  /** Takes one reference back; the entry leaves the store with the last. */
  release(entry: AttributeEntry): void {
    if (--entry.references <= 0) this.discard(entry);
  }

  /** Removes entries that were looked up and then not used by any path. */
  collect(): void {
    for (const first of [...this.#byHash.values()])
      for (let entry: AttributeEntry | undefined = first; entry !== undefined; ) {
        const { chain }: AttributeEntry = entry;
        if (entry.references <= 0) this.discard(entry);
        entry = chain;
      }
  }

  /** Removes an entry that nobody refers to (one that was looked up and not used). */
  discard(entry: AttributeEntry): void {
    if (entry.references > 0) return;
    let previous: AttributeEntry | undefined;
    for (let at = this.#byHash.get(entry.hash); at !== undefined; previous = at, at = at.chain) {
      if (at !== entry) continue;
      if (previous !== undefined) previous.chain = entry.chain;
      else if (entry.chain !== undefined) this.#byHash.set(entry.hash, entry.chain);
      else this.#byHash.delete(entry.hash);
      this.size--;
      return;
    }
  }
}
