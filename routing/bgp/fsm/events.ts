// What goes into the state machine and what comes out of it. Data only.
import type { NotificationMessage } from '../packet/message/notification.ts';
import type { OpenMessage } from '../packet/message/open.ts';
import type { Negotiated } from './negotiate.ts';

/** RFC 4271 section 8.2.2. */
export type SessionState = 'Idle' | 'Connect' | 'Active' | 'OpenSent' | 'OpenConfirm' | 'Established';

/** A TCP connection, numbered by the session. */
export type ConnectionId = number;

export type FsmEvent =
  | { readonly type: 'start' }
  /** Administrative stop, with the Cease to send. */
  | { readonly type: 'stop'; readonly notification: NotificationMessage }
  | { readonly type: 'connected'; readonly connection: ConnectionId }
  | { readonly type: 'connect-failed'; readonly reason: string }
  | { readonly type: 'accepted'; readonly connection: ConnectionId }
  | { readonly type: 'open'; readonly connection: ConnectionId; readonly open: OpenMessage }
  | { readonly type: 'keepalive'; readonly connection: ConnectionId }
  /** An UPDATE or ROUTE-REFRESH that came too early; in Established they do not pass here. */
  | { readonly type: 'unexpected'; readonly connection: ConnectionId; readonly message: string }
  | {
      readonly type: 'notification';
      readonly connection: ConnectionId;
      readonly notification: NotificationMessage;
    }
  /** A malformed message, or any reason of ours to end the session with this NOTIFICATION. */
  | {
      readonly type: 'error';
      readonly connection: ConnectionId;
      readonly notification: NotificationMessage;
      readonly reason: string;
    }
  | { readonly type: 'closed'; readonly connection: ConnectionId; readonly reason: string }
  /** The forwarding path is gone, BFD says (RFC 5882): restart without waiting for the hold timer. */
  | { readonly type: 'bfd-down' }
  /** A deadline may have passed. */
  | { readonly type: 'timer' };

export interface SessionEnd {
  readonly reason: string;
  readonly sent?: NotificationMessage;
  readonly received?: NotificationMessage;
  /** RFC 4724 section 4.2, RFC 8538 section 4: the peer's routes stay for its restart time. */
  readonly graceful: boolean;
}

export type FsmAction =
  | { readonly type: 'connect' }
  | { readonly type: 'abort-connect' }
  | { readonly type: 'send'; readonly connection: ConnectionId; readonly bytes: Buffer }
  | { readonly type: 'close'; readonly connection: ConnectionId }
  | {
      readonly type: 'established';
      readonly connection: ConnectionId;
      readonly negotiated: Negotiated;
    }
  | ({ readonly type: 'down' } & SessionEnd)
  /** A connection ended before it became the session. */
  | { readonly type: 'failed'; readonly reason: string };
