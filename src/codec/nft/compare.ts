// Whether a rule found in the kernel is the one that was meant. The kernel tells back what it was given and adds what it
// filled in by itself; those additions are empty, or follow from the rest. Anything else is somebody's change.

import { NLA_F_NESTED, NLA_TYPE_MASK } from '../netlink/constants.ts';
import { attributeString, attributes, MessageWriter, u32be } from '../netlink/message.ts';
import { NFTA_EXPR } from './constants.ts';
import { type Expression, encodeExpression } from './expression/expression.ts';

/** NFTA_NAT_*: the kernel repeats the lower register as the upper one, and says which parts are given. */
const NFTA_NAT = { REG_ADDR_MIN: 3, REG_ADDR_MAX: 4, REG_PROTO_MIN: 5, REG_PROTO_MAX: 6, FLAGS: 7 } as const;
/** NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED. */
const NAT_GIVEN_FLAGS = 3;

/** What NFTA_RULE_EXPRESSIONS of a rule holds. */
export function encodeExpressions(expressions: readonly Expression[]): Buffer {
  const writer = new MessageWriter(256);
  for (const expression of expressions) encodeExpression(writer, expression);
  return writer.toBuffer();
}

interface RawAttribute {
  type: number;
  nested: boolean;
  value: Buffer;
}

function rawAttributes(bytes: Buffer): RawAttribute[] {
  const found: RawAttribute[] = [];
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) return found;
    const type = bytes.readUInt16LE(at + 2);
    found.push({
      type: type & NLA_TYPE_MASK,
      nested: (type & NLA_F_NESTED) !== 0,
      value: bytes.subarray(at + 4, at + length),
    });
    at += (length + 3) & ~3;
  }
  return found;
}

type Filled = (extra: RawAttribute, all: readonly RawAttribute[]) => boolean;

const isZero: Filled = extra => extra.value.every(byte => byte === 0);

const natFilled: Filled = (extra, all) => {
  const same = (type: number): boolean =>
    all.find(one => one.type === type)?.value.equals(extra.value) ?? false;
  if (extra.type === NFTA_NAT.REG_ADDR_MAX) return same(NFTA_NAT.REG_ADDR_MIN);
  if (extra.type === NFTA_NAT.REG_PROTO_MAX) return same(NFTA_NAT.REG_PROTO_MIN);
  return extra.type === NFTA_NAT.FLAGS && (u32be(extra.value, 'NFTA_NAT_FLAGS') & ~NAT_GIVEN_FLAGS) === 0;
};

/** Every attribute of ours is there with our value, and the others are such as the kernel adds. */
function sameAttributes(ours: Buffer, found: Buffer, filled: Filled): boolean {
  if (ours.equals(found)) return true;
  const rest = rawAttributes(found);
  const all = [...rest];
  for (const attribute of rawAttributes(ours)) {
    const at = rest.findIndex(one => one.type === attribute.type);
    const other = at < 0 ? undefined : rest.splice(at, 1)[0];
    if (other === undefined) return false;
    const same = attribute.nested
      ? sameAttributes(attribute.value, other.value, isZero)
      : attribute.value.equals(other.value);
    if (!same) return false;
  }
  return rest.every(extra => filled(extra, all));
}

/** `ours` and `found` are contents of NFTA_RULE_EXPRESSIONS. */
export function sameExpressions(ours: Buffer, found: Buffer): boolean {
  if (ours.equals(found)) return true;
  const left = attributes(ours, 0);
  const right = attributes(found, 0);
  return (
    left.length === right.length &&
    left.every(({ value }, i) => sameExpression(attributes(value, 0), attributes(right[i]!.value, 0)))
  );
}

function sameExpression(ours: ReturnType<typeof attributes>, found: ReturnType<typeof attributes>): boolean {
  const part = (list: typeof ours, type: number): Buffer =>
    list.find(one => one.type === type)?.value ?? Buffer.alloc(0);
  const name = attributeString(part(ours, NFTA_EXPR.NAME));
  return (
    name === attributeString(part(found, NFTA_EXPR.NAME)) &&
    sameAttributes(
      part(ours, NFTA_EXPR.DATA),
      part(found, NFTA_EXPR.DATA),
      name === 'nat' ? (extra, all) => isZero(extra, all) || natFilled(extra, all) : isZero,
    )
  );
}
