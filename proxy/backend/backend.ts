// What every mode of the proxy is to the service proxy: it is given service ports and brings the kernel to them.
import type { ResolvedPort } from '../model/types.ts';

export interface ProxyBackend {
  /** A service port that is new, changed, or (undefined) gone; nothing is written yet. */
  set(id: string, resolved: ResolvedPort | undefined): void;
  readonly endpoints: number;
  /** Writes what was set. `full`: nothing is known of the kernel, everything is checked. A rejection is retried in full. */
  sync(full: boolean): Promise<void>;
  /** The rules stay. */
  stop(): void;
}
