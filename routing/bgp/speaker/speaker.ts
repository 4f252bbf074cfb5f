// The BGP speaker: neighbours, tables, decision, export, and the way to the kernel, put together.
//
//   Peer ──UPDATE──▶ Receiver ──▶ Rib (all paths) ──dirty nets──▶ flush, once per turn of the event loop:
//                                                                   LocRib.choose ─▶ AdjRibOut (one a group) ─▶ Peers
//                                                                                └─▶ RouteSink ─▶ kernel
// Everything runs on one thread and in this order, so nothing is locked. Configuration is replaced as a whole; what
// need not reset a session does not.
import type { Socket } from 'node:net';
import { canonicalIp } from '../../../src/lib/ip.ts';
import type { Logger } from '../../../src/observe/log.ts';
import type { SessionEnd } from '../fsm/events.ts';
import type { Negotiated } from '../fsm/negotiate.ts';
import { FAMILIES } from '../packet/context.ts';
import { BgpMessageError } from '../packet/error.ts';
import { CEASE, ERROR } from '../packet/iana.ts';
import { cease, ceaseWithText, hardReset } from '../packet/message/notification.ts';
import { encodeRouteRefresh, type RouteRefreshMessage } from '../packet/message/route-refresh.ts';
import type { AttributeStore } from '../rib/attribute-store.ts';
import type { PathSource } from '../rib/path-source.ts';
import { Peer, type PeerHandler } from '../session/peer.ts';
import type { PeerConfig } from '../session/peer-config.ts';
import { dynamicPeerAt, neighbourAt } from './admission.ts';
import { exportContextOf, importContextOf } from './contexts.ts';
import type { ExportGroups } from './export-groups.ts';
import { type ImportContext, reimport } from './import.ts';
import { Listeners } from './listeners.ts';
import { matchPeers } from './match-peers.ts';
import { Neighbour } from './neighbour.ts';
import type { NextHops } from './next-hops.ts';
import { localOpen } from './open.ts';
import { Originated } from './originated.ts';
import { PathWatcher } from './path-watcher.ts';
import { Receiver, ReceiveScratch } from './receive.ts';
import { takeRefresh } from './refresh.ts';
import { RouteFlow } from './route-flow.ts';
import type { OriginatedRoute, SpeakerConfig } from './speaker-config.ts';
import type { PathState, SpeakerOptions } from './speaker-options.ts';
import { StartDeferral } from './start-deferral.ts';

const COLLECT_EVERY_MS = 30_000;

export class Speaker implements PeerHandler {
  config: SpeakerConfig;
  readonly store: AttributeStore;
  readonly ribs: RouteFlow['ribs'];
  readonly locRibs: RouteFlow['locRibs'];
  readonly nextHops: NextHops;
  /** By source index; 0 is our own. */
  readonly sources: (PathSource | undefined)[];
  readonly neighbours = new Map<string, Neighbour>();
  readonly startedAtMs = Date.now();
  readonly #options: SpeakerOptions;
  readonly #log: Logger;
  readonly #byPeer = new Map<Peer, Neighbour>();
  readonly #flow: RouteFlow;
  readonly #groups: ExportGroups;
  readonly #receiveScratch = new ReceiveScratch();
  readonly #originated: Originated;
  readonly #listeners: Listeners;
  readonly #deferral: StartDeferral;
  readonly #paths: PathWatcher;
  #running = false;
  #collector: NodeJS.Timeout | undefined;

  constructor(options: SpeakerOptions) {
    this.#options = options;
    this.config = options.config;
    this.#log = options.log;
    this.#flow = new RouteFlow({ resolver: options.resolver, sink: options.sink });
    this.store = this.#flow.store;
    this.ribs = this.#flow.ribs;
    this.locRibs = this.#flow.locRibs;
    this.nextHops = this.#flow.nextHops;
    this.sources = this.#flow.sources;
    this.#groups = this.#flow.groups;
    this.#listeners = new Listeners(options.transport, socket => this.#accept(socket));
    this.#originated = new Originated(this.locRibs);
    this.#paths = new PathWatcher(options.bfd, options.log);
    this.#deferral = new StartDeferral(held => this.#heardAll(held));
  }

  /** Whether everything was heard after a restart; until then the R bit is set and End-of-RIB is held back. */
  get complete(): boolean {
    return this.#deferral.complete;
  }

