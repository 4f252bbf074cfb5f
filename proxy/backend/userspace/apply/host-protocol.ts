// What a daemon and its relay host say to each other: JSON objects, one a line, over a stream socket. The host speaks
// first. Whoever sends what the other does not understand is told so and cut off. Pure.
import { PodwireError } from '../../../../src/lib/errors.ts';
import { ipFamily } from '../../../../src/lib/ip.ts';
import type { RelayStats } from './messages.ts';
import type { ClosedPort, ServiceListener, SocketAddress } from './relay-service.ts';

export const HOST_PROTOCOL = 1;
/** A line with 100,000 endpoints fits. */
export const MAX_LINE_BYTES = 8 << 20;
const MAX_KEY_LENGTH = 4096;
const MAX_PORT = 65_535;

/** The first of `open`, `endpoints`, `close` and `retain` on a connection makes it the one that controls the host. */
export type HostRequest =
  | { op: 'open'; id: number; key: string; listener: ServiceListener }
  | { op: 'endpoints'; key: string; endpoints: SocketAddress[] }
  | { op: 'close'; key: string }
  /** Whatever this connection did not open is closed. */
  | { op: 'retain'; id: number }
  /** Listeners close after so long; the host ends with its last connection. */
  | { op: 'drain'; listenMs: number }
  | { op: 'stop' };

export type HostReply =
  | { op: 'hello'; protocol: number; build: string }
  | { op: 'opened'; id: number; port: number }
  | { op: 'refused'; id: number; code: string; message: string }
  | { op: 'retained'; id: number; closed: ClosedPort[] }
  | { op: 'stats'; stats: RelayStats }
  /** Somebody else controls the host now. */
  | { op: 'replaced' }
  | { op: 'misunderstood'; message: string };

/** TOO_LONG when the other side would not read it. */
export function encodeLine(message: HostRequest | HostReply): string {
  const line = JSON.stringify(message);
  if (Buffer.byteLength(line) > MAX_LINE_BYTES)
    throw new PodwireError('TOO_LONG', `${message.op}: more than ${MAX_LINE_BYTES} bytes`);
  return `${line}\n`;
}

/** Cuts a stream into lines; TOO_LONG when one has no end. */
export class LineReader {
  #parts: Buffer[] = [];
  #size = 0;

  /** The lines that are whole with this. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      this.#keep(chunk.subarray(from, end));
      lines.push(Buffer.concat(this.#parts).toString('utf8'));
      this.#parts = [];
      this.#size = 0;
      from = end + 1;
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from));
    return lines;
  }

  #keep(part: Buffer): void {
    this.#size += part.length;
    if (this.#size > MAX_LINE_BYTES)
      throw new PodwireError('TOO_LONG', `a line of more than ${MAX_LINE_BYTES} bytes`);
    this.#parts.push(part);
  }
}

function misunderstood(what: string): PodwireError {
  return new PodwireError('MISUNDERSTOOD', what);
}

function asObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw misunderstood(`${what} is no object`);
  return value as Record<string, unknown>;
}

function asNumber(value: unknown, what: string, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most)
    throw misunderstood(`${what} is no whole number from ${least} to ${most}`);
  return value;
}

function asMilliseconds(value: unknown, what: string): number {
  if (typeof value !== 'number' || !(value >= 0)) throw misunderstood(`${what} is no time`);
  return value;
}

function asKey(value: unknown): string {
  if (typeof value !== 'string' || value === '' || value.length > MAX_KEY_LENGTH)
    throw misunderstood(`key is no text of 1 to ${MAX_KEY_LENGTH} characters`);
  return value;
}

function asAddress(value: unknown, what: string): string {
  if (typeof value !== 'string' || ipFamily(value) === undefined)
    throw misunderstood(`${what} is no IP address`);
  return value;
}

/** MISUNDERSTOOD when a host would not take them. */
export function asEndpoints(value: unknown): SocketAddress[] {
  if (!Array.isArray(value)) throw misunderstood('endpoints is no list');
  return value.map(one => {
    const { ip, port } = asObject(one, 'endpoint');
    return { ip: asAddress(ip, 'endpoint.ip'), port: asNumber(port, 'endpoint.port', 1, MAX_PORT) };
  });
}

/** MISUNDERSTOOD when a host would not take it. */
export function asListener(value: unknown): ServiceListener {
  const { protocol, address, portRange, affinityMs, udpIdleMs, endpoints } = asObject(value, 'listener');
  if (protocol !== 'TCP' && protocol !== 'UDP') throw misunderstood('protocol is neither TCP nor UDP');
  const listener: ServiceListener = {
    protocol,
    address: asAddress(address, 'address'),
    affinityMs: asMilliseconds(affinityMs, 'affinityMs'),
    udpIdleMs: asMilliseconds(udpIdleMs, 'udpIdleMs'),
    endpoints: asEndpoints(endpoints),
  };
  if (portRange === undefined) return listener;
  const range = asObject(portRange, 'portRange');
  const first = asNumber(range.first, 'portRange.first', 1, MAX_PORT);
  return { ...listener, portRange: { first, last: asNumber(range.last, 'portRange.last', first, MAX_PORT) } };
}

function parseObject(line: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch (cause) {
    throw new PodwireError('MISUNDERSTOOD', 'this is no JSON', { cause });
  }
  return asObject(parsed, 'message');
}

/** MISUNDERSTOOD when it is no request. */
export function parseRequest(line: string): HostRequest {
  const message = parseObject(line);
  const id = (): number => asNumber(message.id, 'id', 0, Number.MAX_SAFE_INTEGER);
  switch (message.op) {
    case 'open':
      return { op: 'open', id: id(), key: asKey(message.key), listener: asListener(message.listener) };
    case 'endpoints':
      return { op: 'endpoints', key: asKey(message.key), endpoints: asEndpoints(message.endpoints) };
    case 'close':
      return { op: 'close', key: asKey(message.key) };
    case 'retain':
      return { op: 'retain', id: id() };
    case 'drain':
      return { op: 'drain', listenMs: asNumber(message.listenMs, 'listenMs', 0, 600_000) };
    case 'stop':
      return { op: 'stop' };
    default:
      throw misunderstood(`there is no request ${JSON.stringify(message.op)}`);
  }
}

/** What a host of our own build says is taken as it is; its greeting is looked at before. */
export function parseReply(line: string): HostReply {
  return parseObject(line) as HostReply;
}
