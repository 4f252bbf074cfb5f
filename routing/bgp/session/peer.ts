// One neighbour at work: its state machine, its connections, its timer. Carries out what the machine says and hands
// UPDATEs to the speaker. The receive path bypasses the machine, which hears only that something came.
import type { Socket } from 'node:net';
import type { Logger } from '../../../src/observe/log.ts';
import type { FsmAction, FsmEvent, SessionEnd, SessionState } from '../fsm/events.ts';
import type { Negotiated } from '../fsm/negotiate.ts';
import { PeerFsm } from '../fsm/peer-fsm.ts';
import type { BgpMessageError } from '../packet/error.ts';
import { MESSAGE } from '../packet/iana.ts';
import { decodeNotification, type NotificationMessage } from '../packet/message/notification.ts';
import { decodeOpen, type OpenMessage } from '../packet/message/open.ts';
import { decodeRouteRefresh, type RouteRefreshMessage } from '../packet/message/route-refresh.ts';
import { Connection, type ConnectionHandler } from './connection.ts';
import { BGP_PORT, DEFAULT_CONNECT_RETRY_MS, type PeerConfig } from './peer-config.ts';
import type { Transport } from './transport.ts';

export interface PeerHandler {
  established(peer: Peer, negotiated: Negotiated): void;
  /** May throw BgpMessageError to end the session. */
  update(peer: Peer, buffer: Buffer, start: number, end: number): void;
  refresh(peer: Peer, message: RouteRefreshMessage): void;
  down(peer: Peer, end: SessionEnd): void;
  /** The socket's backlog is out. */
  drained(peer: Peer): void;
}

/** One line of a peer's recent history. */
export interface PeerChange {
  readonly atMs: number;
  readonly state: SessionState;
  readonly reason: string;
}

