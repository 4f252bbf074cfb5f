// meta/v1 Status, as a server answers a refusal, to ApiError. Also for servers that answer plain text.
import type { Status } from '../api/types.ts';
import { ApiError } from '../lib/errors.ts';

/** reason by HTTP code where the body says none (apimachinery pkg/api/errors NewGenericServerResponse). */
const REASON_BY_CODE: Record<number, string> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  406: 'NotAcceptable',
  409: 'Conflict',
  410: 'Gone',
  413: 'RequestEntityTooLarge',
  415: 'UnsupportedMediaType',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

/** An ApiError from a Status object; `httpStatus` where it carries no code. */
export function errorFromStatus(body: unknown, httpStatus: number, attempt = ''): ApiError {
  const status = (typeof body === 'object' && body !== null ? body : {}) as Status;
  const code = status.code ?? httpStatus;
  const reason = status.reason || REASON_BY_CODE[code] || 'Unknown';
  const message = status.message || `the server answered ${code} (${reason})`;
  return new ApiError(
    code,
    reason,
    attempt ? `${attempt}: ${message}` : message,
    status.details as ApiError['details'],
  );
}

/** An ApiError from the body of an HTTP answer. */
export function errorFromBody(httpStatus: number, text: string, attempt: string): ApiError {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null && (parsed as Status).kind === 'Status')
      return errorFromStatus(parsed, httpStatus, attempt);
  } catch {
    // Not JSON: a proxy, or a handler below the API machinery; its text is the message.
  }
  const reason = REASON_BY_CODE[httpStatus] ?? 'Unknown';
  return new ApiError(httpStatus, reason, `${attempt}: ${httpStatus} ${text.trim().slice(0, 500) || reason}`);
}

export function isNotFound(thrown: unknown): boolean {
  return thrown instanceof ApiError && thrown.status === 404;
}

export function isConflict(thrown: unknown): boolean {
  return thrown instanceof ApiError && thrown.status === 409 && thrown.reason !== 'AlreadyExists';
}

export function isAlreadyExists(thrown: unknown): boolean {
  return thrown instanceof ApiError && thrown.reason === 'AlreadyExists';
}

/** The resourceVersion is too old to go on from: list again. */
export function isExpired(thrown: unknown): boolean {
  return thrown instanceof ApiError && (thrown.status === 410 || thrown.reason === 'Expired');
}

/** The namespace is going away: creating in it is pointless, not an error (cause NamespaceTerminating). */
export function isNamespaceTerminating(thrown: unknown): boolean {
  return (
    thrown instanceof ApiError &&
    thrown.status === 403 &&
    thrown.details?.causes?.some(cause => cause.reason === 'NamespaceTerminating') === true
  );
}
