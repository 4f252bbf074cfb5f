// Verdicts: what becomes of a packet, or which chain it goes through next.
import { DecodeError } from '../../lib/errors.ts';
import { attributeString, attributes, type MessageWriter, u32be } from '../netlink/message.ts';
import { NF_ACCEPT, NF_DROP, NFT_GOTO, NFT_JUMP, NFT_RETURN, NFTA_DATA, NFTA_VERDICT } from './constants.ts';

export type Verdict = 'accept' | 'drop' | 'return' | { jump: string } | { goto: string };

const CODES = { accept: NF_ACCEPT, drop: NF_DROP, return: NFT_RETURN } as const;

/** Inside an attribute that holds data: NFTA_DATA_VERDICT { NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN }. */
export function encodeVerdict(w: MessageWriter, verdict: Verdict): void {
  w.nest(NFTA_DATA.VERDICT, () => {
    if (typeof verdict === 'string') w.attrU32be(NFTA_VERDICT.CODE, CODES[verdict]);
    else {
      const [code, chain] = 'jump' in verdict ? [NFT_JUMP, verdict.jump] : [NFT_GOTO, verdict.goto];
      w.attrU32be(NFTA_VERDICT.CODE, code).attrString(NFTA_VERDICT.CHAIN, chain);
    }
  });
}

/** Decodes the payload of NFTA_DATA_VERDICT. */
export function decodeVerdict(bytes: Buffer): Verdict {
  let code: number | undefined;
  let chain = '';
  for (const { type, value } of attributes(bytes, 0)) {
    if (type === NFTA_VERDICT.CODE) code = u32be(value, 'NFTA_VERDICT_CODE') | 0;
    else if (type === NFTA_VERDICT.CHAIN) chain = attributeString(value);
  }
  if (code === NFT_JUMP) return { jump: chain };
  if (code === NFT_GOTO) return { goto: chain };
  for (const name of ['accept', 'drop', 'return'] as const) if (CODES[name] === code) return name;
  throw new DecodeError('nftables', 'NFTA_VERDICT_CODE', 0, `unknown verdict ${code}`);
}