  async start(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    this.#flow.start();
    this.#deferral.start(this.#options.restarting === true, this.#options.deferralMs);
    await this.#listeners.apply(this.config.listen);
    this.#originated.apply(this.config.originate);
    this.#applyPeers();
    this.#collector = setInterval(() => this.store.collect(), COLLECT_EVERY_MS);
    this.#collector.unref();
  }

  /** `keepRoutes` leaves peers and kernel believing that we come back (RFC 4724); otherwise all is taken down. */
  async stop(options: { keepRoutes?: boolean; text?: string } = {}): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    this.#deferral.stop();
    clearInterval(this.#collector);
    this.#listeners.close();
    const shutdown = ceaseWithText(CEASE.ADMIN_SHUTDOWN, options.text ?? '');
    for (const neighbour of [...this.neighbours.values()]) {
      const { peer } = neighbour;
      const hard = peer.negotiated?.gracefulNotification === true;
      if (options.keepRoutes === true) {
        peer.abandon();
        neighbour.cancelStale();
      } else {
        peer.stop(hard ? hardReset(shutdown) : shutdown);
        neighbour.removeRoutes();
      }
    }
    if (options.keepRoutes !== true) this.#originated.apply([]);
    this.#flow.stop();
    if (options.keepRoutes !== true) this.#flow.flush();
  }

  /** Replaces the configuration. Sessions are reset only for what they negotiated. */
  async configure(config: SpeakerConfig): Promise<void> {
    const before = this.config;
    this.config = config;
    if (!this.#running) return;
    const identity = (c: SpeakerConfig): string => `${c.asn} ${c.routerId}`;
    if (identity(before) !== identity(config))
      for (const name of [...this.neighbours.keys()]) this.#remove(name, CEASE.CONFIGURATION_CHANGE);
    await this.#listeners.apply(config.listen);
    this.#originated.apply(this.config.originate);
    this.#applyPeers();
    if (before.clusterId !== config.clusterId)
      for (const neighbour of this.neighbours.values()) {
        this.#reimport(neighbour);
        this.#regroup(neighbour);
      }
  }

  /** Next hops may resolve otherwise now (a link went, an address came). */
  nextHopsChanged(): void {
    this.#flow.nextHopsChanged();
  }

  /** Hands every route to the sink again: pools, and so tunnels, have changed. */
  reprogram(): void {
    this.#flow.reprogram();
  }

  /** BFD lost the path (RFC 5882): sessions over it end now instead of at their hold timers, and their routes go. */
  pathDown(address: string): void {
    for (const { peer } of [...this.neighbours.values()])
      if (peer.config.address === address && peer.config.bfd !== undefined) peer.bfdDown();
  }

  /** What BFD says about the path to a peer; undefined when it is not watched. */
  pathState(address: string): PathState | undefined {
    return this.#paths.state(address);
  }

  /** Asks a peer for its routes again (RFC 2918); all of them when no name is given. */
  requestRefresh(name?: string): void {
    for (const { peer } of this.neighbours.values())
      if ((name === undefined || peer.name === name) && peer.negotiated?.routeRefresh === true)
        for (const family of peer.negotiated.families) peer.send(encodeRouteRefresh(family));
  }

  /** Resolves once everything received so far has been worked in. */
  settled(): Promise<void> {
    return new Promise(resolve => setImmediate(() => setImmediate(resolve)));
  }

  originatedRoutes(): readonly OriginatedRoute[] {
    return this.#originated.list();
  }

  importContext(neighbour: Neighbour): ImportContext {
    return importContextOf(this.config, neighbour, this.#options.isOwnAddress);
  }

  // --- neighbours -----------------------------------------------------------

  #applyPeers(): void {
    const configured = [...this.neighbours.values()].filter(({ dynamic }) => !dynamic);
    const { gone, kept, fresh } = matchPeers(
      configured.map(({ peer }) => peer.config),
      this.config.peers,
    );
    for (const { name, subcode } of gone) this.#remove(name, subcode);
    for (const { name, config } of kept) this.#update(this.neighbours.get(name)!, config);
    for (const config of fresh) this.#add(config, false);
  }

  #add(config: PeerConfig, dynamic: boolean): Neighbour {
    const free = this.sources.indexOf(undefined);
    const index = free < 0 ? this.sources.length : free;
    const peer = new Peer({
      config,
      open: () => localOpen(this.config, peer.config, !this.complete),
      handler: this,
      transport: this.#options.transport,
      log: this.#log,
    });
    const source: PathSource = {
      index,
      kind: 'external',
      name: config.name,
      address: config.address,
      asn: config.asn ?? 0,
      routerId: 0,
      reflectorClient: config.reflectorClient === true,
    };
    this.sources[index] = source;
    const neighbour = new Neighbour({ peer, index, dynamic, source, ribs: this.ribs });
    this.neighbours.set(config.name, neighbour);
    this.#byPeer.set(peer, neighbour);
    this.#listeners.setPassword(config, true);
    peer.start();
    return neighbour;
  }

