// Passwords of BGP sessions: secrets in kube-system that a BGPPeer or BGPConfiguration names, read one by one (a node may
// not list secrets) when a plan first asks for them, and again every ten seconds: both ends of a session must see a new
// password well within its hold time.
import type { SecretKeyRef } from '../../../routing/bgp/calico/types.ts';
import type { KubeClient } from '../../client/client.ts';
import { RESOURCE } from '../../client/resources.ts';
import { isNotFound } from '../../client/status.ts';
import { errorMessage } from '../../lib/errors.ts';
import { jsonEqual } from '../../lib/json.ts';
import type { Logger } from '../../observe/log.ts';

const NAMESPACE = 'kube-system';
const REFRESH_MS = 10_000;

type Data = Readonly<Record<string, string>>;

export class PeerSecrets {
  readonly #client: KubeClient;
  readonly #onChange: () => void;
  readonly #log: Logger;
  /** By name; undefined while it is not there. */
  readonly #known = new Map<string, Data | undefined>();
  readonly #reading = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(client: KubeClient, onChange: () => void, log: Logger) {
    this.#client = client;
    this.#onChange = onChange;
    this.#log = log;
  }

  /** What is known now; a name that is new is looked up, and `onChange` called when there is something. */
  value({ secretKeyRef }: SecretKeyRef): string | undefined {
    if (secretKeyRef === undefined) return undefined;
    const { name, key } = secretKeyRef;
    if (!this.#known.has(name)) {
      this.#known.set(name, undefined);
      const reading = this.#read(name).finally(() => this.#reading.delete(reading));
      this.#reading.add(reading);
      this.#timer ??= setInterval(() => this.#refresh(), REFRESH_MS).unref();
    }
    const text = this.#known.get(name)?.[key];
    return text === undefined ? undefined : Buffer.from(text, 'base64').toString('utf8');
  }

  /** True while a secret is looked up for the first time: that it is missing is not known yet. */
  get reading(): boolean {
    return this.#reading.size > 0;
  }

  async read(): Promise<void> {
    await Promise.all(this.#reading);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #refresh(): void {
    for (const name of this.#known.keys()) void this.#read(name);
  }

  async #read(name: string): Promise<void> {
    let data: Data | undefined;
    try {
      data = (await this.#client.get(RESOURCE.secrets, name, NAMESPACE)).data ?? {};
    } catch (error) {
      // While the API server is away the password stays what it was.
      if (!isNotFound(error)) {
        this.#log.warn(
          { secret: name, error: errorMessage(error) },
          'the secret of a BGP session cannot be read',
        );
        return;
      }
    }
    if (jsonEqual(data, this.#known.get(name))) return;
    this.#known.set(name, data);
    this.#onChange();
  }
}
