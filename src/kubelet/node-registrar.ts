// Keeps this node's Node object and its Lease alive: registers, heartbeats (Lease every 10 s, status every 5 min or on
// change), and tells the runtime its pod CIDR. What others keep on the Node (podCIDR, annotations, taints) is left alone.

import { readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { arch, cpus, release, totalmem } from 'node:os';
import type { Lease, Node, Stored } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import { RESOURCE } from '../client/resources.ts';
import { formatMicroTime, sleep } from '../lib/clock.ts';
import { ApiError, errorMessage } from '../lib/errors.ts';
import { KUBERNETES_BUILD } from '../lib/version.ts';
import type { Logger } from '../observe/log.ts';
import type { CriClient } from './cri-client.ts';
import { type NodeDescription, nodeLabels, nodeStatus } from './node-object.ts';

const LEASE_SECONDS = 40;
const LEASE_RENEW_MS = 10_000;
const STATUS_EVERY_MS = 300_000;
/** How often the runtime's health is looked at: often until the node is Ready, since the whole cluster waits for that. */
const HEALTH_POLL_STARTING_MS = 50;
const HEALTH_POLL_MS = 2_000;
const LEASE_NAMESPACE = 'kube-node-lease';

export interface RegistrarOptions {
  client: KubeClient;
  cri: CriClient;
  nodeName: string;
  nodeIps: readonly string[];
  kubeletPort: number;
  maxPods: number;
  stateDir: string;
  labels?: Readonly<Record<string, string>>;
  /** A problem the kubelet itself knows of. */
  problem(): string | undefined;
  log: Logger;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

export class NodeRegistrar {
  readonly #options: RegistrarOptions;
  #node: Stored<Node> | undefined;
  #description: NodeDescription | undefined;
  #podCidr: string | undefined;
  #lastProblem: string | undefined | null = null;
  #lastStatusMs = 0;

  constructor(options: RegistrarOptions) {
    this.#options = options;
  }

  /** Registers (trying until it works), then keeps both heartbeats going until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#until(signal, 'register node', () => this.#register());
    await Promise.all([this.#statusLoop(signal), this.#leaseLoop(signal)]);
  }

  async #until(signal: AbortSignal, what: string, step: () => Promise<void>): Promise<void> {
    for (let waitMs = 50; !signal.aborted; waitMs = Math.min(waitMs * 2, 1_000)) {
      try {
        await step();
        return;
      } catch (thrown) {
        this.#options.log.warn({ error: thrown }, `${what}: ${errorMessage(thrown)}`);
        await sleep(waitMs, signal);
      }
    }
  }

  async #register(): Promise<void> {
    const { client, nodeName } = this.#options;
    const description = await this.#describe();
    const labels = nodeLabels(description);
    const health = await this.#health();
    const status = nodeStatus(description, { problem: health }, undefined, Date.now());
    let created = true;
    try {
      this.#node = await client.create(RESOURCE.nodes, {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: nodeName, labels },
        spec: {},
        status,
      });
      this.#options.log.info({ node: nodeName }, 'node registered');
    } catch (thrown) {
      if (!(thrown instanceof ApiError && thrown.status === 409)) throw thrown;
      created = false;
      this.#node = await client.patch(RESOURCE.nodes, nodeName, { metadata: { labels } }, { type: 'merge' });
    }
    // Real servers keep the status of a Node that is created; a stored Node needs the present one.
    if (this.#node.status?.nodeInfo && created) this.#noteStatus(health);
    else await this.#pushStatus(health);
    await this.#tellPodCidr();
  }

  async #describe(): Promise<NodeDescription> {
    if (this.#description) return this.#description;
    const o = this.#options;
    const version = await o.cri.version();
    const disk = await statfs(o.stateDir);
    const osRelease = /^PRETTY_NAME="?(.*?)"?$/m.exec(readText('/etc/os-release'))?.[1] ?? 'Linux';
    this.#description = {
      name: o.nodeName,
      ips: o.nodeIps,
      hostname: o.nodeName,
      cpus: cpus().length,
      memoryBytes: totalmem(),
      storageBytes: disk.blocks * disk.bsize,
      maxPods: o.maxPods,
      kubeletPort: o.kubeletPort,
      kernelVersion: release(),
      osImage: osRelease,
      machineId: readText('/etc/machine-id'),
      bootId: readText('/proc/sys/kernel/random/boot_id'),
      architecture: arch() === 'x64' ? 'amd64' : arch(),
      runtimeVersion: `${version.runtimeName}://${version.runtimeVersion}`,
      kubeletVersion: KUBERNETES_BUILD,
      labels: o.labels,
    };
    return this.#description;
  }

  /** undefined: the node can run pods. */
  async #health(): Promise<string | undefined> {
    const own = this.#options.problem();
    if (own !== undefined) return own;
    try {
      const { status } = await this.#options.cri.status();
      for (const condition of status?.conditions ?? [])
        if (!condition.status)
          return `container runtime: ${condition.type} is false: ${condition.reason} ${condition.message}`.trim();
      return undefined;
    } catch (thrown) {
      return `container runtime is down: ${errorMessage(thrown)}`;
    }
  }

  async #statusLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const starting = this.#lastProblem !== undefined;
      await sleep(starting ? HEALTH_POLL_STARTING_MS : HEALTH_POLL_MS, signal);
      if (signal.aborted) return;
      const health = await this.#health();
      const due = Date.now() - this.#lastStatusMs >= STATUS_EVERY_MS;
      const flipped = (health === undefined) !== (this.#lastProblem === undefined);
      if (!due && !flipped) continue;
      try {
        await this.#pushStatus(health);
      } catch (thrown) {
        if (thrown instanceof ApiError && thrown.status === 404) {
          // Somebody deleted the Node while we live: it is made again.
          this.#podCidr = undefined;
          await this.#until(signal, 'register node', () => this.#register());
        } else {
          this.#options.log.warn({ error: thrown }, `node status not written: ${errorMessage(thrown)}`);
          await sleep(1_000, signal);
        }
      }
    }
  }

  async #pushStatus(health: string | undefined): Promise<void> {
    const { client, nodeName } = this.#options;
    const description = await this.#describe();
    const status = nodeStatus(description, { problem: health }, this.#node?.status, Date.now());
    // A strategic merge takes two addresses of one type for the same entry (patchMergeKey `type`), so a dual-stack
    // node's list is replaced whole, as upstream's kubelet does (component-helpers node/util/status.go).
    const addresses = [...(status.addresses ?? []), { $patch: 'replace' }];
    this.#node = await client.patch(
      RESOURCE.nodes,
      nodeName,
      { status: { ...status, addresses } },
      {
        type: 'strategic',
        subresource: 'status',
        fieldManager: 'kubelet',
      },
    );
    this.#noteStatus(health);
    await this.#tellPodCidr();
  }

  #noteStatus(health: string | undefined): void {
    if (this.#lastProblem !== health)
      this.#options.log.info(
        { node: this.#options.nodeName },
        health === undefined ? 'node is Ready' : `node is not Ready: ${health}`,
      );
    this.#lastProblem = health;
    this.#lastStatusMs = Date.now();
  }

  async #tellPodCidr(): Promise<void> {
    const podCidr = this.#node?.spec?.podCIDR;
    if (podCidr === undefined || podCidr === this.#podCidr) return;
    await this.#options.cri.updateRuntimeConfig(podCidr);
    this.#podCidr = podCidr;
  }

  async #leaseLoop(signal: AbortSignal): Promise<void> {
    let lease: Stored<Lease> | undefined;
    while (!signal.aborted) {
      try {
        lease = await this.#renewLease(lease);
      } catch (thrown) {
        lease = undefined;
        this.#options.log.warn({ error: thrown }, `node lease not renewed: ${errorMessage(thrown)}`);
        await sleep(1_000, signal);
        continue;
      }
      await sleep(LEASE_RENEW_MS, signal);
    }
  }

  async #renewLease(known: Stored<Lease> | undefined): Promise<Stored<Lease>> {
    const { client, nodeName } = this.#options;
    const renewTime = formatMicroTime(Date.now());
    const existing = known ?? (await this.#getLease());
    if (existing)
      return client.update(RESOURCE.leases, {
        ...existing,
        spec: { ...existing.spec, holderIdentity: nodeName, leaseDurationSeconds: LEASE_SECONDS, renewTime },
      });
    const owner = this.#node
      ? [{ apiVersion: 'v1', kind: 'Node', name: nodeName, uid: this.#node.metadata.uid }]
      : [];
    return client.create(RESOURCE.leases, {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: nodeName, namespace: LEASE_NAMESPACE, ownerReferences: owner },
      spec: { holderIdentity: nodeName, leaseDurationSeconds: LEASE_SECONDS, renewTime },
    });
  }

  async #getLease(): Promise<Stored<Lease> | undefined> {
    try {
      return await this.#options.client.get(RESOURCE.leases, this.#options.nodeName, LEASE_NAMESPACE);
    } catch (thrown) {
      if (thrown instanceof ApiError && thrown.status === 404) return undefined;
      throw thrown;
    }
  }
}
