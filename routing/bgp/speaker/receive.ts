// The receive path: one UPDATE into the tables. Bytes are scanned once; attributes are looked up by their bytes;
// prefixes go through typed arrays; nothing is allocated for a prefix. 100,000 of them must take well under a second.

import type { Negotiated } from '../fsm/negotiate.ts';
import { addPathOf, type Family } from '../packet/context.ts';
import type { AttributeProblem } from '../packet/error.ts';
import { isUnreachAlone } from '../packet/message/update.ts';
import { decodeUpdateAttributes, requireNlri } from '../packet/message/update-attributes.ts';
import { endOfRibFamily, scanUpdate, UpdateScan } from '../packet/message/update-scan.ts';
import { decodeNlri } from '../packet/nlri.ts';
import { PrefixBatch } from '../packet/prefix-batch.ts';
import type { AttributeEntry, AttributeStore } from '../rib/attribute-store.ts';
import { NONE, type Rib } from '../rib/rib.ts';
import { type ImportContext, importRoute } from './import.ts';

/** Where messages are taken apart: one for all sessions of a speaker, which take turns. */
export class ReceiveScratch {
  readonly scan = new UpdateScan();
  readonly batch = new PrefixBatch();
}

export interface ReceiverHooks {
  readonly endOfRib: (family: Family) => void;
  readonly problems: (problems: readonly AttributeProblem[]) => void;
}

export class Receiver {
  readonly #ribs: Readonly<Record<Family, Rib>>;
  readonly #store: AttributeStore;
  readonly negotiated: Negotiated;
  readonly #hooks: ReceiverHooks;
  /** Tells this session's way of reading attribute bytes from others' (AttributeStore.received). */
  readonly #tag: number;
  readonly #scan: UpdateScan;
  readonly #batch: PrefixBatch;
  /** Replaced when policy changes. */
  context: ImportContext;

  constructor(options: {
    ribs: Readonly<Record<Family, Rib>>;
    store: AttributeStore;
    negotiated: Negotiated;
    context: ImportContext;
    hooks: ReceiverHooks;
    scratch: ReceiveScratch;
  }) {
    this.#scan = options.scratch.scan;
    this.#batch = options.scratch.batch;
    this.#ribs = options.ribs;
    this.#store = options.store;
    this.negotiated = options.negotiated;
    this.#hooks = options.hooks;
    this.context = options.context;
    const { as4, external } = options.negotiated.receive;
    this.#tag = 1 + (as4 ? 1 : 0) + (external ? 2 : 0);
  }

  /** Takes in the UPDATE `buffer[start, end)`. Throws BgpMessageError where the session must end. */
  update(buffer: Buffer, start: number, end: number): void {
    const scan = this.#scan;
    scanUpdate(buffer, start, end, scan);
    if (scan.withdrawnEnd > scan.withdrawnStart)
      this.#withdraw(buffer, scan.withdrawnStart, scan.withdrawnEnd, 4);
    if (scan.unreachFamily > 0 && scan.unreachEnd > scan.unreachStart)
      this.#withdraw(buffer, scan.unreachStart, scan.unreachEnd, scan.unreachFamily as Family);
    const classic = scan.nlriEnd > scan.nlriStart;
    const multiprotocol = scan.reachFamily > 0 && scan.reachEnd > scan.reachStart;
    if (!classic && !multiprotocol) {
      this.#withoutRoutes(buffer, scan);
      return;
    }
    const entry = this.#entry(buffer, scan);
    entry.references++;
    if (classic) this.#announce(buffer, scan.nlriStart, scan.nlriEnd, 4, entry);
    if (multiprotocol)
      this.#announce(buffer, scan.reachStart, scan.reachEnd, scan.reachFamily as Family, entry);
    this.#store.release(entry);
  }

  #entry(buffer: Buffer, scan: UpdateScan): AttributeEntry {
    return this.#store.received(buffer, scan, this.#tag, () => {
      const decoded = decodeUpdateAttributes(buffer, scan, this.negotiated.receive);
      if (decoded.problems.length > 0) this.#hooks.problems(decoded.problems);
      return decoded;
    });
  }

  #withoutRoutes(buffer: Buffer, scan: UpdateScan): void {
    const family = endOfRibFamily(scan);
    if (family !== undefined) {
      this.#hooks.endOfRib(family);
      return;
    }
    if (scan.attributesEnd === scan.attributesStart || isUnreachAlone(scan)) return;
    requireNlri(scan, decodeUpdateAttributes(buffer, scan, this.negotiated.receive).problems);
  }

  #withdraw(buffer: Buffer, start: number, end: number, family: Family): void {
    if (!this.negotiated.families.includes(family)) return;
    const batch = this.#batch;
    decodeNlri(buffer, start, end, family, addPathOf(this.negotiated.receive, family), batch);
    const rib = this.#ribs[family];
    const { index } = this.context.source;
    for (let i = 0; i < batch.count; i++) {
      const net = rib.nets.find(batch.words, i * batch.stride, batch.lengths[i]!);
      if (net !== NONE) rib.withdraw(net, index, batch.pathIds[i]!);
    }
  }

  #announce(buffer: Buffer, start: number, end: number, family: Family, received: AttributeEntry): void {
    if (!this.negotiated.families.includes(family)) return;
    const batch = this.#batch;
    decodeNlri(buffer, start, end, family, addPathOf(this.negotiated.receive, family), batch);
    const rib = this.#ribs[family];
    const { context } = this;
    const { index } = context.source;
    const { words, lengths, pathIds, stride, count } = batch;
    for (let i = 0; i < count; i++) {
      const at = i * stride;
      const length = lengths[i]!;
      if (received.unusable) {
        // RFC 7606 section 2, treat-as-withdraw.
        const net = rib.nets.find(words, at, length);
        if (net !== NONE) rib.withdraw(net, index, pathIds[i]!);
        continue;
      }
      const verdict =
        received.verdictBy === context && !context.policyDependsOnPrefix
          ? (received.verdict as AttributeEntry | string)
          : importRoute(context, received, this.#store, { family, words, at, length });
      const net = rib.net(words, at, length);
      rib.update(net, index, pathIds[i]!, received, typeof verdict === 'string' ? undefined : verdict);
    }
  }
}
