// One BFD session, RFC 5880 section 6.8: asynchronous mode, no echo, no demand. Pure: packets and the time go in,
// packets and state changes come out, `deadlineMs` says when to come again.
import { type BfdPacket, type BfdState, DIAGNOSTIC } from './packet.ts';

export interface BfdOptions {
  readonly discriminator: number;
  readonly transmitMs: number;
  readonly receiveMs: number;
  readonly multiplier: number;
  /** 0..1, section 6.8.7's jitter. */
  readonly random: () => number;
}

export interface BfdResult {
  readonly send: readonly BfdPacket[];
  /** The state when it changed, and the diagnostic that says why. */
  readonly changed: BfdState | undefined;
  readonly diagnostic: number;
  /** The peer went AdminDown: it says nothing about the path, so nobody must lose a session (RFC 5882 section 3.2). */
  readonly administrative: boolean;
}

/** Section 6.8.3: not faster than this while the session is not up. */
const SLOW_TRANSMIT_MS = 1000;

export class BfdSession {
  readonly #options: BfdOptions;
  #state: BfdState = 'Down';
  #diagnostic: number = DIAGNOSTIC.NONE;
  #remoteDiscriminator = 0;
  #remoteReceiveMs = 1;
  #remoteTransmitMs = 0;
  #remoteMultiplier = 0;
  #detectDeadlineMs = Number.POSITIVE_INFINITY;
  #sendDeadlineMs = 0;
  /** A poll sequence (section 6.5) announces that we now send faster. */
  #polling = false;

  constructor(options: BfdOptions) {
    this.#options = options;
  }

  get state(): BfdState {
    return this.#state;
  }

  get discriminator(): number {
    return this.#options.discriminator;
  }

  get deadlineMs(): number {
    return Math.min(this.#sendDeadlineMs, this.#detectDeadlineMs);
  }

  /** Section 6.8.4: the peer's multiplier times the slower of its sending and our receiving. */
  get detectionMs(): number {
    return this.#remoteMultiplier * Math.max(this.#options.receiveMs, this.#remoteTransmitMs);
  }

  get #transmitMs(): number {
    const { transmitMs } = this.#options;
    return this.#state === 'Up' ? transmitMs : Math.max(transmitMs, SLOW_TRANSMIT_MS);
  }

  #packet(final: boolean): BfdPacket {
    return {
      diagnostic: this.#diagnostic,
      state: this.#state,
      poll: this.#polling && !final,
      final,
      multiplier: this.#options.multiplier,
      myDiscriminator: this.#options.discriminator,
      yourDiscriminator: this.#remoteDiscriminator,
      desiredTransmitUs: this.#transmitMs * 1000,
      requiredReceiveUs: this.#options.receiveMs * 1000,
    };
  }

  /** Section 6.8.7: 75 to 100 % of the interval, at most 90 % with a multiplier of one. */
  #scheduleSend(nowMs: number): void {
    const interval = Math.max(this.#transmitMs, this.#remoteReceiveMs);
    const top = this.#options.multiplier === 1 ? 0.15 : 0.25;
    this.#sendDeadlineMs = nowMs + interval * (0.75 + top * this.#options.random());
  }

  /** Call when the deadline has passed. */
  timer(nowMs: number): BfdResult {
    const send: BfdPacket[] = [];
    let changed: BfdState | undefined;
    if (nowMs >= this.#detectDeadlineMs) {
      this.#detectDeadlineMs = Number.POSITIVE_INFINITY;
      this.#remoteDiscriminator = 0;
      if (this.#state === 'Init' || this.#state === 'Up')
        changed = this.#become('Down', DIAGNOSTIC.DETECTION_TIME_EXPIRED);
    }
    if (nowMs >= this.#sendDeadlineMs || changed !== undefined) {
      // Section 6.8.7: nothing is sent to a peer that says it wants nothing.
      if (this.#remoteReceiveMs > 0) send.push(this.#packet(false));
      this.#scheduleSend(nowMs);
    }
    return { send, changed, diagnostic: this.#diagnostic, administrative: false };
  }

  /** Section 6.8.6, after the packet was decoded and found to be for this session. */
  received(packet: BfdPacket, nowMs: number): BfdResult {
    this.#remoteDiscriminator = packet.myDiscriminator;
    this.#remoteReceiveMs = packet.requiredReceiveUs / 1000;
    this.#remoteTransmitMs = packet.desiredTransmitUs / 1000;
    this.#remoteMultiplier = packet.multiplier;
    if (packet.final) this.#polling = false;
    this.#detectDeadlineMs = nowMs + this.detectionMs;
    const changed = this.#advance(packet.state);
    const send: BfdPacket[] = [];
    if (packet.poll) send.push(this.#packet(true));
    if (changed !== undefined) {
      this.#polling = changed === 'Up';
      send.push(this.#packet(false));
      this.#scheduleSend(nowMs);
    }
    return {
      send,
      changed,
      diagnostic: this.#diagnostic,
      administrative: changed === 'Down' && packet.state === 'AdminDown',
    };
  }

  /** The state machine of section 6.2. */
  #advance(remote: BfdState): BfdState | undefined {
    if (this.#state === 'AdminDown') return undefined;
    if (remote === 'AdminDown')
      return this.#state === 'Down' ? undefined : this.#become('Down', DIAGNOSTIC.NEIGHBOUR_DOWN);
    if (this.#state === 'Down') {
      if (remote === 'Down') return this.#become('Init', DIAGNOSTIC.NONE);
      return remote === 'Init' ? this.#become('Up', DIAGNOSTIC.NONE) : undefined;
    }
    if (this.#state === 'Init')
      return remote === 'Init' || remote === 'Up' ? this.#become('Up', DIAGNOSTIC.NONE) : undefined;
    return remote === 'Down' ? this.#become('Down', DIAGNOSTIC.NEIGHBOUR_DOWN) : undefined;
  }

  #become(state: BfdState, diagnostic: number): BfdState {
    this.#state = state;
    this.#diagnostic = diagnostic;
    return state;
  }

  /** The packet that tells the peer that we go down on purpose; it must not take that for a failure. */
  adminDown(): BfdPacket {
    this.#become('AdminDown', DIAGNOSTIC.ADMIN_DOWN);
    this.#sendDeadlineMs = Number.POSITIVE_INFINITY;
    this.#detectDeadlineMs = Number.POSITIVE_INFINITY;
    return this.#packet(false);
  }
}