const HISTORY = 32;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export class Peer implements ConnectionHandler {
  config: PeerConfig;
  /** Set while Established. */
  negotiated: Negotiated | undefined;
  connection: Connection | undefined;
  readonly history: PeerChange[] = [];
  establishedCount = 0;
  /** Wall clock of the last state change, for display. */
  sinceMs = Date.now();
  lastError: string | undefined;
  updatesReceived = 0;
  readonly #fsm: PeerFsm;
  readonly #handler: PeerHandler;
  readonly #transport: Transport;
  readonly #log: Logger;
  readonly #connections = new Map<number, Connection>();
  #connecting: Socket | undefined;
  #nextId = 1;
  /** Set by stop() and abandon(): a timer or socket that is late changes nothing any more. */
  #ended = false;
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #lastState: SessionState = 'Idle';

  constructor(options: {
    config: PeerConfig;
    open: () => OpenMessage;
    handler: PeerHandler;
    transport: Transport;
    log: Logger;
  }) {
    this.config = options.config;
    this.#handler = options.handler;
    this.#transport = options.transport;
    this.#log = options.log.child({ peer: options.config.name });
    this.#fsm = new PeerFsm({
      open: options.open,
      peerAsn: options.config.asn,
      passive: options.config.passive === true,
      connectRetryMs: options.config.connectRetryMs ?? DEFAULT_CONNECT_RETRY_MS,
      random: Math.random,
    });
  }

  get name(): string {
    return this.config.name;
  }

  get state(): SessionState {
    return this.#fsm.state;
  }

  /** The address our end of the session has. */
  get localAddress(): string | undefined {
    return this.connection?.socket.localAddress;
  }

  start(): void {
    this.#ended = false;
    this.#handle({ type: 'start' });
  }

  /** Ends the session with this Cease and stays down. */
  stop(notification: NotificationMessage): void {
    this.#handle({ type: 'stop', notification });
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Goes without a word, as a crash would: a peer with RFC 4724 keeps our routes. */
  abandon(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#connecting?.on('error', () => undefined).destroy();
    for (const connection of this.#connections.values()) connection.close();
    this.#connections.clear();
    this.connection = undefined;
  }

  /** Ends the session with this notification; it comes back by itself. */
  reset(notification: NotificationMessage, reason: string): void {
    if (this.connection !== undefined)
      this.#handle({ type: 'error', connection: this.connection.id, notification, reason });
  }

  /** RFC 2385: from now on with this key; what the peer sent with another one is not heard, and it sends it again. */
  setPassword(key: string | undefined): void {
    const sockets = [...this.#connections.values()].map(({ socket }) => socket);
    for (const socket of this.#connecting === undefined ? sockets : [...sockets, this.#connecting])
      this.#transport.setPassword(socket, this.config.address, key);
  }

  bfdDown(): void {
    this.#handle({ type: 'bfd-down' });
  }

  /** Takes a connection the listener accepted. */
  accept(socket: Socket): void {
    const connection = this.#adopt(socket);
    this.#handle({ type: 'accepted', connection: connection.id });
  }

  send(bytes: Buffer): void {
    this.connection?.send(bytes);
  }

  message(connection: Connection, type: number, buffer: Buffer, start: number, end: number): void {
    if (connection === this.connection && type === MESSAGE.UPDATE) {
      this.updatesReceived++;
      this.#handler.update(this, buffer, start, end);
      return;
    }
    const { id } = connection;
    const message = buffer.subarray(start, end);
    switch (type) {
      case MESSAGE.OPEN:
        this.#handle({ type: 'open', connection: id, open: decodeOpen(message) });
        return;
      case MESSAGE.KEEPALIVE:
        if (connection !== this.connection) this.#handle({ type: 'keepalive', connection: id });
        return;
      case MESSAGE.NOTIFICATION:
        this.#handle({ type: 'notification', connection: id, notification: decodeNotification(message) });
        return;
      default:
        if (connection === this.connection) this.#handler.refresh(this, decodeRouteRefresh(message));
        else
          this.#handle({
            type: 'unexpected',
            connection: id,
            message: type === MESSAGE.UPDATE ? 'UPDATE' : 'ROUTE-REFRESH',
          });
    }
  }

  malformed(connection: Connection, error: BgpMessageError): void {
    this.#handle({
      type: 'error',
      connection: connection.id,
      notification: { code: error.errorCode, subcode: error.errorSubcode, data: error.data },
      reason: error.message,
    });
  }

  received(connection: Connection): void {
    this.#fsm.received(connection.id, performance.now());
  }

  closed(connection: Connection, reason: string): void {
    this.#handle({ type: 'closed', connection: connection.id, reason });
  }

  drained(connection: Connection): void {
    if (connection === this.connection) this.#handler.drained(this);
  }

  #adopt(socket: Socket): Connection {
    const connection = new Connection(this.#nextId++, socket, this);
    this.#connections.set(connection.id, connection);
    return connection;
  }

  #connect(): void {
    const { config } = this;
    let socket: Socket;
    try {
      socket = this.#transport.connect({
        address: config.address,
        port: config.port ?? BGP_PORT,
        localAddress: config.localAddress,
        password: config.password,
        minTtl: config.ttlSecurityHops === undefined ? undefined : 256 - config.ttlSecurityHops,
        ttl: config.multihop,
      });
    } catch (error) {
      const reason = String(error);
      queueMicrotask(() => this.#handle({ type: 'connect-failed', reason }));
      return;
    }
    this.#connecting = socket;
    const failed = (error?: Error): void => {
      if (this.#connecting !== socket) return;
      this.#connecting = undefined;
      socket.destroy();
      this.#handle({ type: 'connect-failed', reason: error?.message ?? 'closed while connecting' });
    };
    socket.once('error', failed);
    socket.once('close', () => failed());
    socket.once('connect', () => {
      if (this.#connecting !== socket) return;
      this.#connecting = undefined;
      socket.removeAllListeners('error').removeAllListeners('close');
      const connection = this.#adopt(socket);
      this.#handle({ type: 'connected', connection: connection.id });
    });
  }

  #handle(event: FsmEvent): void {
    if (this.#ended) return;
    for (const action of this.#fsm.handle(event, performance.now())) this.#perform(action);
    this.#noteState();
    this.#schedule();
  }

  #perform(action: FsmAction): void {
    switch (action.type) {
      case 'connect':
        this.#connect();
        return;
      case 'abort-connect': {
        const socket = this.#connecting;
        this.#connecting = undefined;
        socket?.on('error', () => undefined).destroy();
        return;
      }
      case 'send':
        this.#connections.get(action.connection)?.send(action.bytes);
        return;
      case 'close': {
        const connection = this.#connections.get(action.connection);
        this.#connections.delete(action.connection);
        connection?.close();
        return;
      }
      case 'established': {
        this.connection = this.#connections.get(action.connection);
        if (this.connection !== undefined)
          this.connection.maxMessageBytes = action.negotiated.receive.maxMessageBytes;
        this.negotiated = action.negotiated;
        this.establishedCount++;
        this.#noteState();
        this.#handler.established(this, action.negotiated);
        return;
      }
      case 'down':
        this.connection = undefined;
        this.negotiated = undefined;
        this.lastError = action.reason;
        this.#handler.down(this, action);
        return;
      case 'failed':
        if (this.lastError !== action.reason)
          this.#log.debug({ reason: action.reason }, 'connection attempt failed');
        this.lastError = action.reason;
        return;
      default:
    }
  }

  /** A structured line for every change between up and down; the steps between are history only. */
  #noteState(): void {
    const { state } = this.#fsm;
    if (state === this.#lastState) return;
    const before = this.#lastState;
    this.#lastState = state;
    this.sinceMs = Date.now();
    const reason = state === 'Established' ? 'session established' : (this.lastError ?? '');
    // The steps of attempts that fail the same way again say nothing new.
    const last = this.history.at(-1);
    const settled = state === 'Established' || before === 'Established';
    if (settled || last === undefined || last.reason !== reason || last.state === 'Established') {
      this.history.push({ atMs: this.sinceMs, state, reason });
      if (this.history.length > HISTORY) this.history.shift();
    }
    if (state === 'Established' || before === 'Established')
      this.#log.info({ address: this.config.address, from: before, to: state, reason }, 'session change');
  }

  #schedule(): void {
    const deadline = this.#fsm.deadlineMs;
    if (deadline === this.#timerAtMs && this.#timer !== undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerAtMs = deadline;
    if (deadline === Number.POSITIVE_INFINITY) return;
    const wait = Math.min(Math.max(0, deadline - performance.now()), MAX_TIMEOUT_MS);
    this.#timer = setTimeout(() => {
      // Timers run before sockets are read: after a busy stretch the bytes that keep the session alive may be
      // waiting in the kernel. One turn of the loop reads them before the hold timer is judged.
      setImmediate(() => {
        this.#timer = undefined;
        this.#handle({ type: 'timer' });
      });
    }, wait);
  }
}
