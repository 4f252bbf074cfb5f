// The shape of an attribute codec, one file each beside this one; table.ts lists them.
import type { MessageContext } from '../context.ts';
import type { Disposition } from '../error.ts';
import type { PathAttributes } from '../path-attributes.ts';

/** Thrown in no case; a returned string says why the value is malformed. */
export interface AttributeCodec {
  readonly code: number;
  readonly name: string;
  /** The OPTIONAL and TRANSITIVE bits the attribute must have. */
  readonly flags: number;
  /** What RFC 7606 section 7 (or the attribute's own RFC) wants done with a malformed value. */
  readonly malformed: Disposition;
  /** RFC 7606 sections 7.5, 7.9, 7.10: discarded unseen when it comes from another AS. */
  readonly internalOnly?: boolean;
  /** Reads `buffer[start, end)` into `into`; answers the reason when the value is malformed. */
  decode(
    buffer: Buffer,
    start: number,
    end: number,
    context: MessageContext,
    into: PathAttributes,
  ): string | undefined;
  /** Writes the value at `offset` and answers the offset behind it, or -1 when the attribute is absent. */
  encode(attributes: PathAttributes, context: MessageContext, out: Buffer, offset: number): number;
}

export function lengthReason(length: number, wanted: string): string {
  return `a value of ${length} bytes where ${wanted} belong`;
}
