// One rule from its text (without `-A CHAIN`) to its entry. Entries are written one after the other into big blocks, for
// a proxy writes 200,000 of them; a rule that leads to a chain keeps the chain's name until the table is laid out.

import type { ExtensionCodec, ExtensionSite } from './extension.ts';
import {
  align8,
  EXTENSION_HEADER,
  EXTENSION_NAME,
  EXTENSION_REVISION,
  type FamilyLayout,
  INVERSE,
  IP6T_F_PROTO,
  LAYOUT,
  STANDARD_TARGET_SIZE,
  VERDICT,
  type XtablesFamily,
} from './layout.ts';
import { MATCHES } from './matches.ts';
import {
  OptionReader,
  parseNumber,
  splitWords,
  unsupported,
  writeInterface,
  writeNetwork,
} from './option-reader.ts';
import { TARGETS } from './targets.ts';

/** One entry, of ours or of the table's. */
export interface Piece {
  bytes: Buffer;
  at: number;
  size: number;
  /** The chain it leads to; '' for a rule without target; undefined when it gives a verdict or has another target. */
  jump: string | undefined;
  /** Its number in the table it comes from, whose counters it keeps; -1 for a new one. */
  entry: number;
}

export interface RuleContext {
  family: XtablesFamily;
  /** Whether a jump may lead there. */
  isChain: (name: string) => boolean;
  /** Whether the running kernel has this revision of an extension. */
  supports: (kind: 'match' | 'target', name: string, revision: number) => boolean;
}

const BLOCK_BYTES = 1 << 20;
/** No rule is longer: the entry, the matches of which each is given once or twice, the target. */
const MAX_RULE_BYTES = 8192;
const PROTOCOLS: Readonly<Record<string, number>> = {
  all: 0,
  icmp: 1,
  tcp: 6,
  udp: 17,
  dccp: 33,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  'ipv6-icmp': 58,
  sctp: 132,
  udplite: 136,
};

export class RuleEncoder {
  readonly #context: RuleContext;
  readonly #layout: FamilyLayout;
  readonly #supported = new Map<string, boolean>();
  #block: Buffer = Buffer.alloc(0);
  #used = 0;

  constructor(context: RuleContext) {
    this.#context = context;
    this.#layout = LAYOUT[context.family];
  }

  /** Throws UnsupportedRule for what it does not know for certain. */
  encode(text: string): Piece {
    if (this.#used + MAX_RULE_BYTES > this.#block.length) {
      this.#block = Buffer.alloc(BLOCK_BYTES);
      this.#used = 0;
    }
    const at = this.#used;
    const bytes = this.#block;
    try {
      const piece = this.#write(text, bytes, at);
      this.#used += piece.size;
      return piece;
    } catch (error) {
      bytes.fill(0, at, at + MAX_RULE_BYTES);
      throw error;
    }
  }

