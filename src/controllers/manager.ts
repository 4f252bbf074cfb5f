// All controllers in one process on shared informers: the work of kube-controller-manager.
import type { KubeClient } from '../client/client.ts';
import { SharedInformers } from '../client/shared-informers.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import type { Logger } from '../observe/log.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { DeploymentController } from './deployment.ts';
import { EndpointSliceController } from './endpoint-slice.ts';
import { EndpointsController } from './endpoints.ts';
import { GarbageCollector } from './garbage-collector.ts';
import { NamespaceController } from './namespace.ts';
import { NodeIpamController } from './node-ipam.ts';
import { NodeLifecycleController } from './node-lifecycle.ts';
import { PodGcController } from './pod-gc.ts';
import { ReplicaSetController } from './replica-set.ts';

export interface ControllerManagerOptions {
  client: KubeClient;
  log: Logger;
  /** Pod networks, at most one a family; none switches node-ipam off. */
  clusterCidrs: readonly string[];
  /** Prefix lengths of a node's pod network; default 24 and 64, as in Kubernetes. */
  nodeCidrMaskSizes?: { ipv4?: number; ipv6?: number };
  clock?: Clock;
  /** Instead of all, for tests. */
  controllers?: readonly ControllerFactory[];
}

export type ControllerFactory = (context: ControllerContext) => Controller;

/** Every controller there is. */
export const CONTROLLERS: readonly ControllerFactory[] = [
  context => new NodeIpamController(context),
  context => new NodeLifecycleController(context),
  context => new DeploymentController(context),
  context => new ReplicaSetController(context),
  context => new EndpointSliceController(context),
  context => new EndpointsController(context),
  context => new NamespaceController(context),
  context => new PodGcController(context),
  context => new GarbageCollector(context),
];

export class ControllerManager {
  readonly #options: ControllerManagerOptions;
  readonly #informers: SharedInformers;
  readonly #controllers: readonly Controller[];
  readonly #stop = new AbortController();
  #running: Promise<unknown> | undefined;

  constructor(options: ControllerManagerOptions) {
    this.#options = options;
    this.#informers = new SharedInformers(options.client, options.log);
    const { ipv4 = 24, ipv6 = 64 } = options.nodeCidrMaskSizes ?? {};
    const context: Omit<ControllerContext, 'log'> = {
      client: options.client,
      informers: this.#informers,
      clock: options.clock ?? systemClock,
      clusterCidrs: options.clusterCidrs,
      nodeCidrMaskSizes: { ipv4, ipv6 },
    };
    this.#controllers = (options.controllers ?? CONTROLLERS).map(create =>
      create({ ...context, log: options.log }),
    );
  }

  /** Resolves when all copies are there and the controllers work. */
  async start(signal?: AbortSignal): Promise<void> {
    const stop = this.#stop;
    if (signal?.aborted) stop.abort();
    else signal?.addEventListener('abort', () => stop.abort(), { once: true });
    this.#informers.start(stop.signal);
    await this.#informers.synced(stop.signal);
    for (const controller of this.#controllers) controller.begin?.(stop.signal);
    this.#running = Promise.all(
      this.#controllers.map(({ queue, workers, reconcile }) => queue.run(workers, reconcile, stop.signal)),
    );
    this.#options.log.info(
      { controllers: this.#controllers.map(({ name }) => name) },
      'controllers are running',
    );
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all([this.#running, this.#informers.stop()]);
  }
}
