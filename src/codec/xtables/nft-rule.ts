// An iptables rule as iptables-nft writes it: addresses, interfaces and protocol in nf_tables' own expressions, the rest as
// x_tables extensions, a counter, then the verdict, jump or target. Rules come and go as entries of legacy tables, so
// one reader of rule texts and one comparison serve both kinds of iptables.
//
//   -s 10.1.0.0/16 -p tcp -m tcp --dport 80 -j ACCEPT
//   meta l4proto tcp │ payload saddr, cmp │ match tcp │ counter │ immediate accept
import type { RuleSpec } from '../nft/chain.ts';
import { bitwise } from '../nft/expression/bitwise.ts';
import { cmp } from '../nft/expression/cmp.ts';
import { extension } from '../nft/expression/compat.ts';
import { counter } from '../nft/expression/counter.ts';
import type { Expression } from '../nft/expression/expression.ts';
import { verdict } from '../nft/expression/immediate.ts';
import { meta } from '../nft/expression/meta.ts';
import { payload } from '../nft/expression/payload.ts';
import {
  cString,
  EXTENSION_HEADER,
  EXTENSION_NAME,
  EXTENSION_REVISION,
  type FamilyLayout,
  IFNAMSIZ,
  INVERSE,
  LAYOUT,
  VERDICT,
  type XtablesFamily,
} from './layout.ts';
import type { Piece } from './rule.ts';

/** One match, or the target, of an entry. */
export interface ExtensionView {
  name: string;
  revision: number;
  /** The extension's structure, filled up to 8 bytes; a view. */
  info: Buffer;
}

function readExtension(bytes: Buffer, at: number): ExtensionView {
  return {
    name: cString(bytes, at + EXTENSION_NAME, EXTENSION_REVISION - EXTENSION_NAME),
    revision: bytes[at + EXTENSION_REVISION]!,
    info: bytes.subarray(at + EXTENSION_HEADER, at + bytes.readUInt16LE(at)),
  };
}

/** The matches of an entry, in order. */
export function matchesOf(piece: Piece, family: XtablesFamily): ExtensionView[] {
  const { bytes, at, size } = piece;
  const found: ExtensionView[] = [];
  if (size === 0) return found;
  const layout = LAYOUT[family];
  const end = at + bytes.readUInt16LE(at + layout.targetOffset);
  for (let next = at + layout.entrySize; next < end; next += bytes.readUInt16LE(next))
    found.push(readExtension(bytes, next));
  return found;
}

/** The target of an entry; its name is empty for verdicts and jumps. Undefined for rules that cannot be read. */
export function targetOf(piece: Piece, family: XtablesFamily): ExtensionView | undefined {
  if (piece.size === 0) return undefined;
  const { bytes, at } = piece;
  return readExtension(bytes, at + bytes.readUInt16LE(at + LAYOUT[family].targetOffset));
}

/** `-m comment --comment` of a rule. */
export function commentOf(piece: Piece, family: XtablesFamily): string | undefined {
  const comment = matchesOf(piece, family).find(match => match.name === 'comment');
  return comment && cString(comment.info, 0, comment.info.length);
}

/** Everything of a RuleSpec but its chain and place. */
export function encodeNftRule(piece: Piece, family: XtablesFamily): Pick<RuleSpec, 'expressions' | 'compat'> {
  const layout = LAYOUT[family];
  const { bytes, at } = piece;
  const inverse = bytes[at + layout.inverse]!;
  const protocol = bytes.readUInt16LE(at + layout.protocol);
  const target = targetOf(piece, family)!;
  const expressions: Expression[] = [
    ...encodeInterface(piece, layout, 'iifname', inverse),
    ...encodeInterface(piece, layout, 'oifname', inverse),
    ...(protocol === 0 ? [] : [meta('l4proto'), cmp(op(inverse, INVERSE.PROTO), Buffer.of(protocol))]),
    ...encodeAddress(piece, layout, 'saddr', inverse),
    ...encodeAddress(piece, layout, 'daddr', inverse),
    ...matchesOf(piece, family).map(one => extension('match', one.name, one.revision, one.info)),
    counter(),
    ...encodeTarget(piece, layout, target),
  ];
  const hasExtension = expressions.some(one => one.name === 'match' || one.name === 'target');
  if (!hasExtension || protocol === 0) return { expressions };
  return { expressions, compat: { protocol, inverted: (inverse & INVERSE.PROTO) !== 0 } };
}

function op(inverse: number, flag: number): '==' | '!=' {
  return (inverse & flag) === 0 ? '==' : '!=';
}

function encodeInterface(
  { bytes, at }: Piece,
  layout: FamilyLayout,
  key: 'iifname' | 'oifname',
  inverse: number,
): Expression[] {
  const isIn = key === 'iifname';
  const mask = at + (isIn ? layout.inMask : layout.outMask);
  let length = 0;
  while (length < IFNAMSIZ && bytes[mask + length] !== 0) length++;
  if (length === 0) return [];
  const name = at + (isIn ? layout.inInterface : layout.outInterface);
  const operator = op(inverse, isIn ? INVERSE.VIA_IN : INVERSE.VIA_OUT);
  return [meta(key), cmp(operator, bytes.subarray(name, name + length))];
}

function encodeAddress(
  { bytes, at }: Piece,
  layout: FamilyLayout,
  side: 'saddr' | 'daddr',
  inverse: number,
): Expression[] {
  const isSource = side === 'saddr';
  const { addressSize: size } = layout;
  const maskAt = at + (isSource ? layout.sourceMask : layout.destinationMask);
  const addressAt = at + (isSource ? layout.source : layout.destination);
  const mask = bytes.subarray(maskAt, maskAt + size);
  if (mask.every(byte => byte === 0)) return [];
  const address = bytes.subarray(addressAt, addressAt + size);
  const operator = op(inverse, isSource ? INVERSE.SRCIP : INVERSE.DSTIP);
  const field = `${layout.family === 4 ? 'ip' : 'ip6'} ${side}` as const;
  let whole = 0;
  while (whole < size && mask[whole] === 0xff) whole++;
  // A prefix of whole bytes is compared by loading only them.
  if (mask.subarray(whole).every(byte => byte === 0))
    return [payload(field, 0, whole), cmp(operator, address.subarray(0, whole))];
  return [payload(field), bitwise(mask), cmp(operator, address)];
}

function encodeTarget(piece: Piece, layout: FamilyLayout, target: ExtensionView): Expression[] {
  const { jump, bytes, at } = piece;
  if (jump === '') return [];
  if (jump !== undefined)
    return [verdict((bytes[at + layout.flags]! & layout.gotoFlag) === 0 ? { jump } : { goto: jump })];
  if (target.name !== '') return [extension('target', target.name, target.revision, target.info)];
  switch (target.info.readInt32LE(0)) {
    case VERDICT.ACCEPT:
      return [verdict('accept')];
    case VERDICT.DROP:
      return [verdict('drop')];
    default:
      return [verdict('return')];
  }
}
