// Conversations of a DHCP client with whatever carries its messages (RFC 2131 section 3.1 and 4.4): a request is sent
// again with growing pauses until an answer is accepted or the time is up. Knows neither sockets nor namespaces.
import { randomBytes } from 'node:crypto';
import { MESSAGE_TYPE, OPTION } from '../../../src/codec/dhcp/constants.ts';
import type { DhcpMessage, DhcpOptions } from '../../../src/codec/dhcp/message.ts';
import { addressOption, encodeAddress, messageType } from '../../../src/codec/dhcp/options.ts';
import { backoffMs } from '../../../src/lib/backoff.ts';
import { type Clock, systemClock } from '../../../src/lib/clock.ts';
import { CniError } from '../../../src/lib/errors.ts';
import { CNI_ERROR } from '../../runtime/errors.ts';
import { type Lease, leaseFromAck } from './lease.ts';

export interface DhcpTransport extends Disposable {
  send(message: DhcpMessage): void;
  /** One listener at a time. */
  onMessage: (message: DhcpMessage) => void;
}

export interface DhcpClientIdentity {
  mac: string;
  clientId: Buffer;
  broadcast: boolean;
  request: readonly number[];
  provide: ReadonlyMap<number, Buffer>;
}

export interface ExchangeTimes {
  /** For one request and its repetitions. */
  timeoutMs: number;
  /** The longest pause between two. */
  resendMaxMs: number;
  signal: AbortSignal;
  clock?: Clock;
}

const FIRST_RESEND_MS = 1000;
const ZERO = '0.0.0.0';
/** Offers that the server takes back, before we give up on it. */
const MAX_ATTEMPTS = 3;

/** DISCOVER, OFFER, REQUEST, ACK. */
export async function acquireLease(
  transport: DhcpTransport,
  client: DhcpClientIdentity,
  times: ExchangeTimes,
): Promise<Lease> {
  for (let attempt = 1; ; attempt++) {
    const xid = randomBytes(4).readUInt32BE(0);
    const discover = clientMessage(client, xid, MESSAGE_TYPE.DISCOVER);
    const offer = await converse(transport, discover, times, message =>
      messageType(message) === MESSAGE_TYPE.OFFER &&
      message.yiaddr !== ZERO &&
      addressOption(message.options, OPTION.SERVER_ID) !== undefined
        ? message
        : undefined,
    );
    const request = clientMessage(client, xid, MESSAGE_TYPE.REQUEST);
    request.options.set(OPTION.REQUESTED_IP, encodeAddress(offer.yiaddr));
    request.options.set(OPTION.SERVER_ID, offer.options.get(OPTION.SERVER_ID)!);
    const lease = await confirm(transport, request, times);
    if (lease !== undefined) return lease;
    if (attempt === MAX_ATTEMPTS)
      throw new CniError(CNI_ERROR.TRY_AGAIN_LATER, "DHCP server NACK'd own offer");
  }
}

/** REQUEST for an address that we have; the transport decides whether by unicast or broadcast. Undefined: refused. */
export function extendLease(
  transport: DhcpTransport,
  client: DhcpClientIdentity,
  lease: Lease,
  times: ExchangeTimes,
): Promise<Lease | undefined> {
  const request = clientMessage(client, randomBytes(4).readUInt32BE(0), MESSAGE_TYPE.REQUEST);
  request.ciaddr = lease.address;
  return confirm(transport, request, times);
}

export function releaseMessage(client: DhcpClientIdentity, lease: Lease): DhcpMessage {
  const message = clientMessage(client, randomBytes(4).readUInt32BE(0), MESSAGE_TYPE.RELEASE);
  // A RELEASE asks for nothing and says nothing else (RFC 2131 table 5).
  const id = message.options.get(OPTION.CLIENT_ID)!;
  message.ciaddr = lease.address;
  message.broadcast = false;
  message.options = new Map([
    [OPTION.MESSAGE_TYPE, Buffer.of(MESSAGE_TYPE.RELEASE)],
    [OPTION.SERVER_ID, encodeAddress(lease.serverId)],
    [OPTION.CLIENT_ID, id],
  ]);
  return message;
}

function confirm(
  transport: DhcpTransport,
  request: DhcpMessage,
  times: ExchangeTimes,
): Promise<Lease | undefined> {
  const clock = times.clock ?? systemClock;
  // The lease runs from the moment of asking, so that ours never outlives the server's.
  const askedAtMs = clock.now();
  return converse<{ lease: Lease | undefined }>(transport, request, times, message => {
    const type = messageType(message);
    if (type === MESSAGE_TYPE.NAK) return { lease: undefined };
    if (type !== MESSAGE_TYPE.ACK) return undefined;
    const lease = leaseFromAck(message, askedAtMs);
    return lease === undefined ? undefined : { lease };
  }).then(answer => answer.lease);
}

function clientMessage(client: DhcpClientIdentity, xid: number, type: number): DhcpMessage {
  const options: DhcpOptions = new Map<number, Buffer>([
    [OPTION.MESSAGE_TYPE, Buffer.of(type)],
    [OPTION.CLIENT_ID, client.clientId],
    ...client.provide,
  ]);
  if (client.request.length > 0) options.set(OPTION.PARAMETER_LIST, Buffer.from(client.request));
  return {
    ...{ op: 'request', xid, secs: 0, broadcast: client.broadcast },
    ...{ ciaddr: ZERO, yiaddr: ZERO, siaddr: ZERO, giaddr: ZERO, chaddr: client.mac, options },
  };
}

/** Sends until `accept` takes an answer. */
function converse<T>(
  transport: DhcpTransport,
  request: DhcpMessage,
  times: ExchangeTimes,
  accept: (message: DhcpMessage) => T | undefined,
): Promise<T> {
  const clock = times.clock ?? systemClock;
  const started = clock.now();
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  let cancelResend = (): void => {};
  let resends = 0;
  const send = (): void => {
    const secs = Math.min(Math.floor((clock.now() - started) / 1000), 0xffff);
    try {
      transport.send({ ...request, secs });
    } catch (error) {
      reject(error);
      return;
    }
    const pause = backoffMs({ baseMs: FIRST_RESEND_MS, maxMs: times.resendMaxMs, jitter: 0.25 }, resends++);
    cancelResend = clock.after(pause, send);
  };
  const onAbort = (): void => reject(new CniError(CNI_ERROR.TRY_AGAIN_LATER, 'DHCP request was given up'));
  if (times.signal.aborted) onAbort();
  times.signal.addEventListener('abort', onAbort, { once: true });
  const cancelTimeout = clock.after(times.timeoutMs, () =>
    reject(
      new CniError(CNI_ERROR.TRY_AGAIN_LATER, 'no DHCP server answered', `within ${times.timeoutMs} ms`),
    ),
  );
  transport.onMessage = message => {
    if (message.op !== 'reply' || message.xid !== request.xid || message.chaddr !== request.chaddr) return;
    const answer = accept(message);
    if (answer !== undefined) resolve(answer);
  };
  if (!times.signal.aborted) send();
  return promise.finally(() => {
    cancelResend();
    cancelTimeout();
    times.signal.removeEventListener('abort', onAbort);
    transport.onMessage = () => {};
  });
}
