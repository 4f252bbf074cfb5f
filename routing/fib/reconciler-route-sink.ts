// Chosen BGP routes as a KernelState fragment for the node's one reconciler, which applies, verifies and repairs them
// with everything else. Right for a cluster's size; a full Internet table goes through KernelRouteSink.
import type { KernelState } from '../../src/kernel/state.ts';
import type { LocRib } from '../bgp/speaker/loc-rib.ts';
import type { RouteSink } from '../bgp/speaker/route-sink.ts';
import { DEFAULT_MULTIPATH } from '../bgp/speaker/speaker-config.ts';
import { FibTable } from './fib-table.ts';
import { joinStates } from './join-states.ts';

export interface ReconcilerRouteSinkOptions {
  /** `fragment => reconciler.setDesired('bgp', fragment)`. */
  readonly setDesired: (fragment: KernelState) => void;
  readonly multipath?: number;
  /** After a restart the reconciler would remove what was not announced yet: nothing is handed over until complete. */
  readonly restarting?: boolean;
}

export class ReconcilerRouteSink implements RouteSink {
  readonly table: FibTable;
  readonly #setDesired: (fragment: KernelState) => void;
  #held: boolean;
  #extra: readonly KernelState[] = [];

  constructor(options: ReconcilerRouteSinkOptions) {
    this.table = new FibTable(options.multipath ?? DEFAULT_MULTIPATH);
    this.#setDesired = options.setDesired;
    this.#held = options.restarting === true;
  }

  /** What routes need beside themselves: tunnels (calico/encapsulation.ts tunnelState), ways to peers, rules of pools. */
  setTunnels(...fragments: KernelState[]): void {
    this.#extra = fragments;
    this.#hand();
  }

  changed(loc: LocRib, nets: readonly number[]): void {
    const changes = this.table.update(loc, nets);
    for (const { family, slot, action } of changes)
      if (action === undefined) this.table.release(family, slot);
    if (changes.length > 0) this.#hand();
  }

  forgetResolutions(): void {
    this.table.forgetResolutions();
  }

  complete(): void {
    this.#held = false;
    this.#hand();
  }

  #hand(): void {
    if (!this.#held) this.#setDesired(joinStates([...this.#extra, this.table.fragment()]));
  }
}
