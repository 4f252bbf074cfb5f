// The CRI v1 client: promises over @grpc/grpc-js, a deadline for each call, errors with a stable code (`CRI_NOT_FOUND`,
// `CRI_UNAVAILABLE`, …). It holds no state but the channel, which reconnects by itself when the runtime restarts.
import { type ChannelOptions, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { PodwireError } from '../lib/errors.ts';
import {
  type AttachRequest,
  type Container,
  type ContainerConfig,
  type ContainerEventResponse,
  type ContainerStatus,
  type ExecRequest,
  type ExecSyncResponse,
  type Image,
  ImageServiceClient,
  type PodSandbox,
  type PodSandboxConfig,
  type PodSandboxStatus,
  RuntimeServiceClient,
  type StatusResponse,
  type VersionResponse,
} from './gen/cri.ts';

/** Kubelet's --runtime-request-timeout. */
const CALL_TIMEOUT_MS = 120_000;
/** Starting a sandbox includes the network plugins, pulling an image a download. */
const RUN_SANDBOX_TIMEOUT_MS = 240_000;
const PULL_TIMEOUT_MS = 15 * 60_000;
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** A call the runtime refused or did not answer. `code` is `CRI_` and gRPC's status name. */
export class CriError extends PodwireError {
  readonly details: string;
  constructor(operation: string, error: ServiceError) {
    const name = (status[error.code] as string | undefined) ?? 'UNKNOWN';
    super(`CRI_${name}`, `${operation}: ${error.details || error.message}`, { cause: error });
    this.details = error.details || error.message;
  }
}

const CHANNEL_OPTIONS: ChannelOptions = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  // A restarted runtime must be noticed at once, not after gRPC's usual back-off of up to two minutes.
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.min_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.use_local_subchannel_pool': 1,
};

type Unary<Q, A> = (
  request: Q,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, response: A) => void,
) => unknown;

function call<Q, A>(
  operation: string,
  method: Unary<Q, A>,
  request: Q,
  timeoutMs = CALL_TIMEOUT_MS,
): Promise<A> {
  return new Promise((resolve, reject) => {
    method(request, new Metadata(), { deadline: Date.now() + timeoutMs }, (error, response) => {
      if (error) reject(new CriError(operation, error));
      else resolve(response);
    });
  });
}

