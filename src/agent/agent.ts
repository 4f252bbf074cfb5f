// The node agent: wires kubelet, CNI server, overlay, service proxy and DNS to the API and to one kernel reconciler.
// It runs inside the node's network namespace. Killed and started again it adopts what is there.
//
//   API ─▶ Node informer ─▶ PodNetwork ───┐ desired KernelState
//      └─▶ ServicesFeed ─▶ ServiceProxy ──┼──▶ KernelReconciler ─▶ kernel
//                     └──▶ DNS records    │
//      └─▶ Kubelet ─▶ containerd ─▶ launcher ─▶ CniServer ─▶ kernel (pods' links)
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PLUGINS } from '../../cni/plugins.ts';
import { CniServer } from '../../cni/runtime/server.ts';
import { endRelayHosts } from '../../proxy/backend/userspace/apply/host-directory.ts';
import { ConntrackCleaner } from '../../proxy/conntrack-cleaner.ts';
import { ServiceHealthServer } from '../../proxy/health/service-health.ts';
import { ServiceProxy } from '../../proxy/proxy.ts';
import { DEFAULT_ANNOTATION_PREFIX } from '../../routing/subnet/annotations.ts';
import type { Node } from '../api/types.ts';
import { KubeClient } from '../client/client.ts';
import { EventRecorder } from '../client/event-recorder.ts';
import { Informer } from '../client/informer.ts';
import { loadKubeconfig } from '../client/kubeconfig.ts';
import { RESOURCE } from '../client/resources.ts';
import { type Explanation, explainFlow, type Flow } from '../explain/service.ts';
import { KernelReconciler } from '../kernel/reconciler.ts';
import { CriClient } from '../kubelet/cri-client.ts';
import { Kubelet } from '../kubelet/kubelet.ts';
import type { ProbeRequest } from '../lab/proof.ts';
import type { Problem } from '../lib/problem.ts';
import { Netns } from '../linux/netns.ts';
import { Rtnetlink } from '../linux/rtnetlink.ts';
import { AdminServer } from '../observe/admin-server.ts';
import { createLogger } from '../observe/log.ts';
import { BgpNetwork } from './bgp/bgp-network.ts';
import { NodeDns } from './node-dns.ts';
import { NodeReports } from './node-reports.ts';
import type { AgentOptions } from './options.ts';
import { OverlayNetwork } from './overlay-network.ts';
import { overlayNodes } from './overlay-nodes.ts';
import type { PodNetwork } from './pod-network.ts';
import { runProbe } from './probe.ts';
import { ProxyReport, serviceFilter } from './proxy-report.ts';
import { ServicesFeed } from './services-feed.ts';
import { UnderlayWatch } from './underlay-watch.ts';

