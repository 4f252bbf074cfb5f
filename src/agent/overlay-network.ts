// --routing vxlan: the overlay from Node objects, pods on a bridge with addresses of the node's podCIDRs.
import { join } from 'node:path';
import { Overlay, type OverlayStatus } from '../../routing/overlay.ts';
import { parseNetConf } from '../../routing/subnet/net-conf.ts';
import { writeSubnetEnv } from '../../routing/subnet/subnet-env.ts';
import type { Underlay } from '../../routing/subnet/underlay.ts';
import type { Node } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import type { Informer } from '../client/informer.ts';
import { RESOURCE } from '../client/resources.ts';
import type { KernelReconciler } from '../kernel/reconciler.ts';
import type { Problem } from '../lib/problem.ts';
import type { AdminRoutes } from '../observe/admin-server.ts';
import { createLogger } from '../observe/log.ts';
import { writeConflist } from './cni-config.ts';
import { planNetConf } from './net-conf.ts';
import type { AgentOptions } from './options.ts';
import { OverlayReporter } from './overlay-report.ts';
import type { PodNetwork } from './pod-network.ts';

export interface PodNetworkParts {
  options: AgentOptions;
  underlay: Underlay;
  client: KubeClient;
  nodes: Informer<Node>;
  reconciler: KernelReconciler;
  onProblems: (problems: readonly Problem[]) => void;
}

export class OverlayNetwork implements PodNetwork {
  readonly room = 'overlay';
  readonly plugins = [];
  readonly routes: AdminRoutes;
  readonly #parts: PodNetworkParts;
  readonly #overlay: Overlay;
  readonly #reporter: OverlayReporter;
  #underlay: Underlay;
  readonly #log = createLogger({ component: 'overlay' });

  constructor(parts: PodNetworkParts) {
    this.#parts = parts;
    const { options, underlay, client, reconciler } = parts;
    const config = parseNetConf(JSON.stringify(planNetConf(options.clusterCidrs, options.backend)));
    this.#underlay = underlay;
    this.#overlay = new Overlay({
      nodeName: options.nodeName,
      config,
      underlay,
      setDesired: state => reconciler.setDesired(this.room, state),
      patchNode: async patch => {
        await client.patch(RESOURCE.nodes, options.nodeName, patch, {
          type: 'strategic',
          subresource: 'status',
        });
      },
      onSubnetEnv: env => {
        writeSubnetEnv(join(options.stateDirectory, 'subnet.env'), env);
        void this.#openForPods(env.mtuBytes);
      },
      onProblems: parts.onProblems,
      log: this.#log,
    });
    this.#reporter = new OverlayReporter({
      nodeName: options.nodeName,
      config,
      status: () => this.#overlay.status(),
      underlay: () => this.#underlay,
    });
    this.routes = { 'GET /overlay': this.#reporter.route };
  }

  status(): OverlayStatus {
    return this.#overlay.status();
  }

  setUnderlay(underlay: Underlay): void {
    this.#underlay = underlay;
    this.#overlay.setUnderlay(underlay);
  }

  async start(): Promise<void> {
    this.#parts.nodes.onChange(this.#reporter.onNode);
    this.#parts.nodes.onChange(({ type, object }) =>
      type === 'deleted' ? this.#overlay.deleteNode(object.metadata.name) : this.#overlay.upsertNode(object),
    );
  }

  async stop(): Promise<void> {
    this.#overlay.stop();
  }

  /** Lets containerd start pods once the overlay is in the kernel. */
  async #openForPods(mtuBytes: number): Promise<void> {
    const { options, nodes, reconciler } = this.#parts;
    try {
      await reconciler.settled(this.room);
    } catch (error) {
      this.#log.warn(
        { error },
        'the overlay is not whole yet; pods start all the same, the reconciler retries',
      );
    }
    const podCidrs = nodes.get(options.nodeName)?.spec?.podCIDRs ?? [];
    const written = writeConflist(options.cniConfDirectory, {
      kind: 'bridge',
      podCidrs,
      mtuBytes,
      ipamDirectory: join(options.stateDirectory, 'ipam'),
    });
    if (written) this.#log.info({ podCidrs, mtuBytes }, 'pods may start');
  }
}
