// What can be wrong with a BGP message, in the three classes of RFC 7606 section 2: session reset (thrown as
// BgpMessageError, carries the NOTIFICATION to send), treat-as-withdraw and attribute discard (returned as data).
import { DecodeError } from '../../../src/lib/errors.ts';
import { errorName } from './iana.ts';

/** RFC 7606 section 2; `reset` never appears in a returned problem, it is thrown. */
export type Disposition = 'discard' | 'withdraw' | 'reset';

/** One malformed path attribute that does not end the session. */
export interface AttributeProblem {
  readonly attribute: number;
  readonly disposition: Disposition;
  readonly reason: string;
}

/** A message that ends the session with a NOTIFICATION (RFC 4271 section 6). */
export class BgpMessageError extends DecodeError {
  readonly disposition: Disposition = 'reset';
  readonly errorCode: number;
  readonly errorSubcode: number;
  /** The Data field of the NOTIFICATION. */
  readonly data: Uint8Array;
  constructor(
    errorCode: number,
    errorSubcode: number,
    field: string,
    offset: number,
    message: string,
    data: Uint8Array = new Uint8Array(0),
  ) {
    super('bgp', field, offset, `${message} (${errorName(errorCode, errorSubcode)})`, 'BGP_RESET');
    this.errorCode = errorCode;
    this.errorSubcode = errorSubcode;
    this.data = data;
  }
}
