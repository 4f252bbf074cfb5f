// What `podwire overlay status` shows of one node's overlay: the overlay's own answer, when each peer last changed, and,
// when asked, whether each peer can be reached right now.

import type { OverlayStatus } from '../../routing/overlay.ts';
import { DEFAULT_ANNOTATION_PREFIX, leaseKey } from '../../routing/subnet/annotations.ts';
import type { NetConf } from '../../routing/subnet/net-conf.ts';
import type { Underlay } from '../../routing/subnet/underlay.ts';
import type { Node } from '../api/types.ts';
import type { Change } from '../client/informer.ts';
import { formatCidr } from '../lib/cidr.ts';
import type { IpFamily } from '../lib/ip.ts';
import type { Problem } from '../lib/problem.ts';
import type { AdminRoute } from '../observe/admin-server.ts';
import { type PeerProbe, probePeers } from './overlay-probe.ts';

export interface PeerReport {
  node: string;
  family: IpFamily;
  subnet: string;
  publicIp: string;
  vtepMac?: string;
  /** When we learnt what holds now, RFC 3339. */
  lastChange?: string;
  /** Only when asked for. */
  probe?: PeerProbe;
}

export interface OverlayReport {
  node: string;
  ready: boolean;
  reason?: string;
  backend: string;
  mtuBytes?: number;
  underlay: Underlay;
  /** What this node tells the others. */
  self: { family: IpFamily; subnet: string; publicIp: string; localIp: string; vtepMac?: string }[];
  peers: PeerReport[];
  problems: readonly Problem[];
}

export interface OverlayReporterOptions {
  nodeName: string;
  config: NetConf;
  annotationPrefix?: string;
  status: () => OverlayStatus;
  underlay: () => Underlay;
  now?: () => number;
}

export class OverlayReporter {
  readonly #options: OverlayReporterOptions;
  readonly #prefix: string;
  readonly #changes = new Map<string, { key: string; at: string }>();

  constructor(options: OverlayReporterOptions) {
    this.#options = options;
    this.#prefix = options.annotationPrefix ?? DEFAULT_ANNOTATION_PREFIX;
  }

  /** GET /overlay, with `?probe` to try the peers. */
  readonly route: AdminRoute = ({ query }) => this.report({ probe: query.has('probe') });

  /** An informer's handler. */
  readonly onNode = ({ type, object }: Change<Node>): void => {
    if (type === 'deleted') this.deleteNode(object.metadata.name);
    else this.upsertNode(object);
  };

  /** To be told of every Node, as the overlay is: what the overlay does not read changes nothing. */
  upsertNode(node: Node): void {
    const name = node.metadata?.name ?? '';
    const key = leaseKey(node, this.#prefix);
    if (this.#changes.get(name)?.key === key) return;
    const at = new Date(this.#options.now?.() ?? Date.now()).toISOString();
    this.#changes.set(name, { key, at });
  }

  deleteNode(name: string): void {
    this.#changes.delete(name);
  }

  async report(options: { probe?: boolean } = {}): Promise<OverlayReport> {
    const { nodeName, config } = this.#options;
    const { ready, reason, self, peers, problems, mtuBytes } = this.#options.status();
    const viaVtep = config.backend.type === 'vxlan';
    const probes = options.probe ? await probePeers(peers, { viaVtep }) : [];
    return {
      node: nodeName,
      ready,
      ...(reason === undefined ? {} : { reason }),
      backend: config.backend.type,
      ...(mtuBytes === undefined ? {} : { mtuBytes }),
      underlay: this.#options.underlay(),
      self: (self?.families ?? []).map(({ family, subnet, publicIp, localIp, vtepMac }) => ({
        family,
        subnet: formatCidr(subnet),
        publicIp,
        localIp,
        ...(vtepMac === undefined ? {} : { vtepMac }),
      })),
      peers: peers.map(({ node, family, subnet, publicIp, vtep }, at) => {
        const lastChange = this.#changes.get(node)?.at;
        const probe = probes[at];
        return {
          node,
          family,
          subnet,
          publicIp,
          ...(vtep && { vtepMac: vtep.mac }),
          ...(lastChange === undefined ? {} : { lastChange }),
          ...(probe && { probe }),
        };
      }),
      problems,
    };
  }
}
