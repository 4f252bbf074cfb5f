// Requests in a person's words, as iproute2 would write them, for error messages; and the errors of a batch.

import type { MessageWriter } from '../codec/netlink/message.ts';
import { PodwireError } from '../lib/errors.ts';
import type { FdbSpec, RouteSpec } from './rtnetlink-specs.ts';

/** What a batch needs of its socket. */
export interface BatchTransport {
  send(
    writer: MessageWriter,
    offsets: readonly number[],
    describe: (index: number) => string,
  ): { index: number; error: PodwireError }[];
  /** The index of a link; undefined when there is none of that name. */
  findLink(name: string): number | undefined;
  /** Same as `ip -n NAMESPACE link set NAME up`. */
  setUpIn(netnsFd: number, name: string): void;
}

/** One request that failed, with what the caller had put into `tag` before writing it. */
export interface BatchFailure {
  tag: unknown;
  error: PodwireError;
}

export function describe(object: object): string {
  return Object.entries(object)
    .map(([key, value]) => `${key} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join(' ');
}

export function describeFdb(spec: FdbSpec): string {
  return `${spec.mac} dev ${spec.link}${spec.destination === undefined ? '' : ` dst ${spec.destination}`}`;
}

/** As `ip route` would print it. */
export function describeRoute(spec: RouteSpec): string {
  const parts = [spec.type !== undefined && spec.type !== 'unicast' ? spec.type : '', spec.destination];
  if (spec.gateway !== undefined) parts.push(`via ${spec.gateway}`);
  if (spec.nexthopId !== undefined) parts.push(`nhid ${spec.nexthopId}`);
  if (spec.link !== undefined) parts.push(`dev ${spec.link}`);
  for (const hop of spec.nexthops ?? []) parts.push(`nexthop ${describe(hop)}`);
  if (spec.table !== undefined && spec.table !== 254) parts.push(`table ${spec.table}`);
  if (spec.onlink) parts.push('onlink');
  return parts.filter(part => part !== '').join(' ');
}

/** Throws the only error as it is, several as one. */
export function throwErrors(errors: readonly PodwireError[]): void {
  const [first] = errors;
  if (first === undefined) return;
  if (errors.length === 1) throw first;
  throw new PodwireError(first.code, `${first.message} (and ${errors.length - 1} more)`, { cause: first });
}
