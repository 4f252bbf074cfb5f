// The one mapping between ApiError and the meta/v1 Status object, and constructors for every refusal an API server
// gives. Texts follow k8s.io/apimachinery `api/errors`, because people and programs read them.
import { ApiError, errorMessage, type StatusCause } from '../lib/errors.ts';
import type { Status } from './types.ts';

/** What a refusal speaks of: group and plural, and the kind where validation speaks. */
export interface Subject {
  group: string;
  plural: string;
  kind?: string;
}

/** `deployments.apps`, or `pods` for the core group. */
export function qualifiedResource(subject: Subject): string {
  return subject.group === '' ? subject.plural : `${subject.plural}.${subject.group}`;
}

function qualifiedKind(subject: Subject): string {
  const kind = subject.kind ?? subject.plural;
  return subject.group === '' ? kind : `${kind}.${subject.group}`;
}

function named(subject: Subject, name: string, causes?: StatusCause[]): NonNullable<ApiError['details']> {
  return {
    name,
    ...(subject.group === '' ? {} : { group: subject.group }),
    kind: subject.plural,
    ...(causes && causes.length > 0 ? { causes } : {}),
  };
}

export function notFound(subject: Subject, name: string): ApiError {
  return new ApiError(
    404,
    'NotFound',
    `${qualifiedResource(subject)} "${name}" not found`,
    named(subject, name),
  );
}

/** No such path: kubectl prints this one as "the server could not find the requested resource". */
export function resourceNotFound(): ApiError {
  return new ApiError(404, 'NotFound', 'the server could not find the requested resource', {});
}

export function alreadyExists(subject: Subject, name: string): ApiError {
  return new ApiError(
    409,
    'AlreadyExists',
    `${qualifiedResource(subject)} "${name}" already exists`,
    named(subject, name),
  );
}

export const OPTIMISTIC_LOCK_MESSAGE =
  'the object has been modified; please apply your changes to the latest version and try again';

export function conflict(
  subject: Subject,
  name: string,
  why = OPTIMISTIC_LOCK_MESSAGE,
  causes?: StatusCause[],
): ApiError {
  return new ApiError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualifiedResource(subject)} "${name}": ${why}`,
    named(subject, name, causes),
  );
}

/** What one cause says in a sentence: `spec.replicas: Invalid value: -1: must be …`. */
export function causeText(cause: StatusCause): string {
  return cause.field ? `${cause.field}: ${cause.message ?? ''}` : (cause.message ?? '');
}

/** 422. One cause reads plainly, several are put in brackets (utilerrors.Aggregate). */
export function invalid(subject: Subject, name: string, causes: StatusCause[]): ApiError {
  const texts = [...new Set(causes.map(causeText))];
  const text = texts.length === 1 ? texts[0] : `[${texts.join(', ')}]`;
  const details = named(subject, name, causes);
  details.kind = subject.kind ?? subject.plural;
  return new ApiError(422, 'Invalid', `${qualifiedKind(subject)} "${name}" is invalid: ${text}`, details);
}

export function badRequest(message: string): ApiError {
  return new ApiError(400, 'BadRequest', message);
}

export function unauthorized(message = 'Unauthorized'): ApiError {
  return new ApiError(401, 'Unauthorized', message);
}

export function forbidden(subject: Subject, name: string, why: string): ApiError {
  const what = name === '' ? qualifiedResource(subject) : `${qualifiedResource(subject)} "${name}"`;
  return new ApiError(403, 'Forbidden', `${what} is forbidden: ${why}`, named(subject, name));
}

export function methodNotAllowed(subject: Subject, verb: string): ApiError {
  return new ApiError(
    405,
    'MethodNotAllowed',
    `${verb} is not supported on resources of kind "${qualifiedResource(subject)}"`,
    { ...named(subject, ''), name: undefined },
  );
}

/** 410 for a watch from, or a page of, a revision that is compacted away. */
export function expired(message: string): ApiError {
  return new ApiError(410, 'Expired', message);
}

export function gone(message: string): ApiError {
  return new ApiError(410, 'Gone', message);
}

export function notAcceptable(accepted: string): ApiError {
  return new ApiError(406, 'NotAcceptable', `only the following media types are accepted: ${accepted}`);
}

export function unsupportedMediaType(accepted: string): ApiError {
  return new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted}`,
  );
}

export function requestEntityTooLarge(message: string): ApiError {
  return new ApiError(413, 'RequestEntityTooLarge', message);
}

export function tooManyRequests(message: string, retryAfterSeconds: number): ApiError {
  return new ApiError(429, 'TooManyRequests', message, { retryAfterSeconds });
}

export function internalError(message: string, cause?: unknown): ApiError {
  return new ApiError(
    500,
    'InternalError',
    `Internal error occurred: ${message}`,
    { causes: [{ message }] },
    { cause },
  );
}

export function serviceUnavailable(message: string): ApiError {
  return new ApiError(503, 'ServiceUnavailable', message);
}

export function timeout(message: string): ApiError {
  return new ApiError(504, 'Timeout', message);
}

/** The Status object for anything thrown; what is no ApiError is an internal error. */
export function statusFromError(thrown: unknown): Status & { code: number } {
  const error = thrown instanceof ApiError ? thrown : internalError(errorMessage(thrown), thrown);
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: error.message,
    reason: error.reason,
    ...(error.details ? { details: error.details } : {}),
    code: error.status,
  };
}

/** The other direction: a client turns a received Status (or any refused body) into an ApiError. */
export function errorFromStatus(httpStatus: number, body: unknown): ApiError {
  const status = (typeof body === 'object' && body !== null ? body : {}) as Partial<Status>;
  const message = status.message ?? (typeof body === 'string' && body !== '' ? body : `HTTP ${httpStatus}`);
  return new ApiError(status.code ?? httpStatus, status.reason ?? 'Unknown', message, status.details);
}

/** The answer to a successful delete of an object that is gone at once. */
export function deletedStatus(subject: Subject, name: string, uid: string): Status {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: { ...named(subject, name), uid },
  };
}