export class Agent {
  readonly #options: AgentOptions;
  readonly #log = createLogger({ component: 'agent' });
  readonly #netns = Netns.current();
  readonly #client: KubeClient;
  readonly #cri: CriClient;
  readonly #reconciler: KernelReconciler;
  readonly #cni: CniServer;
  readonly #nodes: Informer<Node>;
  readonly #underlay: UnderlayWatch;
  readonly #network: PodNetwork;
  readonly #reports: NodeReports;
  readonly #cleaner: ConntrackCleaner;
  readonly #serviceHealth: ServiceHealthServer;
  readonly #feed: ServicesFeed;
  readonly #proxy: ServiceProxy;
  readonly #proxyReport: ProxyReport;
  readonly #dns: NodeDns;
  readonly #kubelet: Kubelet;
  readonly #admin: AdminServer;
  readonly #relayDirectory: string;
  #relayHostsToldToEnd = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#relayDirectory = join(options.stateDirectory, 'relay');
    const families = [...new Set(options.clusterCidrs.map(familyOf))];
    mkdirSync(options.stateDirectory, { recursive: true, mode: 0o700 });
    this.#underlay = new UnderlayWatch({
      netns: this.#netns,
      request: { ifaces: [...options.nodeIps], regexes: [], addresses: options.nodeIps, families },
      onChange: underlay => this.#network.setUnderlay(underlay),
      log: createLogger({ component: 'overlay' }),
    });
    this.#client = new KubeClient(loadKubeconfig(options.kubeconfig), {
      userAgent: 'podwire-agent',
      log: this.#log,
    });
    this.#cri = new CriClient(options.containerdSocket);
    this.#proxyReport = new ProxyReport({
      node: options.nodeName,
      proxy: () => this.#proxy,
      reconciler: () => this.#reconciler,
    });
    this.#reconciler = new KernelReconciler({
      netns: this.#netns,
      rooms: [options.routing, 'proxy', 'dns'],
      onRepair: repair => {
        this.#reports.repaired(repair);
        this.#proxyReport.reconciled(repair);
      },
      log: createLogger({ component: 'kernel' }),
    });
    // Calico's resources select nodes by label and address; the overlay needs neither.
    const kept = options.routing === 'bgp' ? {} : overlayNodes(DEFAULT_ANNOTATION_PREFIX);
    this.#nodes = new Informer<Node>(this.#client, RESOURCE.nodes, { log: this.#log, ...kept });
    this.#reports = new NodeReports({
      events: new EventRecorder({
        client: this.#client,
        component: 'podwire-agent',
        host: options.nodeName,
        log: this.#log,
      }),
      node: () => this.#nodes.get(options.nodeName),
      overlay: () => this.#network.status(),
    });
    this.#feed = new ServicesFeed(options.proxyKubeconfig ?? options.kubeconfig, this.#log);
    const parts = {
      options,
      underlay: this.#underlay.current,
      client: this.#client,
      nodes: this.#nodes,
      reconciler: this.#reconciler,
      feed: this.#feed,
      onProblems: (problems: readonly Problem[]) => this.#reports.overlayProblems(problems),
    };
    this.#network = options.routing === 'bgp' ? new BgpNetwork(parts) : new OverlayNetwork(parts);
    this.#cni = new CniServer({
      socketPath: options.cniSocket,
      dhcp: {
        socketPath: join(options.stateDirectory, 'dhcp.sock'),
        stateDir: join(options.stateDirectory, 'dhcp'),
      },
      log: createLogger({ component: 'cni' }),
      plugins: new Map([...PLUGINS, ...this.#network.plugins.map(plugin => [plugin.name, plugin] as const)]),
    });
    this.#cleaner = new ConntrackCleaner(this.#netns);
    this.#serviceHealth = new ServiceHealthServer({
      proxyHealthy: () => this.#proxy.ready,
      log: createLogger({ component: 'proxy' }),
    });
    this.#proxy = new ServiceProxy({
      nodeName: options.nodeName,
      families,
      mode: options.proxyMode,
      nftables: { serviceCidrs: options.serviceCidrs },
      relayHost: { directory: this.#relayDirectory },
      onRepair: repairs => {
        this.#reports.rulesRepaired(repairs);
        for (const { what } of repairs) this.#proxyReport.repaired(what);
      },
      iptables: {
        nodeIps: options.nodeIps,
        localDetector: {
          mode: 'cidr',
          v4: options.clusterCidrs.find(cidr => familyOf(cidr) === 4),
          v6: options.clusterCidrs.find(cidr => familyOf(cidr) === 6),
        },
      },
      setDesired: state => this.#reconciler.setDesired('proxy', state),
      settled: () => this.#reconciler.settled('proxy'),
      onSynced: () => this.#afterProxySync(),
      onHealthChecks: checks => this.#serviceHealth.sync(checks),
      onProblems: problems => this.#reports.serviceProblems(problems),
      log: createLogger({ component: 'proxy' }),
    });
    this.#dns = new NodeDns({
      families: options.clusterCidrs.map(familyOf),
      domain: options.clusterDomain,
      setDesired: state => this.#reconciler.setDesired('dns', state),
      settled: () => this.#reconciler.settled('dns'),
      log: createLogger({ component: 'dns' }),
    });
    const read = (file: string) => readFileSync(file, 'utf8');
    this.#kubelet = new Kubelet({
      client: this.#client,
      nodeName: options.nodeName,
      nodeIps: options.nodeIps,
      criSocket: options.containerdSocket,
      podLogDir: options.podLogDirectory,
      stateDir: join(options.stateDirectory, 'kubelet'),
      clusterDns: this.#dns.addresses,
      clusterDomain: options.clusterDomain,
      serving: {
        address: options.nodeIps[0]!,
        port: options.serving.port,
        cert: read(options.serving.certFile),
        key: read(options.serving.keyFile),
        clientCa: read(options.serving.clientCaFile),
      },
      cgroupParent: options.cgroupParent,
      log: createLogger({ component: 'kubelet' }),
    });
    this.#admin = new AdminServer(options.adminSocket, {
      ...this.#network.routes,
      'GET /metrics': async () => `${await this.#reports.metrics()}${this.#network.metrics?.() ?? ''}`,
      'GET /diff': () => this.#reconciler.diff(),
      'POST /verify': () => this.#reconciler.verify(),
      'GET /proxy': () => this.#proxyReport.status(),
      'GET /proxy/services': ({ query }) => this.#proxyReport.services(serviceFilter(query)),
      'GET /proxy/diff': () => this.#proxyReport.diff(),
      'POST /explain': ({ body }) => this.#explain(body as Flow),
      'POST /probe': ({ body }) => runProbe(body as ProbeRequest, this.#cri, this.#dns.addresses),
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#cni.start(), this.#admin.start(), this.#reconciler.start(signal)]);
    this.#underlay.start();
    await this.#network.start(signal);
    this.#nodes.start(signal);
    this.#feed.start(signal);
    this.#feed.feedProxy(this.#proxy, signal);
    this.#feed.feedRecords(this.#dns.records);
    await Promise.all([this.#kubelet.start(signal), this.#dns.start()]);
    this.#log.info({ node: this.#options.nodeName }, 'agent runs');
  }

  /** The kernel keeps its state and containers go on: only the programs stop. */
  async stop(): Promise<void> {
    this.#underlay.stop();
    await this.#network.stop();
    this.#proxy.stop();
    this.#serviceHealth.close();
    await Promise.all([
      this.#kubelet.stop(),
      this.#dns.stop(),
      this.#feed.stop(),
      this.#nodes.stop(),
      this.#cni.stop(),
      this.#admin.stop(),
    ]);
    await this.#reconciler.stop();
    await this.#client.close();
  }

  /** The userspace mode sees to the flows of its own listeners; in another mode what an earlier one left may end. */
  #afterProxySync(): void {
    if (this.#options.proxyMode === 'userspace') return;
    this.#cleanFlows();
    if (this.#relayHostsToldToEnd) return;
    this.#relayHostsToldToEnd = true;
    endRelayHosts(this.#relayDirectory, 'drain').then(
      problems => problems.forEach(problem => void this.#log.warn(problem)),
      error => this.#log.warn({ error }, 'relay hosts of userspace mode could not be told to end'),
    );
  }

  /** UDP flows that conntrack still sends to endpoints that are gone. */
  #cleanFlows(): void {
    try {
      this.#cleaner.sync(this.#proxy.ports(), {
        networks: this.#options.serviceCidrs,
        forgotten: this.#proxy.takeForgotten(),
      });
    } catch (error) {
      this.#log.error({ error }, 'stale UDP flows could not be removed');
    }
  }

  #explain(flow: Flow): Explanation {
    using links = Rtnetlink.open(this.#netns);
    return explainFlow(flow, {
      ports: this.#proxy.ports(),
      candidates: port => this.#proxy.candidates(port),
      nodeIps: links.listAddresses().map(({ address }) => address.slice(0, address.indexOf('/'))),
      clusterCidrs: this.#options.clusterCidrs,
      ...(this.#proxy.mode === 'iptables' ? {} : { placesOf: port => this.#proxy.placesOf(port) }),
    });
  }
}

function familyOf(cidr: string): 4 | 6 {
  return cidr.includes(':') ? 6 : 4;
}
