// What every mode of the proxy is to the service proxy: it is given service ports and brings the kernel to them.
import type { Family, ResolvedPort } from '../model/types.ts';

/** Something in the kernel that is not as it is meant to be. */
export interface Difference {
  /** In words: `ip podwire-proxy service-ips: element 10.96.0.1 . tcp . 80 missing`. */
  what: string;
}

/** Where a Service answered that was deleted while no proxy ran. */
export interface ForgottenFrontend {
  family: Family;
  /** Undefined for a node port. */
  ip?: string;
  port: number;
}

export interface ProxyBackend {
  /** A service port that is new, changed, or (undefined) gone; nothing is written yet. */
  set(id: string, resolved: ResolvedPort | undefined): void;
  readonly endpoints: number;
  /** Writes what was set. `full`: nothing is known of the kernel, everything is checked. A rejection is retried in full. */
  sync(full: boolean): Promise<void>;
  /** UDP frontends of an earlier life that were found in the kernel and belong to no Service any more; each only once. */
  takeForgotten?(): ForgottenFrontend[];
  /** The chains, elements or listeners that serve a port, one line each, for people. */
  placesOf(resolved: ResolvedPort): string[];
  /** Compares with the kernel without mending; absent when all of it is in the kernel state given to `setDesired`. */
  diff?(): Promise<Difference[]>;
  /** When everything was last found or made as meant, epoch milliseconds; absent as `diff`. */
  readonly verifiedAt?: number | undefined;
  /** The rules stay. */
  stop(): void;
}
