// Element lists for sets of many thousands: keys and data as latin1 strings (one character a byte), which maps compare
// and hash fast, read and written without an object in between.
import { DecodeError } from '../../lib/errors.ts';
import { NLA_TYPE_MASK } from '../netlink/constants.ts';
import { attributes, type MessageWriter, type NetlinkMessage } from '../netlink/message.ts';
import { NFTA_DATA, NFTA_LIST_ELEM, NFTA_SET_ELEM, NFTA_SET_ELEM_LIST } from './constants.ts';
import { decodeVerdict, encodeVerdict, type Verdict } from './verdict.ts';

/** An nlattr's length is 16 bits wide, and the list of elements is one of them. */
export const MAX_LIST_BYTES = 60_000;

/** `goto lb-3`, `drop`: a verdict as nft writes it. */
export function verdictText(verdict: Verdict): string {
  if (typeof verdict === 'string') return verdict;
  return 'goto' in verdict ? `goto ${verdict.goto}` : `jump ${verdict.jump}`;
}

export function parseVerdict(text: string): Verdict {
  if (text.startsWith('goto ')) return { goto: text.slice(5) };
  if (text.startsWith('jump ')) return { jump: text.slice(5) };
  if (text === 'accept' || text === 'drop' || text === 'return') return text;
  throw new DecodeError('nftables', 'verdict', 0, `unknown verdict ${JSON.stringify(text)}`);
}

/** Data of one element: nothing, bytes as latin1, or a verdict's text. */
export type ElementKind = 'set' | 'data' | 'verdict';

export interface TextElement {
  /** Latin1. */
  key: string;
  /** Latin1 or a verdict's text, by the kind of the set; empty in a set. */
  data: string;
}

function attrLatin1(w: MessageWriter, type: number, text: string): void {
  const padded = (text.length + 3) & ~3;
  const at = w.reserve(4 + padded);
  w.buffer.writeUInt16LE(text.length + 4, at);
  w.buffer.writeUInt16LE(type, at + 2);
  w.buffer.write(text, at + 4, text.length, 'latin1');
  if (padded !== text.length) w.buffer.fill(0, at + 4 + text.length, at + 4 + padded);
}

/** Writes elements from `start` on until the list is full; returns the index after the last one written. */
export function encodeTextElements(
  w: MessageWriter,
  table: string,
  set: string,
  kind: ElementKind,
  elements: readonly TextElement[],
  start = 0,
): number {
  w.attrString(NFTA_SET_ELEM_LIST.TABLE, table).attrString(NFTA_SET_ELEM_LIST.SET, set);
  let next = start;
  w.nest(NFTA_SET_ELEM_LIST.ELEMENTS, () => {
    const from = w.length;
    for (; next < elements.length && w.length - from < MAX_LIST_BYTES; next++) {
      const { key, data } = elements[next]!;
      w.nest(NFTA_LIST_ELEM, () => {
        w.nest(NFTA_SET_ELEM.KEY, () => attrLatin1(w, NFTA_DATA.VALUE, key));
        if (kind === 'set') return;
        w.nest(NFTA_SET_ELEM.DATA, () => {
          if (kind === 'data') attrLatin1(w, NFTA_DATA.VALUE, data);
          else encodeVerdict(w, parseVerdict(data));
        });
      });
    }
  });
  return next;
}

/** The elements of one message of a dump or notification; their set is named by decodeElementSet. */
export function scanElements(message: NetlinkMessage, onElement: (key: string, data: string) => void): void {
  const bytes = message.payload;
  for (const { type, value } of attributes(bytes, 4))
    if (type === NFTA_SET_ELEM_LIST.ELEMENTS)
      for (let at = 0; at + 4 <= value.length; ) {
        const length = sizeAt(value, at);
        scanElement(value, at + 4, at + length, onElement);
        at += (length + 3) & ~3;
      }
}

function sizeAt(bytes: Buffer, at: number): number {
  const length = bytes.readUInt16LE(at);
  if (length < 4 || at + length > bytes.length)
    throw new DecodeError('nftables', 'nla_len', at, `${length} with ${bytes.length - at} bytes left`);
  return length;
}

function scanElement(
  bytes: Buffer,
  start: number,
  end: number,
  onElement: (key: string, data: string) => void,
): void {
  let key = '';
  let data = '';
  for (let at = start; at + 4 <= end; ) {
    const length = sizeAt(bytes, at);
    const type = bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK;
    // Both hold one attribute: the value, or a verdict.
    if ((type === NFTA_SET_ELEM.KEY || type === NFTA_SET_ELEM.DATA) && length >= 8) {
      const inner = bytes.readUInt16LE(at + 6) & NLA_TYPE_MASK;
      const to = at + 4 + Math.min(sizeAt(bytes, at + 4), length - 4);
      const text =
        inner === NFTA_DATA.VERDICT
          ? verdictText(decodeVerdict(bytes.subarray(at + 8, to)))
          : bytes.toString('latin1', at + 8, to);
      if (type === NFTA_SET_ELEM.KEY) key = text;
      else data = text;
    }
    at += (length + 3) & ~3;
  }
  onElement(key, data);
}
