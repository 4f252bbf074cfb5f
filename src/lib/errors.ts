// The error classes of podwire. Every error has a stable `code`; callers branch on `code`, never on text.
// A message says what was attempted, with which object, what went wrong, and the next step where there is one.
// Each edge (CNI, Kubernetes Status, BGP NOTIFICATION, exit status) has one mapping table of its own elsewhere.

/** Base of all errors that podwire throws on purpose. */
export class PodwireError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A system call or netlink request the kernel refused. `code` is the errno's name, e.g. `EEXIST`. */
export class KernelError extends PodwireError {
  readonly op: string;
  readonly errno: number;
  /** NLMSGERR_ATTR_MSG, the kernel's own words, where it gave some. */
  readonly extAck: string | undefined;
  /** NLMSGERR_ATTR_OFFS, byte offset of the offending attribute in the request. */
  readonly offset: number | undefined;
  constructor(
    op: string,
    errno: number,
    code: string,
    detail?: { extAck?: string; offset?: number; cause?: unknown },
  ) {
    const cause = detail?.cause === undefined ? undefined : { cause: detail.cause };
    super(code, `${op}: ${code}${detail?.extAck ? `: ${detail.extAck}` : ''}`, cause);
    this.op = op;
    this.errno = errno;
    this.extAck = detail?.extAck;
    this.offset = detail?.offset;
  }
}

/** Bytes or text that do not follow their protocol. */
export class DecodeError extends PodwireError {
  readonly proto: string;
  readonly field: string;
  readonly offset: number;
  constructor(proto: string, field: string, offset: number, message: string, code = 'DECODE') {
    super(code, `${proto}: ${field} at byte ${offset}: ${message}`);
    this.proto = proto;
    this.field = field;
    this.offset = offset;
  }
}

/** One entry of `Status.details.causes` (meta/v1 StatusCause). */
export interface StatusCause {
  reason?: string;
  message?: string;
  field?: string;
}

/** A refused API request, either side of the wire. `reason` is meta/v1 StatusReason, `status` the HTTP code. */
export class ApiError extends PodwireError {
  readonly status: number;
  readonly reason: string;
  readonly details:
    | {
        name?: string;
        group?: string;
        kind?: string;
        uid?: string;
        causes?: StatusCause[];
        retryAfterSeconds?: number;
      }
    | undefined;
  constructor(
    status: number,
    reason: string,
    message: string,
    details?: ApiError['details'],
    options?: ErrorOptions,
  ) {
    super(reason, message, options);
    this.status = status;
    this.reason = reason;
    this.details = details;
  }
}

/** An error in the CNI specification's form (SPEC.md "Error"): numeric code, msg, details. */
export class CniError extends PodwireError {
  readonly cniCode: number;
  readonly details: string;
  constructor(cniCode: number, message: string, details = '', options?: ErrorOptions) {
    super(`CNI_${cniCode}`, message, options);
    this.cniCode = cniCode;
    this.details = details;
  }
}

/** The text of anything thrown, for a message or a log line. */
export function errorMessage(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** True when `thrown` carries this `code` (ours, or Node's own such as ENOENT). */
export function hasCode(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && (thrown as { code?: unknown }).code === code;
}