  #remove(name: string, subcode: number): void {
    const neighbour = this.neighbours.get(name);
    if (neighbour === undefined) return;
    const hard = neighbour.peer.negotiated?.gracefulNotification === true;
    neighbour.peer.stop(hard ? hardReset(cease(subcode)) : cease(subcode));
    neighbour.removeRoutes();
    // The index is free once no path refers to it, which removeRoutes saw to.
    this.sources[neighbour.index] = undefined;
    this.neighbours.delete(name);
    this.#byPeer.delete(neighbour.peer);
    this.#listeners.setPassword(neighbour.peer.config, false);
  }

  /** Live changes: name, policies, limits, and whether it is our client. */
  #update(neighbour: Neighbour, config: PeerConfig): void {
    const before = neighbour.peer.config;
    if (before.password !== config.password && !this.#rekey(neighbour, config)) {
      this.#remove(before.name, CEASE.CONFIGURATION_CHANGE);
      this.#add(config, false);
      return;
    }
    neighbour.peer.config = config;
    const { negotiated } = neighbour.peer;
    const differs = (of: (config: PeerConfig) => unknown): boolean =>
      JSON.stringify(of(before)) !== JSON.stringify(of(config));
    const otherSource = differs(({ name, reflectorClient }) => [name, reflectorClient === true]);
    if (otherSource) this.#renew(neighbour, before.name);
    if (otherSource || differs(one => [one.importPolicy, one.allowOwnAs, one.enforceFirstAs]))
      this.#reimport(neighbour);
    if (negotiated !== undefined && differs(({ bfd }) => bfd)) {
      this.#paths.unwatch(before.address);
      this.#paths.watch(neighbour.peer);
    }
    if (differs(one => [one.exportPolicy, one.nextHopMode, one.sharedSubnets, one.reflectorClient === true]))
      this.#regroup(neighbour);
  }

  /**
   * Another password for a session that goes on (Linux 5.9 and later): until the peer has it too neither hears the other,
   * and TCP sends again. False where the kernel does not do it.
   */
  #rekey({ peer }: Neighbour, config: PeerConfig): boolean {
    try {
      peer.setPassword(config.password);
    } catch (error) {
      this.#log.warn(
        { peer: peer.name, error },
        'the password of a live session cannot be changed; it is reset',
      );
      return false;
    }
    this.#listeners.setPassword(peer.config, false);
    this.#listeners.setPassword(config, true);
    this.#log.info({ peer: peer.name }, 'another password for the session');
    return true;
  }

  /** The source of its paths is called otherwise, or is a client now: who is told of them is judged again. */
  #renew(neighbour: Neighbour, before: string): void {
    const { name, reflectorClient } = neighbour.peer.config;
    this.neighbours.delete(before);
    this.neighbours.set(name, neighbour);
    neighbour.source = { ...neighbour.source, name, reflectorClient: reflectorClient === true };
    this.sources[neighbour.index] = neighbour.source;
    for (const family of FAMILIES) {
      const rib = this.ribs[family];
      rib.forEachPath(path => {
        if (rib.source[path] === neighbour.index) rib.touch(rib.netOf[path]!);
      });
    }
  }

  /** What it is told changed in kind: it hears of the differences. */
  #regroup(neighbour: Neighbour): void {
    const { negotiated } = neighbour.peer;
    if (negotiated === undefined) return;
    // Chosen paths must be current.
    this.#flow.flush();
    this.#groups.move(neighbour, negotiated, exportContextOf(this.config, neighbour, negotiated));
  }

  /** Import policy changed: the paths are all there, unfiltered, so no refresh is needed. */
  #reimport(neighbour: Neighbour): void {
    if (neighbour.receiver === undefined) return;
    const context = this.importContext(neighbour);
    neighbour.receiver.context = context;
    for (const family of FAMILIES) reimport(this.ribs[family], context);
  }

  #accept(socket: Socket): void {
    const address = canonicalIp(socket.remoteAddress ?? '') ?? '';
    const neighbour = neighbourAt(this.neighbours.values(), address) ?? this.#admitDynamic(address);
    if (neighbour === undefined) {
      this.#log.warn({ address }, 'connection from an address that is no configured peer');
      socket.on('error', () => undefined).destroy();
      return;
    }
    const { ttlSecurityHops } = neighbour.peer.config;
    if (
      ttlSecurityHops !== undefined &&
      !this.#options.transport.secureAccepted(socket, 256 - ttlSecurityHops)
    ) {
      this.#log.warn({ address, ttlSecurityHops }, 'connection from further away than TTL security allows');
      socket.on('error', () => undefined).destroy();
      return;
    }
    neighbour.peer.accept(socket);
  }

  #admitDynamic(address: string): Neighbour | undefined {
    const config = dynamicPeerAt(this.config.dynamicPeers, this.neighbours.values(), address);
    return config && this.#add(config, true);
  }

  // --- sessions (PeerHandler) -----------------------------------------------

  established(peer: Peer, negotiated: Negotiated): void {
    const neighbour = this.#byPeer.get(peer);
    if (neighbour === undefined) return;
    neighbour.source = {
      ...neighbour.source,
      kind: negotiated.external ? 'external' : 'internal',
      asn: negotiated.peer.asn,
      routerId: negotiated.peer.routerId,
    };
    this.sources[neighbour.index] = neighbour.source;
    neighbour.receiver = new Receiver({
      ribs: this.ribs,
      store: this.store,
      negotiated,
      context: this.importContext(neighbour),
      scratch: this.#receiveScratch,
      hooks: {
        endOfRib: family => {
          neighbour.finished(family);
          this.#deferral.check(this.neighbours.values());
        },
        problems: problems => {
          neighbour.malformed += problems.length;
          this.#log.warn({ peer: peer.name, problems }, 'malformed path attributes');
        },
      },
    });
    neighbour.resumed(negotiated);
    this.#paths.watch(peer);
    this.#joinGroups(neighbour, negotiated, this.complete);
    this.#deferral.check(this.neighbours.values());
  }

  update(peer: Peer, buffer: Buffer, start: number, end: number): void {
    const neighbour = this.#byPeer.get(peer);
    neighbour?.receiver?.update(buffer, start, end);
    const limit = peer.config.maxPrefixes;
    if (limit !== undefined && neighbour !== undefined && neighbour.receivedTotal > limit)
      throw new BgpMessageError(
        ERROR.CEASE,
        CEASE.MAX_PREFIXES,
        'prefixes',
        start,
        `the peer announced more than ${limit} prefixes`,
      );
  }

  refresh(peer: Peer, message: RouteRefreshMessage): void {
    const neighbour = this.#byPeer.get(peer);
    if (neighbour !== undefined) takeRefresh(neighbour, message, this.ribs);
  }

  down(peer: Peer, end: SessionEnd): void {
    const neighbour = this.#byPeer.get(peer);
    if (neighbour === undefined) return;
    const negotiated = neighbour.receiver?.negotiated;
    neighbour.receiver = undefined;
    this.#paths.unwatch(peer.config.address);
    this.#groups.leave(neighbour);
    neighbour.ended(end, negotiated);
    if (neighbour.dynamic && this.#running)
      setImmediate(() => {
        if (peer.state !== 'Established' && neighbour.staleSinceMs === undefined)
          this.#remove(peer.name, CEASE.PEER_DECONFIGURED);
      });
  }

  drained(peer: Peer): void {
    const neighbour = this.#byPeer.get(peer);
    if (neighbour === undefined) return;
    for (const group of neighbour.groups.values()) group.drain(neighbour.member);
  }

  // --- export groups ----------------------------------------------------------

  #joinGroups(neighbour: Neighbour, negotiated: Negotiated, endOfRib: boolean): void {
    // Chosen paths must be current before a newcomer is told of them.
    this.#flow.flush();
    this.#groups.join(neighbour, negotiated, exportContextOf(this.config, neighbour, negotiated), endOfRib);
  }

  #heardAll(held: boolean): void {
    this.#flow.flush();
    if (held) this.#groups.endOfRib(this.neighbours.values());
    this.#options.sink?.complete();
  }
}
