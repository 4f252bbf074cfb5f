// A node for the kubelet's tests: a namespace of its own, a containerd with the lab's images, pods machinery on top with
// an API that is a Map. Everything is found again by its directory and removed by close().
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConfigMap, Pod, PodStatus, Secret, Service, Stored } from '../../../src/api/types.ts';
import { KeyedBackOff } from '../../../src/kubelet/back-off.ts';
import { killCgroup } from '../../../src/kubelet/cgroup.ts';
import { CriClient } from '../../../src/kubelet/cri-client.ts';
import { ImageManager } from '../../../src/kubelet/image-manager.ts';
import type { NodeContext, PodApi } from '../../../src/kubelet/node-context.ts';
import { PodManager } from '../../../src/kubelet/pod-manager.ts';
import { Prober } from '../../../src/kubelet/prober.ts';
import { RuntimeState } from '../../../src/kubelet/runtime-state.ts';
import {
  CONTAINERD_ENV,
  cloneTemplateRoot,
  containerdPaths,
  ensureTemplateRoot,
  waitForContainerd,
  writeContainerdConfig,
} from '../../../src/lab/containerd.ts';
import { run, runOk, spawnDaemon } from '../../../src/linux/exec.ts';
import { silentLogger } from '../../../src/observe/log.ts';

/** The letter of proc(5)'s stat; 'Z' where there is no such process. */
function readProcessState(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0] ?? 'Z';
  } catch {
    return 'Z';
  }
}

export const CNI_BIN_DIR = '/usr/lib/cni';

/** The machine's side: namespace, containerd, cgroup. */
export class TestNode {
  readonly name: string;
  readonly directory: string;
  readonly cgroup: string;
  readonly socket: string;

  /** With a directory and a name: the node that another process started. */
  constructor(directory = mkdtempSync(join(tmpdir(), 'pwk-')), name = `pwt-kubelet-${process.pid}`) {
    this.directory = directory;
    this.name = name;
    this.cgroup = `/podwire/${this.name}`;
    this.socket = containerdPaths(directory).socket;
  }

  get netnsPath(): string {
    return `/run/netns/${this.name}`;
  }

  async start(): Promise<void> {
    await runOk('ip', ['netns', 'add', this.name]);
    await runOk('ip', ['-n', this.name, 'link', 'set', 'lo', 'up']);
    const confDir = join(this.directory, 'net.d');
    mkdirSync(confDir);
    const ipam = {
      type: 'host-local',
      dataDir: join(this.directory, 'ipam'),
      ranges: [[{ subnet: '10.251.0.0/24' }]],
    };
    const plugins = [{ type: 'bridge', bridge: 'cni0', isGateway: true, ipam }];
    writeFileSync(
      join(confDir, '10.conflist'),
      JSON.stringify({ cniVersion: '1.0.0', name: 'test', plugins }),
    );
    const template = await ensureTemplateRoot({ cacheDirectory: join(this.directory, 'cache') });
    cloneTemplateRoot(template, containerdPaths(this.directory).root);
    writeContainerdConfig({ directory: this.directory, cniBinDir: CNI_BIN_DIR, cniConfDir: confDir });
    await this.startContainerd();
  }

