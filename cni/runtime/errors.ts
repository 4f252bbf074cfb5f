// CNI error codes and the one mapping from anything thrown to the error JSON that the specification asks for.
// Source: containernetworking/cni SPEC.md, section "Error", and pkg/types error codes 8 and 999 of its Go library.
import { CniError, errorMessage, hasCode, PodwireError } from '../../src/lib/errors.ts';

export const CNI_ERROR = {
  INCOMPATIBLE_VERSION: 1,
  UNSUPPORTED_FIELD: 2,
  UNKNOWN_CONTAINER: 3,
  INVALID_ENVIRONMENT: 4,
  IO_FAILURE: 5,
  DECODE: 6,
  INVALID_CONFIG: 7,
  INVALID_NETNS: 8,
  TRY_AGAIN_LATER: 11,
  NOT_AVAILABLE: 50,
  LIMITED_CONNECTIVITY: 51,
  INTERNAL: 999,
} as const;

/** Codes of src/lib that mean a bad value in the configuration rather than a failure of the host. */
const CONFIG_CODES = new Set(['INVALID_ADDRESS', 'INVALID_CIDR', 'INVALID_MAC']);
/** Failures of files and disks (Node's own codes); the host, not the request, is at fault. */
const IO_CODES = ['EROFS', 'ENOSPC', 'EDQUOT', 'EIO', 'EMFILE', 'ENFILE'];

export interface CniErrorJson {
  cniVersion?: string;
  code: number;
  msg: string;
  details?: string;
}

export function configError(message: string, details = ''): CniError {
  return new CniError(CNI_ERROR.INVALID_CONFIG, message, details);
}

export function decodeError(message: string, details = ''): CniError {
  return new CniError(CNI_ERROR.DECODE, message, details);
}

/** Anything thrown as a CniError; what is not one of ours becomes 999, "internal error". */
export function toCniError(thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown;
  const message = errorMessage(thrown);
  if (thrown instanceof PodwireError && CONFIG_CODES.has(thrown.code))
    return new CniError(CNI_ERROR.INVALID_CONFIG, message, '', { cause: thrown });
  if (IO_CODES.some(code => hasCode(thrown, code)))
    return new CniError(CNI_ERROR.IO_FAILURE, message, '', { cause: thrown });
  return new CniError(CNI_ERROR.INTERNAL, message, '', { cause: thrown });
}

/** The same error with what was going on put before its message; code and details stay. */
export function withContext(context: string, thrown: unknown): CniError {
  const error = toCniError(thrown);
  return new CniError(error.cniCode, `${context}: ${error.message}`, error.details, { cause: thrown });
}

export function errorJson(error: CniError, cniVersion?: string): CniErrorJson {
  return {
    ...(cniVersion === undefined ? {} : { cniVersion }),
    code: error.cniCode,
    msg: error.message,
    ...(error.details === '' ? {} : { details: error.details }),
  };
}

/** Several failures of one request as one error, with the code of the first. */
export function joinErrors(context: string, thrown: readonly unknown[]): CniError {
  const errors = thrown.map(toCniError);
  const first = errors[0]!;
  if (errors.length === 1) return withContext(context, first);
  return new CniError(first.cniCode, `${context}: ${errors.map(error => error.message).join('; ')}`);
}
