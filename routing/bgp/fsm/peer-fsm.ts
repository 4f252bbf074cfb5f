// The BGP finite state machine of one neighbour, RFC 4271 section 8, with both connections of a collision in one place
// (section 6.8). No I/O and no clock: events and the time go in, actions come out, `deadlineMs` says when to come again.
import { CEASE, ERROR, FSM_ERROR } from '../packet/iana.ts';
import { encodeKeepalive } from '../packet/message/keepalive.ts';
import {
  describeNotification,
  encodeNotification,
  type NotificationMessage,
} from '../packet/message/notification.ts';
import { encodeOpen, type OpenMessage } from '../packet/message/open.ts';
import type { ConnectionId, FsmAction, FsmEvent, SessionEnd, SessionState } from './events.ts';
import { type Negotiated, negotiate } from './negotiate.ts';
import { refuseOpen } from './refuse-open.ts';

export interface FsmOptions {
  /** Our OPEN; a function because the R bit of graceful restart changes with time. */
  readonly open: () => OpenMessage;
  /** Undefined accepts any AS (dynamic neighbours). */
  readonly peerAsn: number | undefined;
  /** Never connects, only accepts. */
  readonly passive: boolean;
  /** Upper limit of the growing time between attempts (ConnectRetryTime). */
  readonly connectRetryMs: number;
  /** 0..1, spreads the attempts (RFC 4271 section 10). */
  readonly random: () => number;
}

/** RFC 4271 section 8.2.2 suggests four minutes until the OPEN; a peer that accepts and stays silent holds us less. */
const OPEN_WAIT_MS = 30_000;
const FIRST_RETRY_MS = 100;
/** A session that lived this long forgets its earlier failures. */
const STABLE_MS = 10_000;
const CONNECT_TIMEOUT_MS = 10_000;

interface Connection {
  readonly id: ConnectionId;
  readonly outgoing: boolean;
  state: 'OpenSent' | 'OpenConfirm' | 'Established';
  negotiated: Negotiated | undefined;
  /** Hold timer, or the wait for an OPEN; infinite when there is none. */
  holdDeadlineMs: number;
  keepaliveDeadlineMs: number;
  establishedAtMs: number;
}

const notice = (code: number, subcode: number, data = new Uint8Array(0)): NotificationMessage => ({
  code,
  subcode,
  data,
});

export class PeerFsm {
  readonly #options: FsmOptions;
  readonly #connections = new Map<ConnectionId, Connection>();
  #started = false;
  #connecting = false;
  #retryDeadlineMs = Number.POSITIVE_INFINITY;
  #failures = 0;
  #actions: FsmAction[] = [];

  constructor(options: FsmOptions) {
    this.#options = options;
  }

  get state(): SessionState {
    let state: SessionState = 'Idle';
    if (this.#started) state = this.#connecting ? 'Connect' : this.#idle ? 'Idle' : 'Active';
    for (const connection of this.#connections.values()) {
      if (connection.state === 'Established') return 'Established';
      if (connection.state === 'OpenConfirm' || state !== 'OpenConfirm') state = connection.state;
    }
    return state;
  }

  /** Waiting out the time after a failure; an incoming connection is taken all the same. */
  get #idle(): boolean {
    return !this.#options.passive && this.#failures > 0;
  }

