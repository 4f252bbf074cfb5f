// --routing bgp: Calico's model on podwire's speaker. Informers feed a pure plan; the plan configures the speaker; what
// the speaker chooses goes to the reconciler's room 'bgp'. Pods get a routed link each and addresses from the node's blocks.
//
//   pools, peers, filters, configurations ─┐
//   blocks, affinities, Nodes, Services ───┴─▶ planBgp ─▶ Speaker ─▶ FIB ─┐
//                                     └─▶ tunnels, masquerade ────────────┴─▶ KernelReconciler 'bgp'
import { PodwireIpam } from '../../../cni/ipam/podwire/podwire-ipam.ts';
import type { Plugin } from '../../../cni/runtime/plugin.ts';
import { BfdEndpoint } from '../../../routing/bgp/bfd/endpoint.ts';
import {
  type EncapsulationInput,
  routeShape,
  shapeKey,
  tunnelOverheadBytes,
  tunnelState,
} from '../../../routing/bgp/calico/encapsulation.ts';
import type { CalicoInput } from '../../../routing/bgp/calico/input.ts';
import { calicoNode, nodeAddress } from '../../../routing/bgp/calico/node-info.ts';
import { type BgpPlan, describePlan, planBgp } from '../../../routing/bgp/calico/plan.ts';
import type { Pool } from '../../../routing/bgp/calico/pools.ts';
import type { PeerConfig } from '../../../routing/bgp/session/peer-config.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import type { SpeakerConfig } from '../../../routing/bgp/speaker/speaker-config.ts';
import { BGP_ROUTE_METRIC } from '../../../routing/fib/fib-table.ts';
import { ReconcilerRouteSink } from '../../../routing/fib/reconciler-route-sink.ts';
import type { OverlayStatus } from '../../../routing/overlay.ts';
import type { Underlay } from '../../../routing/subnet/underlay.ts';
import { EventRecorder } from '../../client/event-recorder.ts';
import { RESOURCE } from '../../client/resources.ts';
import { type KernelState, ROUTE_PROTOCOL } from '../../kernel/state.ts';
import { canonicalIp } from '../../lib/ip.ts';
import type { Netns } from '../../linux/netns.ts';
import { Rtnetlink } from '../../linux/rtnetlink.ts';
import type { AdminRoutes } from '../../observe/admin-server.ts';
import { createLogger } from '../../observe/log.ts';
import { writeConflist } from '../cni-config.ts';
import type { AgentOptions } from '../options.ts';
import type { PodNetworkParts } from '../overlay-network.ts';
import type { PodNetwork } from '../pod-network.ts';
import type { ServicesFeed } from '../services-feed.ts';
import { NodeAddresses } from './address-source.ts';
import { CalicoObjects } from './calico-objects.ts';
import { IpamGarbageCollector } from './garbage-collector.ts';
import { apiIpamStore } from './ipam-store.ts';
import { kernelNextHops } from './kernel-next-hops.ts';
import { LingeringPeers } from './lingering-peers.ts';
import { bgpMetrics, lookingGlass, nodeStatusBody } from './looking-glass.ts';
import { addressAnnotations } from './node-addresses.ts';
import { NodeStatusWriter } from './node-status.ts';
import { PeerSecrets } from './peer-secrets.ts';
import { planPoolRules } from './pool-rules.ts';
import { ProblemEvents } from './problem-events.ts';
import { TunnelAddresses } from './tunnel-addresses.ts';

export interface BgpNetworkParts extends Omit<PodNetworkParts, 'options' | 'onProblems'> {
  options: Pick<AgentOptions, 'nodeName' | 'nodeIps' | 'cniConfDirectory'>;
  feed: Pick<ServicesFeed, 'services' | 'endpointSlices' | 'onChange' | 'synced'>;
  /** The node's; the current one when absent. */
  netns?: Netns;
}

