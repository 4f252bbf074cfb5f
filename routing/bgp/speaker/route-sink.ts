// Where chosen routes go: the kernel (routing/fib), a test, or nowhere.
import type { LocRib } from './loc-rib.ts';

export interface RouteSink {
  /** The chosen paths of these nets may have changed; what is needed must be read during the call. */
  changed(loc: LocRib, nets: readonly number[]): void;
  /** Next hops resolve otherwise, or routes shall look otherwise; `changed` follows for the nets concerned. */
  forgetResolutions(): void;
  /** All peers that are up have told everything: routes of an earlier life that nobody announced again may go. */
  complete(): void;
}