export class CriClient {
  readonly socketPath: string;
  readonly #runtime: RuntimeServiceClient;
  readonly #images: ImageServiceClient;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
    const address = `unix:${socketPath}`;
    this.#runtime = new RuntimeServiceClient(address, credentials.createInsecure(), CHANNEL_OPTIONS);
    this.#images = new ImageServiceClient(address, credentials.createInsecure(), {
      ...CHANNEL_OPTIONS,
      channelOverride: this.#runtime.getChannel(),
    });
  }

  version(): Promise<VersionResponse> {
    return call('Version', this.#runtime.version.bind(this.#runtime), { version: '0.1.0' }, 5_000);
  }

  status(): Promise<StatusResponse> {
    return call('Status', this.#runtime.status.bind(this.#runtime), { verbose: false }, 10_000);
  }

  async updateRuntimeConfig(podCidr: string): Promise<void> {
    const request = { runtimeConfig: { networkConfig: { podCidr } } };
    await call('UpdateRuntimeConfig', this.#runtime.updateRuntimeConfig.bind(this.#runtime), request);
  }

  async runPodSandbox(config: PodSandboxConfig, runtimeHandler = ''): Promise<string> {
    const what = `RunPodSandbox ${config.metadata?.namespace}/${config.metadata?.name}`;
    const request = { config, runtimeHandler };
    const method = this.#runtime.runPodSandbox.bind(this.#runtime);
    return (await call(what, method, request, RUN_SANDBOX_TIMEOUT_MS)).podSandboxId;
  }

  async stopPodSandbox(podSandboxId: string): Promise<void> {
    const method = this.#runtime.stopPodSandbox.bind(this.#runtime);
    await call(`StopPodSandbox ${podSandboxId}`, method, { podSandboxId });
  }

  async removePodSandbox(podSandboxId: string): Promise<void> {
    const method = this.#runtime.removePodSandbox.bind(this.#runtime);
    await call(`RemovePodSandbox ${podSandboxId}`, method, { podSandboxId });
  }

  /** undefined when there is no such sandbox. */
  async podSandboxStatus(podSandboxId: string): Promise<PodSandboxStatus | undefined> {
    const method = this.#runtime.podSandboxStatus.bind(this.#runtime);
    const request = { podSandboxId, verbose: false };
    return (await orUndefined(call(`PodSandboxStatus ${podSandboxId}`, method, request)))?.status;
  }

  async listPodSandboxes(labelSelector: Record<string, string> = {}): Promise<PodSandbox[]> {
    const method = this.#runtime.listPodSandbox.bind(this.#runtime);
    return (await call('ListPodSandbox', method, { filter: { id: '', labelSelector } })).items;
  }

  async createContainer(
    podSandboxId: string,
    config: ContainerConfig,
    sandboxConfig: PodSandboxConfig,
  ): Promise<string> {
    const method = this.#runtime.createContainer.bind(this.#runtime);
    const what = `CreateContainer ${config.metadata?.name}`;
    return (await call(what, method, { podSandboxId, config, sandboxConfig })).containerId;
  }

  async startContainer(containerId: string): Promise<void> {
    const method = this.#runtime.startContainer.bind(this.#runtime);
    await call(`StartContainer ${containerId}`, method, { containerId });
  }

  /** The runtime sends the stop signal, and KILL after `timeoutSeconds`; the call returns when the container is down. */
  async stopContainer(containerId: string, timeoutSeconds: number): Promise<void> {
    const method = this.#runtime.stopContainer.bind(this.#runtime);
    const request = { containerId, timeout: BigInt(Math.max(0, Math.ceil(timeoutSeconds))) };
    await call(`StopContainer ${containerId}`, method, request, CALL_TIMEOUT_MS + timeoutSeconds * 1000);
  }

  async removeContainer(containerId: string): Promise<void> {
    const method = this.#runtime.removeContainer.bind(this.#runtime);
    await call(`RemoveContainer ${containerId}`, method, { containerId });
  }

  async listContainers(labelSelector: Record<string, string> = {}): Promise<Container[]> {
    const method = this.#runtime.listContainers.bind(this.#runtime);
    return (await call('ListContainers', method, { filter: { id: '', podSandboxId: '', labelSelector } }))
      .containers;
  }

  /** undefined when there is no such container. */
  async containerStatus(containerId: string): Promise<ContainerStatus | undefined> {
    const method = this.#runtime.containerStatus.bind(this.#runtime);
    const request = { containerId, verbose: false };
    return (await orUndefined(call(`ContainerStatus ${containerId}`, method, request)))?.status;
  }

  async reopenContainerLog(containerId: string): Promise<void> {
    const method = this.#runtime.reopenContainerLog.bind(this.#runtime);
    await call(`ReopenContainerLog ${containerId}`, method, { containerId });
  }

  execSync(containerId: string, cmd: string[], timeoutSeconds: number): Promise<ExecSyncResponse> {
    const method = this.#runtime.execSync.bind(this.#runtime);
    const request = { containerId, cmd, timeout: BigInt(Math.ceil(timeoutSeconds)) };
    const deadlineMs = timeoutSeconds > 0 ? timeoutSeconds * 1000 + 5_000 : CALL_TIMEOUT_MS;
    return call(`ExecSync ${containerId}`, method, request, deadlineMs);
  }

  /** A URL of the runtime's streaming server. */
  async exec(request: ExecRequest): Promise<string> {
    return (await call(`Exec ${request.containerId}`, this.#runtime.exec.bind(this.#runtime), request)).url;
  }

  async attach(request: AttachRequest): Promise<string> {
    return (await call(`Attach ${request.containerId}`, this.#runtime.attach.bind(this.#runtime), request))
      .url;
  }

  async portForward(podSandboxId: string, port: number[]): Promise<string> {
    const method = this.#runtime.portForward.bind(this.#runtime);
    return (await call(`PortForward ${podSandboxId}`, method, { podSandboxId, port })).url;
  }

  /** Container events until `signal` aborts; rejects with `CRI_UNIMPLEMENTED` where the runtime has none. */
  async *containerEvents(signal: AbortSignal): AsyncGenerator<ContainerEventResponse> {
    const stream = this.#runtime.getContainerEvents({});
    const cancel = () => stream.cancel();
    signal.addEventListener('abort', cancel, { once: true });
    try {
      for await (const event of stream) yield event as ContainerEventResponse;
    } catch (thrown) {
      if (!signal.aborted) throw new CriError('GetContainerEvents', thrown as ServiceError);
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  async listImages(): Promise<Image[]> {
    return (await call('ListImages', this.#images.listImages.bind(this.#images), {})).images;
  }

  /** undefined when the image is not on this node. */
  async imageStatus(image: string): Promise<Image | undefined> {
    const request = { image: { image, annotations: {} }, verbose: false };
    return (await call(`ImageStatus ${image}`, this.#images.imageStatus.bind(this.#images), request)).image;
  }

  async pullImage(image: string, sandboxConfig: PodSandboxConfig): Promise<string> {
    const request = { image: { image, annotations: {} }, sandboxConfig };
    const method = this.#images.pullImage.bind(this.#images);
    return (await call(`PullImage ${image}`, method, request, PULL_TIMEOUT_MS)).imageRef;
  }

  close(): void {
    this.#runtime.close();
  }
}

async function orUndefined<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (thrown) {
    if (thrown instanceof CriError && thrown.code === 'CRI_NOT_FOUND') return undefined;
    throw thrown;
  }
}