/** Objects change in bursts; one plan for all of them. */
const PLAN_DELAY_MS = 5;
/** How often routes to next hops are looked at again; BIRD scans as often. */
const NEXT_HOP_SCAN_MS = 2000;
/** Calico advises reflectors from here on; the mesh's sessions grow with the square of the nodes. */
const AUTOMATIC_REFLECTORS_ABOVE = 100;

export class BgpNetwork implements PodNetwork {
  readonly room = 'bgp';
  readonly routes: AdminRoutes;
  readonly plugins: readonly Plugin[];
  readonly #parts: BgpNetworkParts;
  readonly #log = createLogger({ component: 'bgp' });
  readonly #objects: CalicoObjects;
  readonly #ready = Promise.withResolvers<void>();
  readonly #sink: ReconcilerRouteSink;
  readonly #restarting: boolean;
  #speaker: Speaker | undefined;
  #planning: NodeJS.Timeout | undefined;
  #applying: Promise<void> = Promise.resolve();
  #underlay: Underlay;
  #described = '';
  #stopped = false;
  /** What the shape of routes was made from, so that they are made again when it changes. */
  #shapedBy = '';
  /** Of pods, as containerd was told. */
  #podMtuBytes: number | undefined;
  readonly #addresses: NodeAddresses;
  readonly #tunnels: TunnelAddresses;
  readonly #garbage: IpamGarbageCollector;
  readonly #problems: ProblemEvents;
  readonly #secrets: PeerSecrets;
  readonly #statuses: NodeStatusWriter;
  readonly #bfd: BfdEndpoint;
  readonly #lingering = new LingeringPeers();
  #lingerTimer: NodeJS.Timeout | undefined;
  #nextHopTimer: NodeJS.Timeout | undefined;

