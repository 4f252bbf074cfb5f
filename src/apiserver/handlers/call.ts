// What a handler gets: one request for a resource, already authenticated, authorized and looked up in the registry, and
// the parts of the server it may use.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ResourceDefinition } from '../../api/resources.ts';
import { badRequest } from '../../api/status.ts';
import type { Logger } from '../../observe/log.ts';
import type { Admission } from '../admission/admission.ts';
import type { Authenticator, User } from '../auth/authenticator.ts';
import type { Authorizer } from '../auth/authorizer.ts';
import { negotiateShape } from '../http/accept.ts';
import { isTrue, type ResourceRequest } from '../http/request-info.ts';
import type { KubeletProxy } from '../kubelet-proxy.ts';
import type { ApiServerMetrics } from '../metrics.ts';
import type { ResourceRegistry } from '../registry.ts';
import type { ResourceStorage } from '../storage/resource-storage.ts';
import type { IncludeObject, View } from './presentation.ts';

export interface ServerParts {
  registry: ResourceRegistry;
  storage: ResourceStorage;
  admission: Admission;
  authenticator: Authenticator;
  authorizer: Authorizer;
  kubelets: KubeletProxy | undefined;
  metrics: ApiServerMetrics;
  log: Logger;
  /** Aborts when the server stops: long answers end. */
  stopping: AbortSignal;
}

export interface ResourceCall {
  request: IncomingMessage;
  response: ServerResponse;
  info: ResourceRequest;
  query: URLSearchParams;
  definition: ResourceDefinition;
  user: User;
  /** Sent as Warning headers with the answer. */
  warnings: string[];
}

export function viewOf(call: ResourceCall): View {
  const include = call.query.get('includeObject');
  return {
    shape: negotiateShape(call.request.headers.accept),
    include: include === 'None' || include === 'Object' ? include : ('Metadata' satisfies IncludeObject),
  };
}

/** dryRun=All: everything but the write. Any other value is a mistake. */
export function isDryRun(query: URLSearchParams): boolean {
  const values = query.getAll('dryRun').filter(value => value !== '');
  for (const value of values)
    if (value !== 'All')
      throw badRequest(`invalid dry run value: Unsupported value: "${value}": supported values: "All"`);
  return values.length > 0;
}

export function flag(query: URLSearchParams, name: string): boolean {
  return query.has(name) && isTrue(query.get(name));
}

/** A whole number parameter, undefined when absent. */
export function numberParameter(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^-?\d+$/.test(text))
    throw badRequest(`strconv.ParseInt: parsing "${text}": invalid syntax (${name})`);
  return Number(text);
}
