// What the dhcp plugin and its daemon say to each other on the daemon's socket: one line of JSON there, one line back.
// (The reference speaks Go's net/rpc with gob on the same path, which only Go can.)
import { connect } from 'node:net';
import { CniError, errorMessage, hasCode } from '../../../src/lib/errors.ts';
import { CNI_ERROR, type CniErrorJson } from '../../runtime/errors.ts';
import { Fields, type JsonObject } from '../../runtime/fields.ts';

export const DHCP_METHODS = ['Allocate', 'Check', 'Release', 'Collect', 'Status'] as const;
export type DhcpMethod = (typeof DHCP_METHODS)[number];

export interface DhcpCall {
  method: DhcpMethod;
  network?: string;
  containerId?: string;
  ifName?: string;
  /** CNI_NETNS, and the inode number it led to. */
  netns?: string;
  netnsInode?: string;
  request?: readonly number[];
  /** Option code → base64. */
  provide?: Readonly<Record<string, string>>;
  priority?: number;
  suppressGateway?: boolean;
  /** Collect: what is still in use. */
  valid?: readonly { containerId: string; ifName: string }[];
}

export type DhcpAnswer = { result: JsonObject } | { error: CniErrorJson };

export const MAX_LINE_BYTES = 1 << 20;

/** Nobody listens there. */
export class NoDaemonError extends CniError {}

/** Asks the daemon; its refusals are thrown as they are. */
export function callDaemon(socketPath: string, call: DhcpCall, signal: AbortSignal): Promise<Fields> {
  const { promise, resolve, reject } = Promise.withResolvers<Fields>();
  const socket = connect(socketPath);
  const chunks: Buffer[] = [];
  const onAbort = (): void => {
    socket.destroy();
    reject(new CniError(CNI_ERROR.TRY_AGAIN_LATER, `DHCP daemon: no answer to ${call.method} in time`));
  };
  signal.addEventListener('abort', onAbort, { once: true });
  socket.on('connect', () => socket.write(`${JSON.stringify(call)}\n`));
  socket.on('data', chunk => chunks.push(chunk));
  socket.on('error', error => reject(connectionError(socketPath, error)));
  socket.on('end', () => {
    socket.destroy();
    try {
      resolve(readAnswer(Buffer.concat(chunks).toString('utf8')));
    } catch (error) {
      reject(error);
    }
  });
  return promise.finally(() => signal.removeEventListener('abort', onAbort));
}

function connectionError(socketPath: string, error: Error): CniError {
  const message = `error dialing DHCP daemon: ${errorMessage(error)}`;
  if (hasCode(error, 'ENOENT') || hasCode(error, 'ECONNREFUSED'))
    return new NoDaemonError(CNI_ERROR.TRY_AGAIN_LATER, message, 'start it with: podwire cni dhcp');
  return new CniError(CNI_ERROR.TRY_AGAIN_LATER, message, socketPath, { cause: error });
}

function readAnswer(text: string): Fields {
  const answer = Fields.parse(text, 'the answer of the DHCP daemon');
  const error = answer.fields('error');
  if (error !== undefined)
    throw new CniError(
      error.integer('code') ?? CNI_ERROR.INTERNAL,
      error.string('msg') ?? 'DHCP daemon failed',
      error.string('details') ?? '',
    );
  return answer.fields('result') ?? new Fields({}, 'result');
}