  /** When to call handle with a timer event. */
  get deadlineMs(): number {
    let deadline = this.#connections.size === 0 || this.#connecting ? this.#retryDeadlineMs : Infinity;
    for (const c of this.#connections.values())
      deadline = Math.min(deadline, c.holdDeadlineMs, c.keepaliveDeadlineMs);
    return deadline;
  }

  /** Any complete message restarts the hold timer; called on the receive path instead of an event. */
  received(id: ConnectionId, nowMs: number): void {
    const connection = this.#connections.get(id);
    if (connection === undefined || connection.state === 'OpenSent') return;
    const holdTimeMs = connection.negotiated?.holdTimeMs ?? 0;
    if (holdTimeMs > 0) connection.holdDeadlineMs = nowMs + holdTimeMs;
  }

  handle(event: FsmEvent, nowMs: number): FsmAction[] {
    this.#actions = [];
    switch (event.type) {
      case 'start':
        if (!this.#started) {
          this.#started = true;
          this.#failures = 0;
          this.#connect(nowMs);
        }
        break;
      case 'stop':
        this.#stop(event.notification);
        break;
      case 'connected':
        this.#connecting = false;
        this.#retryDeadlineMs = Infinity;
        this.#open(event.connection, true, nowMs);
        break;
      case 'connect-failed':
        this.#connecting = false;
        this.#fail(event.reason, nowMs);
        break;
      case 'accepted':
        this.#accept(event.connection, nowMs);
        break;
      case 'timer':
        this.#timer(nowMs);
        break;
      case 'bfd-down': {
        const session = this.#established();
        if (session !== undefined)
          this.#end(session, nowMs, {
            reason: 'BFD says the path is down',
            sent: notice(ERROR.CEASE, CEASE.BFD_DOWN),
            graceful: false,
          });
        break;
      }
      default:
        this.#message(event, nowMs);
    }
    return this.#actions;
  }

  #message(event: Extract<FsmEvent, { connection: ConnectionId }>, nowMs: number): void {
    const connection = this.#connections.get(event.connection);
    if (connection === undefined) return;
    switch (event.type) {
      case 'open':
        this.#openReceived(connection, event.open, nowMs);
        return;
      case 'keepalive':
        if (connection.state === 'OpenSent') this.#unexpected(connection, 'KEEPALIVE', nowMs);
        else if (connection.state === 'OpenConfirm') this.#establish(connection, nowMs);
        return;
      case 'unexpected':
        this.#unexpected(connection, event.message, nowMs);
        return;
      case 'notification': {
        const { notification } = event;
        this.#end(connection, nowMs, {
          reason: `received ${describeNotification(notification)}`,
          received: notification,
          graceful: this.#survivesNotification(connection, notification),
        });
        return;
      }
      case 'error':
        this.#end(connection, nowMs, {
          reason: event.reason,
          sent: event.notification,
          graceful: this.#survivesNotification(connection, event.notification),
        });
        return;
      case 'closed':
        this.#end(connection, nowMs, { reason: event.reason, graceful: true });
        return;
      default:
    }
  }

  /** RFC 8538 section 4: with the N bit everything but a Cease/Hard Reset keeps the routes; RFC 4724: none does. */
  #survivesNotification({ negotiated }: Connection, notification: NotificationMessage): boolean {
    const hard = notification.code === ERROR.CEASE && notification.subcode === CEASE.HARD_RESET;
    return negotiated?.gracefulNotification === true && !hard;
  }

  #connect(nowMs: number): void {
    if (!this.#started || this.#options.passive || this.#connecting) return;
    this.#connecting = true;
    this.#retryDeadlineMs = nowMs + CONNECT_TIMEOUT_MS;
    this.#actions.push({ type: 'connect' });
  }

  #scheduleRetry(nowMs: number): void {
    const step = Math.min(this.#options.connectRetryMs, FIRST_RETRY_MS * 2 ** Math.min(this.#failures, 16));
    this.#failures++;
    // RFC 4271 section 10: between 0.75 and 1 of the time.
    this.#retryDeadlineMs = nowMs + step * (0.75 + 0.25 * this.#options.random());
  }

  #fail(reason: string, nowMs: number): void {
    this.#actions.push({ type: 'failed', reason });
    if (this.#started && this.#connections.size === 0) this.#scheduleRetry(nowMs);
  }

  #open(id: ConnectionId, outgoing: boolean, nowMs: number): void {
    if (!this.#started) {
      this.#actions.push({ type: 'close', connection: id });
      return;
    }
    this.#connections.set(id, {
      id,
      outgoing,
      state: 'OpenSent',
      negotiated: undefined,
      holdDeadlineMs: nowMs + OPEN_WAIT_MS,
      keepaliveDeadlineMs: Infinity,
      establishedAtMs: 0,
    });
    this.#actions.push({ type: 'send', connection: id, bytes: encodeOpen(this.#options.open()) });
  }

  #accept(id: ConnectionId, nowMs: number): void {
    const session = this.#established();
    const earlier = [...this.#connections.values()].find(c => !c.outgoing && c !== session);
    if (session !== undefined && session.negotiated?.gracefulRestart === undefined) {
      // RFC 4271 section 6.8: the established one wins.
      this.#refuse(id, notice(ERROR.CEASE, CEASE.CONNECTION_COLLISION));
      return;
    }
    if (!this.#started || (earlier !== undefined && earlier.state !== 'OpenSent')) {
      this.#refuse(id, notice(ERROR.CEASE, CEASE.CONNECTION_REJECTED));
      return;
    }
    if (earlier !== undefined) {
      // One that never sent its OPEN does not hold the place of one that will: its peer may have died meanwhile.
      this.#connections.delete(earlier.id);
      this.#refuse(earlier.id, notice(ERROR.CEASE, CEASE.CONNECTION_REJECTED));
    }
    this.#open(id, false, nowMs);
  }

  #refuse(id: ConnectionId, notification: NotificationMessage): void {
    this.#actions.push(
      { type: 'send', connection: id, bytes: encodeNotification(notification) },
      { type: 'close', connection: id },
    );
  }

  #openReceived(connection: Connection, open: OpenMessage, nowMs: number): void {
    if (connection.state !== 'OpenSent') {
      this.#unexpected(connection, 'OPEN', nowMs);
      return;
    }
    const local = this.#options.open();
    const wrong = refuseOpen(local, open, this.#options.peerAsn);
    if (wrong !== undefined) {
      this.#end(connection, nowMs, { reason: wrong.reason, sent: wrong.notification, graceful: false });
      return;
    }
    if (!this.#survivesCollision(connection, local, open, nowMs)) return;
    const negotiated = negotiate(local, open);
    connection.negotiated = negotiated;
    connection.state = 'OpenConfirm';
    const { holdTimeMs } = negotiated;
    connection.holdDeadlineMs = holdTimeMs === 0 ? Infinity : nowMs + holdTimeMs;
    connection.keepaliveDeadlineMs = holdTimeMs === 0 ? Infinity : nowMs + holdTimeMs / 3;
    this.#actions.push({ type: 'send', connection: connection.id, bytes: encodeKeepalive() });
  }

  /** RFC 4271 section 6.8, decided when an OPEN tells the identifier. False when this connection was the one to go. */
  #survivesCollision(connection: Connection, local: OpenMessage, open: OpenMessage, nowMs: number): boolean {
    const collision = notice(ERROR.CEASE, CEASE.CONNECTION_COLLISION);
    for (const other of [...this.#connections.values()]) {
      if (other === connection) continue;
      if (other.state === 'Established') {
        // RFC 4724 section 4.2: a restarted peer comes again before its old connection is seen to be dead.
        this.#connections.delete(other.id);
        this.#actions.push(
          { type: 'close', connection: other.id },
          { type: 'down', reason: 'the peer opened a new connection', graceful: true },
        );
        continue;
      }
      // RFC 6286 section 2.3: equal identifiers (in different ASes) are decided by the AS number.
      const localWins =
        local.routerId === open.routerId ? local.asn > open.asn : local.routerId > open.routerId;
      const loser = connection.outgoing === localWins ? other : connection;
      this.#connections.delete(loser.id);
      this.#refuse(loser.id, collision);
      if (loser === connection) return false;
    }
    if (this.#connecting) {
      // Our own attempt is still under way; when it wins the race it meets the established session.
      const localWins = local.routerId > open.routerId;
      if (!localWins) {
        this.#connecting = false;
        this.#actions.push({ type: 'abort-connect' });
        this.#retryDeadlineMs = nowMs + this.#options.connectRetryMs;
      }
    }
    return true;
  }

  #establish(connection: Connection, nowMs: number): void {
    connection.state = 'Established';
    connection.establishedAtMs = nowMs;
    if (this.#connecting) {
      this.#connecting = false;
      this.#actions.push({ type: 'abort-connect' });
    }
    for (const other of [...this.#connections.values()])
      if (other !== connection) {
        this.#connections.delete(other.id);
        this.#refuse(other.id, notice(ERROR.CEASE, CEASE.CONNECTION_COLLISION));
      }
    this.#actions.push({
      type: 'established',
      connection: connection.id,
      negotiated: connection.negotiated!,
    });
  }

  #unexpected(connection: Connection, message: string, nowMs: number): void {
    const subcode = {
      OpenSent: FSM_ERROR.IN_OPEN_SENT,
      OpenConfirm: FSM_ERROR.IN_OPEN_CONFIRM,
      Established: FSM_ERROR.IN_ESTABLISHED,
    }[connection.state];
    this.#end(connection, nowMs, {
      reason: `${message} in state ${connection.state}`,
      sent: notice(ERROR.FSM, subcode),
      graceful: false,
    });
  }

  /** Ends one connection; when it was the session, says so; then waits and connects again. */
  #end(connection: Connection, nowMs: number, end: SessionEnd): void {
    this.#connections.delete(connection.id);
    if (end.sent !== undefined)
      this.#actions.push({
        type: 'send',
        connection: connection.id,
        bytes: encodeNotification(end.sent),
      });
    this.#actions.push({ type: 'close', connection: connection.id });
    if (connection.state === 'Established') {
      if (nowMs - connection.establishedAtMs >= STABLE_MS) this.#failures = 0;
      const capable = connection.negotiated?.gracefulRestart !== undefined;
      this.#actions.push({ type: 'down', ...end, graceful: end.graceful && capable });
    } else this.#actions.push({ type: 'failed', reason: end.reason });
    if (this.#started && this.#connections.size === 0 && !this.#connecting) this.#scheduleRetry(nowMs);
  }

  #stop(notification: NotificationMessage): void {
    this.#started = false;
    this.#retryDeadlineMs = Infinity;
    if (this.#connecting) this.#actions.push({ type: 'abort-connect' });
    this.#connecting = false;
    for (const connection of [...this.#connections.values()]) {
      this.#connections.delete(connection.id);
      this.#refuse(connection.id, notification);
      if (connection.state === 'Established')
        this.#actions.push({
          type: 'down',
          reason: `stopped: ${describeNotification(notification)}`,
          sent: notification,
          graceful: false,
        });
    }
  }

  #timer(nowMs: number): void {
    for (const connection of [...this.#connections.values()]) {
      if (nowMs >= connection.holdDeadlineMs) {
        const sent = notice(ERROR.HOLD_TIMER_EXPIRED, 0);
        this.#end(connection, nowMs, {
          reason: connection.state === 'OpenSent' ? 'no OPEN came' : 'hold timer expired',
          sent,
          // RFC 4724: the hold timer means dead; RFC 8538 section 4: with the N bit it may be a restart.
          graceful: this.#survivesNotification(connection, sent),
        });
        continue;
      }
      if (nowMs >= connection.keepaliveDeadlineMs) {
        connection.keepaliveDeadlineMs = nowMs + connection.negotiated!.holdTimeMs / 3;
        this.#actions.push({ type: 'send', connection: connection.id, bytes: encodeKeepalive() });
      }
    }
    if (!this.#started || nowMs < this.#retryDeadlineMs) return;
    this.#retryDeadlineMs = Infinity;
    if (this.#connecting) {
      this.#connecting = false;
      this.#actions.push({ type: 'abort-connect' });
      this.#fail('the connection attempt timed out', nowMs);
    } else if (this.#connections.size === 0) this.#connect(nowMs);
  }

  #established(): Connection | undefined {
    return [...this.#connections.values()].find(c => c.state === 'Established');
  }
}