  get #pidFile(): string {
    return join(this.directory, 'containerd.pid');
  }

  async startContainerd(): Promise<void> {
    const daemon = spawnDaemon('containerd', ['--config', containerdPaths(this.directory).config], {
      netnsPath: this.netnsPath,
      env: { ...process.env, ...CONTAINERD_ENV },
    });
    writeFileSync(this.#pidFile, String(daemon.pid));
    await waitForContainerd(this.socket);
  }

  async killContainerd(): Promise<void> {
    const pid = Number(readFileSync(this.#pidFile, 'utf8'));
    process.kill(pid, 'SIGKILL');
    while (existsSync(`/proc/${pid}/exe`) && readProcessState(pid) !== 'Z')
      await new Promise(resolve => setTimeout(resolve, 10));
  }

  async close(): Promise<void> {
    const cri = new CriClient(this.socket);
    try {
      for (const { id } of await cri.listPodSandboxes()) {
        await cri.stopPodSandbox(id);
        await cri.removePodSandbox(id);
      }
    } finally {
      cri.close();
      await this.killContainerd();
      await killCgroup(this.cgroup);
      await run('ip', ['netns', 'del', this.name]);
      const mounts = await run('findmnt', ['-rno', 'TARGET']);
      for (const target of mounts.stdout.split('\n').filter(path => path.startsWith(`${this.directory}/`)))
        await run('umount', ['-l', target]);
      rmSync(this.directory, { recursive: true, force: true });
    }
  }
}

export interface TestEvent {
  pod: string;
  reason: string;
  message: string;
}

/** The kubelet's side, with a Map for an API: what is published comes back as an update, as a watch would bring it. */
export class TestKubelet {
  readonly cri: CriClient;
  readonly pods = new Map<string, Stored<Pod>>();
  readonly events: TestEvent[] = [];
  readonly statuses: { name: string; status: PodStatus }[] = [];
  readonly configMaps = new Map<string, ConfigMap>();
  readonly secrets = new Map<string, Secret>();
  services: Service[] = [];
  readonly context: NodeContext;
  readonly manager: PodManager;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: { socket: string; directory: string; cgroup: string; pods?: Stored<Pod>[] }) {
    this.cri = new CriClient(options.socket);
    const prober: Prober = new Prober({
      cri: this.cri,
      onChange: uid => this.manager.wake(uid),
      onFailure: (pod, _container, kind, message) =>
        this.events.push({ pod: pod.metadata?.name ?? '', reason: `Unhealthy ${kind}`, message }),
    });
    this.context = {
      cri: this.cri,
      runtime: new RuntimeState(this.cri),
      images: new ImageManager(this.cri),
      prober,
      restarts: new KeyedBackOff(),
      api: this.#api(),
      sources: {
        config: {
          configMap: async (_namespace, name) => this.configMaps.get(name),
          secret: async (_namespace, name) => this.secrets.get(name),
        },
      },
      services: async () => this.services,
      node: { nodeName: 'node-a', nodeIps: ['192.0.2.1'], cpus: 2, memoryBytes: 2 ** 33 },
      dns: {
        clusterDns: ['10.96.0.10'],
        clusterDomain: 'cluster.local',
        host: { servers: [], searches: [], options: [] },
      },
      cgroupParent: options.cgroup,
      podLogDir: join(options.directory, 'logs'),
      stateDir: join(options.directory, 'kubelet'),
      runtimeName: 'containerd',
      log: silentLogger(),
    };
    this.manager = new PodManager(this.context);
    for (const pod of options.pods ?? []) this.pods.set(pod.metadata.name, pod);
    for (const pod of this.pods.values()) this.manager.setPod(pod);
    this.manager.setComplete();
    this.#running = this.manager.run(this.#abort.signal);
  }

  #api(): PodApi {
    return {
      publishStatus: (pod, status) => {
        const { name } = pod.metadata;
        const stored = this.pods.get(name);
        if (stored?.metadata.uid !== pod.metadata.uid) return;
        if (JSON.stringify(stored.status) === JSON.stringify(status)) return;
        this.statuses.push({ name, status });
        const next = { ...stored, status };
        this.pods.set(name, next);
        setImmediate(() => this.manager.setPod(next));
      },
      flushStatus: async () => {},
      finishPod: async pod => {
        this.pods.delete(pod.metadata.name);
        setImmediate(() => this.manager.removePod(pod.metadata.uid));
      },
      event: (pod, _type, reason, message) =>
        this.events.push({ pod: pod.metadata?.name ?? '', reason, message }),
    };
  }

  create(name: string, spec: Pod['spec'], metadata: Partial<Stored<Pod>['metadata']> = {}): Stored<Pod> {
    const uid = `uid-${name}-${process.hrtime.bigint()}`;
    const pod: Stored<Pod> = {
      metadata: { name, namespace: 'default', uid, resourceVersion: '1', ...metadata },
      spec,
    };
    this.pods.set(name, pod);
    this.manager.setPod(pod);
    return pod;
  }

  delete(name: string, graceSeconds: number): void {
    const pod = this.pods.get(name);
    if (!pod) return;
    const next = {
      ...pod,
      metadata: {
        ...pod.metadata,
        deletionTimestamp: new Date().toISOString(),
        deletionGracePeriodSeconds: graceSeconds,
      },
    };
    this.pods.set(name, next);
    this.manager.setPod(next);
  }

  async until(what: string, test: () => boolean, timeoutMs = 20_000): Promise<number> {
    const from = performance.now();
    while (!test()) {
      if (performance.now() - from > timeoutMs) {
        const state = [...this.pods.values()].map(pod => ({ name: pod.metadata.name, status: pod.status }));
        throw new Error(
          `not within ${timeoutMs} ms: ${what}\n${JSON.stringify({ state, events: this.events }, null, 1)}`,
        );
      }
      await new Promise(resolve => setTimeout(resolve, 5));
    }
    return Math.round(performance.now() - from);
  }

  isReady(name: string): boolean {
    const conditions = this.pods.get(name)?.status?.conditions ?? [];
    return conditions.some(condition => condition.type === 'Ready' && condition.status === 'True');
  }

  status(name: string): PodStatus {
    return this.pods.get(name)?.status ?? {};
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    this.context.prober.stop();
    await this.#running;
    await this.manager.stop();
    this.cri.close();
  }
}
