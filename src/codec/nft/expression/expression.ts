// An nf_tables expression: one step of a rule's little program. Values travel between steps in 4-byte registers,
// numbered from 0 here (NFT_REG32_00 upwards), longer values in consecutive ones.
//
//   struct nlattr NFTA_LIST_ELEM { NFTA_EXPR_NAME "payload", NFTA_EXPR_DATA { NFTA_PAYLOAD_… } }
import type { MessageWriter } from '../../netlink/message.ts';
import { NFT_REG_1, NFT_REG32_00, NFTA_EXPR, NFTA_LIST_ELEM } from '../constants.ts';

export interface Expression {
  readonly name: string;
  /** Writes the attributes inside NFTA_EXPR_DATA. */
  encode(w: MessageWriter): void;
}

export function encodeExpression(w: MessageWriter, expression: Expression): void {
  w.nest(NFTA_LIST_ELEM, () => {
    w.attrString(NFTA_EXPR.NAME, expression.name);
    w.nest(NFTA_EXPR.DATA, () => expression.encode(w));
  });
}

/** The kernel's number of our register, in the form in which it tells it back: every fourth has a name of its own. */
export function register(number: number): number {
  return number % 4 === 0 ? NFT_REG_1 + number / 4 : NFT_REG32_00 + number;
}
