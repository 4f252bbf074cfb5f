// What the relay's threads are told. Descriptors go over as numbers: threads of one process share them.

export interface RelayEndpoint {
  /** `10.0.0.1:80`. */
  name: string;
  /** struct sockaddr. */
  address: Uint8Array;
}

export interface OpenListener {
  op: 'open';
  id: number;
  protocol: 'TCP' | 'UDP';
  fd: number;
  /** Which of the shared turn counters this listener uses. */
  turn: number;
  affinityMs: number;
  udpIdleMs: number;
  endpoints: RelayEndpoint[];
}

export type RelayRequest =
  | OpenListener
  | { op: 'endpoints'; id: number; endpoints: RelayEndpoint[] }
  /** Answered by `closed`: only then may the descriptor be closed and its number be used again. */
  | { op: 'close'; id: number }
  /** The thread ends when its last connection has; its listeners were closed before. */
  | { op: 'drain' }
  | { op: 'stop' };

export type RelayReply = { op: 'closed'; id: number } | { op: 'failed'; message: string };

/** Given to a thread when it starts. */
export interface RelayThreadOptions {
  wakeFd: number;
  /** Uint32 counters shared by all threads: a turn for each listener. */
  turns: SharedArrayBuffer;
  /** Int32, one block of STATS.length for each thread. */
  stats: SharedArrayBuffer;
  statsOffset: number;
  maxConnections: number;
  /** The namespace that connections are made in; the process's own when absent. */
  netnsFd?: number;
}

/** Gauges and counters of one thread, in this order. */
export const STATS = ['active', 'accepted', 'failed', 'retried', 'udpSessions', 'spliced'] as const;
export type RelayStats = Record<(typeof STATS)[number], number>;
