// The iptables mode: the plan is a fragment of the kernel state that the reconciler applies and verifies.
import type { KernelState } from '../../../src/kernel/state.ts';
import type { Family, ResolvedPort } from '../../model/types.ts';
import type { ProxyBackend } from '../backend.ts';
import type { IptablesConfig } from './plan/config.ts';
import { iptablesPlaces } from './plan/places.ts';
import { IptablesPlanner } from './plan/plan.ts';

export interface IptablesBackendOptions {
  families: readonly Family[];
  config: IptablesConfig;
  setDesired: (state: KernelState) => void;
  settled?: () => Promise<void>;
}

export class IptablesBackend implements ProxyBackend {
  readonly #options: IptablesBackendOptions;
  readonly #planner: IptablesPlanner;

  constructor(options: IptablesBackendOptions) {
    this.#options = options;
    this.#planner = new IptablesPlanner(options.config, options.families);
  }

  set(id: string, resolved: ResolvedPort | undefined): void {
    this.#planner.set(id, resolved);
  }

  get endpoints(): number {
    return this.#planner.endpoints;
  }

  placesOf(resolved: ResolvedPort): string[] {
    return iptablesPlaces(resolved);
  }

  async sync(): Promise<void> {
    this.#options.setDesired(this.#planner.plan());
    await this.#options.settled?.();
  }

  stop(): void {}
}
