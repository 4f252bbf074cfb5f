// How pods of different nodes reach each other: one implementation for each --routing, chosen when the agent starts.
import type { Plugin } from '../../cni/runtime/plugin.ts';
import type { OverlayStatus } from '../../routing/overlay.ts';
import type { Underlay } from '../../routing/subnet/underlay.ts';
import type { AdminRoutes } from '../observe/admin-server.ts';

export interface PodNetwork {
  /** Its room in the kernel reconciler. */
  readonly room: 'overlay' | 'bgp';
  readonly routes: AdminRoutes;
  /** CNI plugins it answers itself, beside podwire's others. */
  readonly plugins: readonly Plugin[];
  /** For metrics. */
  status(): OverlayStatus;
  /** Further samples of its own for the node's /metrics, as Prometheus text. */
  metrics?(): string;
  /** The node's own address or link is another one now. */
  setUnderlay(underlay: Underlay): void;
  start(signal: AbortSignal): Promise<void>;
  /** The kernel keeps its state. */
  stop(): Promise<void>;
}
