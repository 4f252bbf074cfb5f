// The kube subnet manager (flannel pkg/subnet/kube): the API server assigns pod CIDRs, nodes tell each other of their
// VTEPs in annotations, and we write ours with a patch of our own node's status.
import { readFileSync } from 'node:fs';
import { ANNOTATION, annotationKey } from '../../routing/subnet/annotations.ts';
import { parseNetConf } from '../../routing/subnet/net-conf.ts';
import type { NodeStatusPatch } from '../../routing/subnet/self.ts';
import type { KubeObject, Node } from '../api/types.ts';
import { KubeClient } from '../client/client.ts';
import { EventRecorder } from '../client/event-recorder.ts';
import { Informer } from '../client/informer.ts';
import { type ClientConfig, inClusterConfig, loadKubeconfig } from '../client/kubeconfig.ts';
import { RESOURCE } from '../client/resources.ts';
import { Backoff } from '../lib/backoff.ts';
import { sleep } from '../lib/clock.ts';
import { ApiError, errorMessage, PodwireError } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { KubeOptions } from './flanneld-options.ts';
import { overlayNodes } from './overlay-nodes.ts';
import type { NodeSink, Prepared, SubnetSource } from './subnet-source.ts';

const RETRY = { baseMs: 200, maxMs: 10_000 };
/** Where a Node object that is not there yet is reported, once in so long. */
const MISSING_NODE_MS = 30_000;

/** --kubeconfig-file and --kube-api-url as client-go takes them: neither means "in a pod". */
export function kubeClientConfig(options: Pick<KubeOptions, 'kubeconfig' | 'apiUrl'>): ClientConfig {
  if (options.kubeconfig === '' && options.apiUrl === '') return inClusterConfig();
  const config: ClientConfig =
    options.kubeconfig === '' ? { server: options.apiUrl } : loadKubeconfig(options.kubeconfig);
  return options.apiUrl === '' ? config : { ...config, server: options.apiUrl };
}

export class KubeSubnets implements SubnetSource {
  readonly events: EventRecorder;
  readonly #options: KubeOptions;
  readonly #log: Logger;
  readonly #client: KubeClient;
  readonly #nodes: Informer<Node>;
  #nodeName = '';
  #startedAt = Date.now();

  constructor(options: KubeOptions, log: Logger) {
    this.#options = options;
    this.#log = log;
    this.#client = new KubeClient(kubeClientConfig(options), { userAgent: 'flanneld', log });
    this.#nodes = new Informer<Node>(this.#client, RESOURCE.nodes, {
      log,
      ...overlayNodes(options.annotationPrefix),
    });
    this.events = new EventRecorder({
      client: this.#client,
      component: 'flanneld',
      ...(options.nodeName ? { host: options.nodeName } : {}),
      log,
    });
  }

  async prepare(signal: AbortSignal): Promise<Prepared> {
    const config = parseNetConf(readNetConf(this.#options.netConfPath));
    this.#nodeName = this.#options.nodeName ?? (await this.#nodeOfPod(signal));
    // Credentials that may not read nodes must end the program with the server's words, not wait for ever.
    await this.#ask(signal, 'the list of nodes', () =>
      this.#client.list(RESOURCE.nodes, { limit: 1, signal }),
    );
    this.#nodes.start(signal);
    await this.#nodes.synced(signal);
    const node = await this.#ownNode(signal);
    const prefix = this.#options.annotationPrefix;
    const wantedIps = [ANNOTATION.nodePublicIp, ANNOTATION.nodePublicIpv6].flatMap(
      name => node.metadata?.annotations?.[annotationKey(prefix, name)] ?? [],
    );
    return { config, nodeName: () => this.#nodeName, wantedIps };
  }

  run(sink: NodeSink): Promise<void> {
    this.#nodes.onChange(({ type, object }) =>
      type === 'deleted' ? sink.deleteNode(object.metadata.name) : sink.upsertNode(object),
    );
    return Promise.resolve();
  }

  async publish(patch: NodeStatusPatch): Promise<void> {
    const { metadata, status } = patch;
    const wanted = { ...(metadata && { metadata }), ...(this.#options.setNetworkUnavailable && { status }) };
    if (Object.values(wanted).every(value => value === undefined)) return;
    await this.#client.patch(RESOURCE.nodes, this.#nodeName, wanted, {
      type: 'strategic',
      subresource: 'status',
    });
  }

  problem(): string | undefined {
    if (!this.#nodes.hasSynced()) return 'the list of nodes was not read yet';
    // A watch that is renewed must not flip the health of a node that works.
    return undefined;
  }

  nodeObject(name: string): KubeObject | undefined {
    return this.#nodes.get(name);
  }

  async stop(): Promise<void> {
    await this.#nodes.stop();
    await this.#client.close();
  }

  /** POD_NAME and POD_NAMESPACE → spec.nodeName. */
  async #nodeOfPod(signal: AbortSignal): Promise<string> {
    const { pod } = this.#options;
    if (pod === undefined)
      throw new PodwireError(
        'NO_NODE_NAME',
        "which node this is cannot be told: set NODE_NAME, or POD_NAME and POD_NAMESPACE, in flanneld's environment",
      );
    const found = await this.#ask(signal, 'the own pod', () =>
      this.#client.get(RESOURCE.pods, pod.name, pod.namespace, { signal }),
    );
    if (found.spec?.nodeName) return found.spec.nodeName;
    throw new PodwireError(
      'NO_NODE_NAME',
      `pod ${pod.namespace}/${pod.name} has no spec.nodeName: it is not bound to a node`,
    );
  }

  /** What the server refuses is an error; while it cannot be asked, we wait and say so. */
  async #ask<T>(signal: AbortSignal, what: string, request: () => Promise<T>): Promise<T> {
    const backoff = new Backoff(RETRY);
    for (;;) {
      try {
        return await request();
      } catch (thrown) {
        signal.throwIfAborted();
        if (thrown instanceof ApiError && thrown.status < 500 && thrown.status !== 429) throw thrown;
        this.#log.warn({ error: errorMessage(thrown) }, `${what} cannot be read yet`);
        await sleep(backoff.nextMs(), signal);
      }
    }
  }

  /** The kubelet may register the Node after us. */
  #ownNode(signal: AbortSignal): Promise<Node> {
    const { promise, resolve, reject } = Promise.withResolvers<Node>();
    const remind = setInterval(
      () =>
        this.#log.warn({ node: this.#nodeName, sinceMs: Date.now() - this.#startedAt }, 'no such Node yet'),
      MISSING_NODE_MS,
    );
    const off = this.#nodes.onChange(({ type, object }) => {
      if (type !== 'deleted' && object.metadata.name === this.#nodeName) resolve(object);
    });
    if (!this.#nodes.get(this.#nodeName))
      this.#log.warn(
        { node: this.#nodeName },
        `node "${this.#nodeName}" is not registered yet; waiting for it`,
      );
    const aborted = (): void => reject(signal.reason);
    signal.addEventListener('abort', aborted, { once: true });
    return promise.finally(() => {
      clearInterval(remind);
      off();
      signal.removeEventListener('abort', aborted);
    });
  }
}

function readNetConf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new PodwireError('INVALID_NET_CONF', `--net-config-path: ${errorMessage(cause)}`, { cause });
  }
}
