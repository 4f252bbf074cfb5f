// match, target: an extension of x_tables inside an nf_tables rule (net/netfilter/nft_compat.c). `info` is the extension's
// own structure, as long as the kernel's and filled up to 8 bytes.
import type { Expression } from './expression.ts';

/** NFTA_MATCH_* and NFTA_TARGET_* are the same numbers. */
export const NFTA_EXTENSION = { NAME: 1, REVISION: 2, INFO: 3 } as const;

export function extension(
  kind: 'match' | 'target',
  name: string,
  revision: number,
  info: Uint8Array,
): Expression {
  return {
    name: kind,
    encode: w =>
      w
        .attrString(NFTA_EXTENSION.NAME, name)
        .attrU32be(NFTA_EXTENSION.REVISION, revision)
        .attr(NFTA_EXTENSION.INFO, info),
  };
}
