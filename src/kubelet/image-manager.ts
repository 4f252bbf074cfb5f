// Gets a container's image onto the node by its pull policy, with the waiting reasons people know: ErrImageNeverPull,
// ErrImagePull, ImagePullBackOff, InvalidImageName. A pull that fails concerns its own container only.
import type { Container, Pod } from '../api/types.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import { KeyedBackOff } from './back-off.ts';
import type { CriClient } from './cri-client.ts';
import type { Image, PodSandboxConfig } from './gen/cri.ts';

/** Why a container cannot start now. `code` is the waiting reason the API shows. */
export class StartError extends PodwireError {
  /** Try again after this; undefined: as soon as anything changes. */
  readonly retryAfterMs: number | undefined;
  constructor(reason: string, message: string, retryAfterMs?: number, options?: ErrorOptions) {
    super(reason, message, options);
    this.retryAfterMs = retryAfterMs;
  }
}

export interface PullEvent {
  type: 'Normal' | 'Warning';
  reason: string;
  message: string;
}

/** Kubernetes' default: Always for `latest` or no tag, else IfNotPresent. */
export function pullPolicy(container: Container): 'Always' | 'IfNotPresent' | 'Never' {
  const policy = container.imagePullPolicy;
  if (policy === 'Always' || policy === 'IfNotPresent' || policy === 'Never') return policy;
  const image = container.image ?? '';
  if (image.includes('@')) return 'IfNotPresent';
  const tag = /:([^/:]+)$/.exec(image)?.[1];
  return tag === undefined || tag === 'latest' ? 'Always' : 'IfNotPresent';
}

const IMAGE_REFERENCE = /^[a-z0-9][a-z0-9._:/-]*(:[\w][\w.-]{0,127})?(@[a-z0-9+._-]+:[0-9a-f]{32,})?$/i;

export class ImageManager {
  readonly #cri: CriClient;
  readonly #backOff = new KeyedBackOff();
  readonly #failedAtMs = new Map<string, number>();
  readonly #pulls = new Map<string, Promise<string>>();

  constructor(cri: CriClient) {
    this.#cri = cri;
  }

  /** Returns the image; throws StartError with the waiting reason. */
  async ensureImage(
    pod: Pod,
    container: Container,
    sandbox: PodSandboxConfig,
    onEvent: (event: PullEvent) => void,
  ): Promise<Image> {
    const name = container.image ?? '';
    if (!IMAGE_REFERENCE.test(name) || /[A-Z]/.test(name.split(/[:@](?!.*\/)/)[0]!))
      throw new StartError(
        'InvalidImageName',
        `Failed to apply default image tag "${name}": invalid reference format`,
      );
    const policy = pullPolicy(container);
    const present = await this.#cri.imageStatus(name);
    if (present && policy !== 'Always') return present;
    if (policy === 'Never') {
      const message = `Container image "${name}" is not present with pull policy of Never`;
      onEvent({ type: 'Warning', reason: 'ErrImageNeverPull', message });
      throw new StartError('ErrImageNeverPull', message);
    }
    const key = `${pod.metadata?.uid}_${name}`;
    this.#checkBackOff(key, name, onEvent);
    return this.#pull(key, name, sandbox, onEvent);
  }

  #checkBackOff(key: string, name: string, onEvent: (event: PullEvent) => void): void {
    const failedAt = this.#failedAtMs.get(key);
    const waitMs = failedAt === undefined ? 0 : this.#backOff.remainingMs(key, failedAt, Date.now());
    if (waitMs === 0) return;
    const message = `Back-off pulling image "${name}"`;
    onEvent({ type: 'Normal', reason: 'BackOff', message });
    throw new StartError('ImagePullBackOff', message, waitMs);
  }

  async #pull(
    key: string,
    name: string,
    sandbox: PodSandboxConfig,
    onEvent: (event: PullEvent) => void,
  ): Promise<Image> {
    onEvent({ type: 'Normal', reason: 'Pulling', message: `Pulling image "${name}"` });
    try {
      // Pods that want one image at the same time share one download.
      let pull = this.#pulls.get(name);
      if (!pull) {
        pull = this.#cri.pullImage(name, sandbox).finally(() => this.#pulls.delete(name));
        this.#pulls.set(name, pull);
      }
      await pull;
    } catch (thrown) {
      const now = Date.now();
      this.#failedAtMs.set(key, now);
      this.#backOff.next(key, now, now);
      const message = errorMessage(thrown);
      onEvent({ type: 'Warning', reason: 'Failed', message: `Failed to pull image "${name}": ${message}` });
      throw new StartError('ErrImagePull', message, this.#backOff.delayMs(key), { cause: thrown });
    }
    this.#failedAtMs.delete(key);
    onEvent({ type: 'Normal', reason: 'Pulled', message: `Successfully pulled image "${name}"` });
    const image = await this.#cri.imageStatus(name);
    if (!image) throw new StartError('ErrImagePull', `image "${name}" vanished after it was pulled`);
    return image;
  }

  forgetPod(uid: string): void {
    this.#backOff.forget(uid);
    for (const key of this.#failedAtMs.keys()) if (key.startsWith(uid)) this.#failedAtMs.delete(key);
  }
}