  constructor(parts: BgpNetworkParts) {
    this.#parts = parts;
    this.#underlay = parts.underlay;
    const { options, client, reconciler, nodes } = parts;
    this.#objects = new CalicoObjects(client, options.nodeName, this.#log);
    this.#restarting = hasRoutesOfBefore(parts.netns);
    this.#sink = new ReconcilerRouteSink({
      setDesired: state => reconciler.setDesired(this.room, state),
      restarting: this.#restarting,
    });
    const store = apiIpamStore(client, this.#objects);
    this.#addresses = new NodeAddresses({
      store,
      nodeName: options.nodeName,
      ready: this.#ready.promise,
      nodeLabels: () => nodes.get(options.nodeName)?.metadata.labels ?? {},
    });
    this.#secrets = new PeerSecrets(client, () => this.#planSoon(), this.#log);
    const events = { client, component: 'podwire-bgp', host: options.nodeName, log: this.#log };
    this.#problems = new ProblemEvents(new EventRecorder(events), this.#log);
    this.#tunnels = new TunnelAddresses({
      nodeName: options.nodeName,
      addresses: this.#addresses,
      annotate: annotations => this.#annotate(annotations),
    });
    this.#statuses = new NodeStatusWriter({
      client,
      nodeName: options.nodeName,
      body: classes => nodeStatusBody(this.#speaker, classes, this.#sink.table, this.#objects.peers()),
      log: this.#log,
    });
    this.#bfd = new BfdEndpoint({
      ...(parts.netns === undefined ? {} : { netns: parts.netns }),
      log: createLogger({ component: 'bfd' }),
      onChange: (peer, _state, failed) => {
        if (failed) this.#speaker?.pathDown(peer);
      },
    });
    this.#garbage = new IpamGarbageCollector({
      nodeName: options.nodeName,
      store,
      pods: async () => (await client.list(RESOURCE.pods)).items,
      nodes: () => new Set(nodes.list().map(({ metadata }) => metadata.name)),
      log: this.#log,
    });
    this.plugins = [new PodwireIpam(this.#addresses)];
    this.routes = lookingGlass(
      () => this.#speaker,
      speaker => nodeStatusBody(speaker, ['Agent', 'BGP', 'Routes'], this.#sink.table, this.#objects.peers()),
    );
  }

  status(): OverlayStatus {
    return {
      ready: this.#speaker !== undefined,
      peers: [],
      problems: this.#problems.current,
      mtuBytes: this.#underlay.mtuBytes,
    };
  }

  metrics(): string {
    return this.#speaker === undefined ? '' : bgpMetrics(this.#speaker);
  }

  setUnderlay(underlay: Underlay): void {
    this.#underlay = underlay;
    this.#speaker?.nextHopsChanged();
    this.#planSoon();
  }

  async start(signal: AbortSignal): Promise<void> {
    const { nodes, feed } = this.#parts;
    this.#objects.start(signal);
    this.#statuses.start(signal);
    // Not awaited: the definitions may be installed long after the agent started.
    this.#run(signal).catch((error: unknown) => {
      if (!signal.aborted) this.#log.error({ error }, 'BGP could not be started');
    });
    const changed = (): void => this.#planSoon();
    for (const source of [this.#objects, nodes]) source.onChange(changed);
    feed.onChange(changed);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#planning);
    clearTimeout(this.#lingerTimer);
    clearInterval(this.#nextHopTimer);
    this.#garbage.stop();
    this.#secrets.stop();
    await Promise.all([this.#statuses.stop(), this.#objects.stop()]);
    await this.#applying;
    // Peers keep our routes for the restart time (RFC 4724), and so does the kernel.
    await this.#speaker?.stop({ keepRoutes: true });
    this.#bfd.close();
  }

  /** Everything must be known before the first plan: half of it would withdraw what is there. */
  async #run(signal: AbortSignal): Promise<void> {
    const { nodes, feed } = this.#parts;
    await Promise.all([this.#objects, nodes, feed].map(source => source.synced(signal)));
    this.#ready.resolve();
    this.#garbage.start();
    this.#planSoon();
  }

  #planSoon(): void {
    if (this.#stopped) return;
    this.#planning ??= setTimeout(() => {
      this.#planning = undefined;
      if (this.#objects.hasSynced) this.#applying = this.#applying.then(() => this.#plan());
    }, PLAN_DELAY_MS);
  }

  async #plan(): Promise<void> {
    if (this.#stopped) return;
    try {
      let input = this.#input();
      let plan = planBgp(input);
      if (this.#secrets.reading) {
        // A session must not go because its password is not known yet.
        await this.#secrets.read();
        input = this.#input();
        plan = planBgp(input);
      }
      this.#problems.report(plan.problems);
      const text = describePlan(plan);
      if (text !== this.#described) this.#log.info({ plan: text }, 'BGP plan');
      this.#described = text;
      if (plan.config !== undefined) {
        const encapsulation = { ...input, pools: plan.pools, underlay: this.#underlay };
        this.#sink.table.shape = routeShape(encapsulation);
        this.#sink.setTunnels(
          tunnelState(encapsulation),
          planPoolRules(plan.pools, this.#families()),
          waysToPeers(plan),
        );
        const config = { ...plan.config, peers: this.#peersOf(plan.config, input) };
        if (this.#speaker === undefined) await this.#begin(config);
        else await this.#speaker.configure(config);
        this.#reshape(encapsulation);
        this.#openForPods(plan.pools);
      }
      await this.#publish(plan.pools);
    } catch (error) {
      this.#log.error({ error }, 'the BGP plan could not be applied; it is tried again with the next change');
    }
  }

  #peersOf({ peers: planned }: SpeakerConfig, { nodes }: CalicoInput): readonly PeerConfig[] {
    const present = nodes.map(calicoNode);
    const isNode = (address: string): boolean =>
      present.some(node => nodeAddress(node, 4) === address || nodeAddress(node, 6) === address);
    const { peers, againInMs } = this.#lingering.apply(planned, isNode, performance.now());
    clearTimeout(this.#lingerTimer);
    if (againInMs !== undefined)
      this.#lingerTimer = setTimeout(() => this.#planSoon(), Math.max(0, againInMs)).unref();
    return peers;
  }

  /** Routes follow the pools' encapsulation and the peers' tunnel addresses, though BGP tells nothing new. */
  #reshape(encapsulation: EncapsulationInput): void {
    const key = shapeKey(encapsulation);
    if (key === this.#shapedBy) return;
    this.#shapedBy = key;
    for (const family of [4, 6] as const) {
      const loc = this.#speaker?.locRibs[family];
      if (!loc) continue;
      const { nets } = loc.rib;
      const all = Array.from({ length: nets.limit }, (_, net) => net).filter(net => nets.has(net));
      this.#sink.changed(loc, all);
    }
  }

  /** What the others must know of this node: its addresses, and its ends of tunnels. */
  async #publish(pools: readonly Pool[]): Promise<void> {
    const { nodes, options } = this.#parts;
    const own = nodes.get(options.nodeName);
    if (own === undefined) return;
    const addresses = addressAnnotations(own, options.nodeIps, this.#underlay.addresses);
    if (Object.keys(addresses).length > 0) await this.#annotate(addresses);
    await this.#tunnels.ensure(own, pools);
  }

  async #annotate(annotations: Record<string, string | null>): Promise<void> {
    const { client, options } = this.#parts;
    const patch = { metadata: { annotations } };
    await client.patch(RESOURCE.nodes, options.nodeName, patch, { type: 'strategic', subresource: 'status' });
  }

  async #begin(config: SpeakerConfig): Promise<void> {
    const own = new Set(this.#parts.options.nodeIps.map(ip => canonicalIp(ip) ?? ip));
    const speaker = new Speaker({
      config,
      transport: new TcpTransport(this.#parts.netns),
      log: this.#log,
      sink: this.#sink,
      restarting: this.#restarting,
      isOwnAddress: address => own.has(address),
      resolver: kernelNextHops(this.#parts.netns),
      bfd: this.#bfd,
    });
    await speaker.start();
    this.#speaker = speaker;
    this.#nextHopTimer = setInterval(() => speaker.nextHopsChanged(), NEXT_HOP_SCAN_MS).unref();
  }

  #input(): CalicoInput {
    const { options, nodes, feed } = this.#parts;
    return {
      nodeName: options.nodeName,
      nodes: nodes.list(),
      ...this.#objects.input(),
      services: feed.services(),
      endpointSlices: feed.endpointSlices(),
      secret: ref => this.#secrets.value(ref),
      automaticReflectorsAbove: AUTOMATIC_REFLECTORS_ABOVE,
    };
  }

  #families(): (4 | 6)[] {
    return [...new Set(this.#parts.options.nodeIps.map(ip => (ip.includes(':') ? 6 : 4)))];
  }

  /** Lets containerd start pods: the speaker runs, so their addresses will be announced. */
  #openForPods(pools: readonly Pool[]): void {
    const mtuBytes = this.#underlay.mtuBytes - tunnelOverheadBytes(pools);
    if (mtuBytes === this.#podMtuBytes) return;
    this.#podMtuBytes = mtuBytes;
    const families = this.#families();
    const { cniConfDirectory } = this.#parts.options;
    const written = writeConflist(cniConfDirectory, { kind: 'routed', families, mtuBytes });
    if (written) this.#log.info({ families, mtuBytes }, 'pods may start');
  }
}

function waysToPeers(plan: BgpPlan): KernelState {
  return {
    routes: plan.waysToPeers.map(way => ({
      ...way,
      protocol: ROUTE_PROTOCOL.bgp,
      metric: BGP_ROUTE_METRIC,
    })),
  };
}

/** Routes of an agent that was here before: forwarding goes on while we learn them again. */
function hasRoutesOfBefore(netns: Netns | undefined): boolean {
  using links = Rtnetlink.open(netns);
  return links.listRoutes({ protocol: ROUTE_PROTOCOL.bgp }).length > 0;
}
