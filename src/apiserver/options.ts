// How an API server is configured. Files are read once, at start.
import type { Logger } from '../observe/log.ts';
import type { Registry } from '../observe/metrics.ts';

/** An inherited listening socket, or an address to listen on (port 0: any free one). */
export type Listener = { fd: number } | { address: string; port: number };

export interface ApiServerOptions {
  /** Holds store.db. */
  dataDir: string;
  tls: { certFile: string; keyFile: string; clientCaFile: string };
  listeners: readonly Listener[];
  /** One, or one of each family; the first is the primary one. */
  serviceCidrs: readonly string[];
  nodePortRange?: string;
  /** Where pods reach this server: the endpoint of default/kubernetes. */
  advertiseAddress?: string;
  /** Default: the port of the listener on that address, else of the first one. */
  advertisePort?: number;
  /** Kubernetes' static token file. */
  tokenFile?: string;
  /** Our identity towards kubelets; without it there are no logs and no exec. */
  kubeletClient?: { certFile: string; keyFile: string; caFile: string };
  log: Logger;
  registry?: Registry;
}
