// flanneld's place taken: the overlay alone, for nodes whose kubelet, runtime and proxy are somebody else's.
//
//   SubnetSource (Kubernetes API or etcd) ─ Nodes ─▶ Overlay ─ desired KernelState ─▶ KernelReconciler ─▶ kernel
//         ▲                                          ▲  │
//         └──────── annotations, lease ──────────────┼──┴─▶ subnet.env, Events, metrics
//                           UnderlayWatch ─ netlink ─┘
//
// Killed and started again it adopts what is there, flannel's own objects too. Stopping leaves everything in place.

import { mkdirSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { dirname } from 'node:path';
import { NftKeeper } from '../../routing/nft/keeper.ts';
import { Overlay, type OverlayStatus } from '../../routing/overlay.ts';
import { ANNOTATION, annotationKey, DEFAULT_ANNOTATION_PREFIX } from '../../routing/subnet/annotations.ts';
import { type NetConf, networkOf } from '../../routing/subnet/net-conf.ts';
import { type SubnetEnv, writeSubnetEnv } from '../../routing/subnet/subnet-env.ts';
import { takeOverRoutes } from '../../routing/subnet/take-over.ts';
import type { Node } from '../api/types.ts';
import { KernelReconciler, type Repair } from '../kernel/reconciler.ts';
import { type KernelState, ROUTE_PROTOCOL } from '../kernel/state.ts';
import { formatCidr } from '../lib/cidr.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import type { IpFamily } from '../lib/ip.ts';
import type { Problem } from '../lib/problem.ts';
import { Netns } from '../linux/netns.ts';
import { AdminServer } from '../observe/admin-server.ts';
import { Health } from '../observe/health.ts';
import { createLogger, type Logger } from '../observe/log.ts';
import { createMetricsHandler, createRegistry } from '../observe/metrics.ts';
import type { FlanneldOptions } from './flanneld-options.ts';
import { OverlayMetrics } from './overlay-metrics.ts';
import { OverlayReporter } from './overlay-report.ts';
import type { NodeSink, Prepared, SubnetSource } from './subnet-source.ts';
import { UnderlayWatch } from './underlay-watch.ts';

/** Repairs of one accident go into one Event. */
const REPAIR_EVENT_MS = 200;
const REPAIRS_NAMED = 5;
/** How often a kernel that is not as wanted is asked about for /readyz. */
const CONFIRM_MS = 1000;
const NOT_YET: OverlayStatus = { ready: false, reason: 'starting', peers: [], problems: [] };
/** Behind the connected route of the pods' bridge, which has the same destination. */
const BLACKHOLE_METRIC = 65_535;

export class Flanneld {
  readonly #options: FlanneldOptions;
  readonly #log: Logger;
  readonly #netns = Netns.current();
  readonly #source: SubnetSource;
  readonly #reconciler: KernelReconciler;
  readonly #nftables: NftKeeper;
  readonly #health = new Health();
  readonly #registry = createRegistry({ process: true });
  readonly #metrics: OverlayMetrics;
  #nodeName = '';
  #overlay: Overlay | undefined;
  #underlay: UnderlayWatch | undefined;
  #reporter: OverlayReporter | undefined;
  #healthServer: Server | undefined;
  #admin: AdminServer | undefined;
  #repairs: string[] = [];
  #repairTimer: NodeJS.Timeout | undefined;
  #envWritten = false;
  #kernelProblem: string | undefined;
  #confirmTimer: NodeJS.Timeout | undefined;
  #stopped = false;

  private constructor(options: FlanneldOptions, source: SubnetSource, log: Logger) {
    this.#options = options;
    this.#source = source;
    this.#log = log;
    this.#reconciler = new KernelReconciler({
      netns: this.#netns,
      rooms: ['overlay'],
      log: createLogger({ component: 'kernel' }),
      onRepair: repair => this.#repaired(repair),
      xtablesIntervalMs: options.rulesResyncMs,
    });
    this.#nftables = new NftKeeper({
      netns: this.#netns,
      verifyIntervalMs: options.rulesResyncMs,
      onRepair: text => this.#repaired({ action: 'change', kind: 'nftables', text }),
      log: createLogger({ component: 'nftables' }),
    });
    this.#metrics = new OverlayMetrics(this.#registry, () => this.#status());
    this.#health.add('subnets', () => this.#source.problem(), true);
    this.#health.add('overlay', () => (this.#status().ready ? undefined : this.#status().reason), true);
    this.#health.add('underlay', () => this.#underlay?.problem, true);
    this.#health.add('kernel', () => this.#kernelProblem ?? this.#nftables.problem, true);
    this.#health.add('subnet-file', () => (this.#envWritten ? undefined : 'not written yet'), true);
  }

  /** Loads only the subnet manager that is asked for: gRPC alone is ten megabytes of a process on every node. */
  static async create(options: FlanneldOptions): Promise<Flanneld> {
    const log = createLogger({ component: 'flanneld' });
    const { subnets, publicIp, publicIpv6, subnetFile } = options;
    if (subnets.manager === 'kube') {
      const { KubeSubnets } = await import('./kube-subnets.ts');
      return new Flanneld(options, new KubeSubnets(subnets.kube, log), log);
    }
    const { EtcdSubnets } = await import('./etcd-subnets.ts');
    const source = new EtcdSubnets({ ...subnets.etcd, publicIp, publicIpv6 }, subnetFile, log);
    return new Flanneld(options, source, log);
  }

  /** Resolves when the overlay was told of every node; rejects with a sentence for the operator. */
  async start(signal: AbortSignal): Promise<void> {
    await this.#listen();
    const prepared = await this.#source.prepare(signal);
    const { config } = prepared;
    const underlay = this.#watchUnderlay(prepared);
    this.#nodeName = prepared.nodeName(underlay.current);
    this.#log.info({ node: this.#nodeName, underlay: underlay.current, config }, 'overlay starts');
    const prefix = this.#annotationPrefix;
    const overlay = new Overlay({
      nodeName: this.#nodeName,
      config,
      underlay: underlay.current,
      annotationPrefix: prefix,
      rules: this.#options.rules,
      setDesired: state => this.#setDesired(state),
      setNftables: tables => this.#nftables.set(tables),
      patchNode: patch => this.#source.publish(patch),
      onSubnetEnv: env => void this.#writeSubnetEnv(env),
      onProblems: problems => this.#refused(problems),
      log: createLogger({ component: 'overlay' }),
    });
    this.#overlay = overlay;
    this.#reporter = new OverlayReporter({
      nodeName: this.#nodeName,
      config,
      annotationPrefix: prefix,
      status: () => overlay.status(),
      underlay: () => underlay.current,
    });
    await this.#startAdmin();
    underlay.start();
    const taken = takeOverRoutes(config, this.#netns);
    if (taken > 0) this.#log.info({ routes: taken }, "took over flannel's routes");
    await this.#reconciler.start(signal);
    await this.#source.run(this.#sink(overlay, this.#reporter), () => underlay.current, signal);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#confirmTimer);
    this.#overlay?.stop();
    this.#underlay?.stop();
    this.#nftables.stop();
    clearTimeout(this.#repairTimer);
    this.#healthServer?.closeAllConnections();
    this.#healthServer?.close();
    await Promise.all([this.#admin?.stop(), this.#source.stop(), this.#reconciler.stop()]);
  }

  get #annotationPrefix(): string {
    const { subnets } = this.#options;
    return subnets.manager === 'kube' ? subnets.kube.annotationPrefix : DEFAULT_ANNOTATION_PREFIX;
  }

  #status(): OverlayStatus {
    return this.#overlay?.status() ?? NOT_YET;
  }

  #watchUnderlay({ config, wantedIps }: Prepared): UnderlayWatch {
    const { ifaces, ifaceRegexes, ifaceCanReach, publicIp, publicIpv6 } = this.#options;
    const addresses = [publicIp, publicIpv6, ...wantedIps].filter(ip => ip !== undefined);
    const explicit = ifaces.length + ifaceRegexes.length > 0;
    const watch = new UnderlayWatch({
      netns: this.#netns,
      request: {
        // An operator's annotation chooses the link where no flag does.
        ifaces: explicit ? ifaces : wantedIps,
        regexes: ifaceRegexes,
        addresses,
        families: familiesOf(config),
      },
      ...(ifaceCanReach === undefined ? {} : { canReach: ifaceCanReach }),
      onChange: underlay => this.#overlay?.setUnderlay(underlay),
      log: this.#log,
    });
    this.#underlay = watch;
    return watch;
  }

  /** --public-ip is an overwrite that the Node object does not have to carry. */
  #sink(overlay: Overlay, reporter: OverlayReporter): NodeSink {
    const { publicIp, publicIpv6 } = this.#options;
    const overwrite = {
      ...(publicIp && { [annotationKey(this.#annotationPrefix, ANNOTATION.publicIpOverwrite)]: publicIp }),
      ...(publicIpv6 && {
        [annotationKey(this.#annotationPrefix, ANNOTATION.publicIpv6Overwrite)]: publicIpv6,
      }),
    };
    const ours = (node: Node): Node => ({
      ...node,
      metadata: { ...node.metadata, annotations: { ...overwrite, ...node.metadata?.annotations } },
    });
    return {
      upsertNode: node => {
        reporter.upsertNode(node);
        overlay.upsertNode(node.metadata?.name === this.#nodeName ? ours(node) : node);
      },
      deleteNode: name => {
        reporter.deleteNode(name);
        overlay.deleteNode(name);
      },
    };
  }

  #setDesired(state: KernelState): void {
    this.#reconciler.setDesired(
      'overlay',
      this.#options.blackholeRoute ? this.#withBlackholes(state) : state,
    );
    this.#confirm();
  }

  /** Keeps the answer of /readyz true: what failed is tried again by the reconciler, and may have succeeded since. */
  #confirm(): void {
    clearTimeout(this.#confirmTimer);
    this.#reconciler.settled().then(
      () => {
        this.#kernelProblem = undefined;
      },
      error => {
        this.#kernelProblem = errorMessage(error);
        if (this.#stopped) return;
        this.#confirmTimer = setTimeout(() => this.#confirm(), CONFIRM_MS);
      },
    );
  }

  /** Packets for pods this node does not have end here instead of going in circles. */
  #withBlackholes(state: KernelState): KernelState {
    const routes = (this.#status().self?.families ?? []).map(({ subnet }) => ({
      destination: formatCidr(subnet),
      type: 'blackhole' as const,
      metric: BLACKHOLE_METRIC,
      protocol: ROUTE_PROTOCOL.overlay,
    }));
    return { ...state, routes: [...(state.routes ?? []), ...routes] };
  }

  /** The file lets pods start, so the way must be there first; but one bad peer must not hold a whole node up. */
  async #writeSubnetEnv(env: SubnetEnv): Promise<void> {
    const { subnetFile } = this.#options;
    try {
      await this.#reconciler.settled();
    } catch (thrown) {
      this.#log.warn({ error: errorMessage(thrown) }, 'the overlay is not whole yet; it is tried again');
    }
    try {
      mkdirSync(dirname(subnetFile), { recursive: true });
      await writeSubnetEnv(subnetFile, env);
      this.#envWritten = true;
      this.#log.info({ file: subnetFile, ...env }, 'wrote subnet file');
    } catch (thrown) {
      this.#log.error({ file: subnetFile, error: errorMessage(thrown) }, 'subnet file cannot be written');
    }
  }

  #refused(problems: Problem[]): void {
    this.#metrics.refused(problems);
    for (const { name, reason, message } of problems) {
      const object = this.#source.nodeObject(name);
      if (object) this.#source.events?.event(object, 'Warning', reason, message, { shared: true });
    }
  }

  #repaired(repair: { action: Repair['action']; kind: string; text: string }): void {
    this.#metrics.repaired(repair);
    this.#repairs.push(repair.text);
    this.#repairTimer ??= setTimeout(() => {
      this.#repairTimer = undefined;
      const repairs = this.#repairs;
      this.#repairs = [];
      const named = repairs.slice(0, REPAIRS_NAMED);
      if (repairs.length > named.length) named.push(`${repairs.length - named.length} more`);
      const node = this.#source.nodeObject(this.#nodeName);
      if (node)
        this.#source.events?.event(
          node,
          'Warning',
          'OverlayRepaired',
          `somebody changed the overlay's kernel state; mended: ${named.join('; ')}`,
        );
    }, REPAIR_EVENT_MS);
  }

  /** Health comes first: a node whose API server is away is alive though not ready. */
  async #listen(): Promise<void> {
    const { health } = this.#options;
    if (health === undefined) return;
    const metrics = createMetricsHandler(this.#registry);
    const server = createServer((request, response) => {
      if (request.url === '/metrics') return metrics(request, response);
      if (this.#health.handle(request, response)) return;
      response.writeHead(404).end();
    });
    this.#healthServer = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', cause =>
        reject(
          new PodwireError(
            'HEALTHZ',
            `--healthz-ip ${health.address} --healthz-port ${health.port}: ${errorMessage(cause)}`,
            {
              cause,
            },
          ),
        ),
      );
      server.listen(health.port, health.address, resolve);
    });
  }

  async #startAdmin(): Promise<void> {
    const { adminSocket } = this.#options;
    if (adminSocket === undefined) return;
    mkdirSync(dirname(adminSocket), { recursive: true });
    this.#admin = new AdminServer(adminSocket, {
      'GET /overlay': input => this.#reporter?.route(input),
      'GET /diff': () => this.#reconciler.diff(),
      'POST /verify': () => this.#reconciler.verify(),
    });
    await this.#admin.start();
  }
}

function familiesOf(config: NetConf): IpFamily[] {
  return ([4, 6] as const).filter(family => networkOf(config, family) !== undefined);
}