  #write(text: string, bytes: Buffer, at: number): Piece {
    const layout = this.#layout;
    const reader = new OptionReader(splitWords(text));
    const site: ExtensionSite = { bytes, at: 0, family: layout.family, protocol: 0 };
    let end = at + layout.entrySize;
    let target: { name: string; goto: boolean } | undefined;
    let targetAt = 0;
    while (!reader.done) {
      const negated = reader.peek() === '!';
      if (negated) reader.next();
      const option = reader.next();
      switch (option) {
        case '-s':
        case '-d':
          this.#address(bytes, at, option === '-s', negated, reader.next());
          break;
        case '-i':
        case '-o':
          this.#interface(bytes, at, option === '-i', negated, reader.next());
          break;
        case '-p':
          site.protocol = this.#protocol(bytes, at, negated, reader.next());
          break;
        case '-m': {
          const name = reader.next();
          if (negated || target !== undefined || !Object.hasOwn(MATCHES, name)) unsupported(`-m ${name}`);
          const codec = MATCHES[name]!;
          end = this.#extension('match', codec.name ?? name, codec, site, end, reader);
          if (end > at + MAX_RULE_BYTES / 2) unsupported('so many matches');
          break;
        }
        case '-j':
        case '-g': {
          const name = reader.next();
          if (negated || target !== undefined) unsupported(`${option} ${name}`);
          target = { name, goto: option === '-g' };
          targetAt = end;
          const codecs = TARGETS[layout.family];
          if (option === '-j' && Object.hasOwn(codecs, name))
            end = this.#extension('target', name, codecs[name]!, site, end, reader);
          else end = this.#standard(bytes, end);
          break;
        }
        default:
          unsupported(`${negated ? '! ' : ''}${option}`);
      }
    }
    if (target === undefined) {
      targetAt = end;
      end = this.#standard(bytes, end);
    }
    const jump = this.#lead(bytes, at, targetAt, target);
    const size = end - at;
    bytes.writeUInt16LE(targetAt - at, at + layout.targetOffset);
    bytes.writeUInt16LE(size, at + layout.nextOffset);
    return { bytes, at, size, jump, entry: -1 };
  }

  #address(bytes: Buffer, at: number, isSource: boolean, negated: boolean, text: string): void {
    const l = this.#layout;
    const mask = isSource ? l.sourceMask : l.destinationMask;
    writeNetwork(bytes, text, l.family, at + (isSource ? l.source : l.destination), at + mask);
    if (!negated) return;
    if (bytes[at + mask] === 0) unsupported(`! of the network ${text}`);
    bytes[at + l.inverse]! |= isSource ? INVERSE.SRCIP : INVERSE.DSTIP;
  }

  #interface(bytes: Buffer, at: number, isIn: boolean, negated: boolean, text: string): void {
    const l = this.#layout;
    writeInterface(
      bytes,
      text,
      at + (isIn ? l.inInterface : l.outInterface),
      at + (isIn ? l.inMask : l.outMask),
    );
    if (negated) bytes[at + l.inverse]! |= isIn ? INVERSE.VIA_IN : INVERSE.VIA_OUT;
  }

  #protocol(bytes: Buffer, at: number, negated: boolean, text: string): number {
    const l = this.#layout;
    const number = Object.hasOwn(PROTOCOLS, text) ? PROTOCOLS[text]! : parseNumber(text, 255);
    bytes.writeUInt16LE(number, at + l.protocol);
    if (number === 0 && negated) unsupported('! -p all');
    if (l.family === 6 && number !== 0) bytes[at + l.flags]! |= IP6T_F_PROTO;
    if (negated) bytes[at + l.inverse]! |= INVERSE.PROTO;
    return negated ? 0 : number;
  }

  #extension(
    kind: 'match' | 'target',
    name: string,
    codec: ExtensionCodec,
    site: ExtensionSite,
    at: number,
    reader: OptionReader,
  ): number {
    const { bytes } = site;
    if (!this.#supports(kind, name, codec.revision))
      unsupported(`${name} revision ${codec.revision} on this kernel`);
    const size = EXTENSION_HEADER + align8(codec.size);
    bytes.writeUInt16LE(size, at);
    bytes.write(name, at + EXTENSION_NAME, 'latin1');
    bytes[at + EXTENSION_REVISION] = codec.revision;
    site.at = at + EXTENSION_HEADER;
    codec.start?.(site);
    const first = reader.index;
    while (!reader.done) {
      const negated = reader.peek() === '!';
      const option = reader.peek(negated ? 1 : 0);
      // Extensions have long options only; the others end the list.
      if (option === undefined || !option.startsWith('--')) break;
      reader.index += negated ? 2 : 1;
      if (!codec.option(site, option, negated, reader)) unsupported(`${option} of ${name}`);
    }
    if (codec.needsOption && reader.index === first) unsupported(`${name} without options`);
    codec.finish?.(site);
    return at + size;
  }

  #supports(kind: 'match' | 'target', name: string, revision: number): boolean {
    if (revision === 0) return true;
    const key = `${kind} ${name} ${revision}`;
    let known = this.#supported.get(key);
    if (known === undefined) {
      known = this.#context.supports(kind, name, revision);
      this.#supported.set(key, known);
    }
    return known;
  }

  #standard(bytes: Buffer, at: number): number {
    bytes.writeUInt16LE(STANDARD_TARGET_SIZE, at);
    return at + STANDARD_TARGET_SIZE;
  }

  /** Sets verdict and goto flag, and says which chain the rule leads to. */
  #lead(
    bytes: Buffer,
    at: number,
    targetAt: number,
    target: { name: string; goto: boolean } | undefined,
  ): string | undefined {
    if (target === undefined) return '';
    const { name } = target;
    // A name of letters stands after the size of every other target.
    if (bytes[targetAt + EXTENSION_NAME] !== 0) return undefined;
    if (!target.goto && Object.hasOwn(VERDICT, name)) {
      bytes.writeInt32LE(VERDICT[name]!, targetAt + EXTENSION_HEADER);
      return undefined;
    }
    if (!this.#context.isChain(name)) unsupported(`the target ${name}`);
    if (target.goto) bytes[at + this.#layout.flags]! |= this.#layout.gotoFlag;
    return name;
  }
}
