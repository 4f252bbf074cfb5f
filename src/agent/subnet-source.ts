// Where flanneld learns subnets from and announces its own: the Kubernetes API or etcd. Either way the overlay is fed
// Node objects with flannel's annotations; the etcd source makes them from leases.
import type { NetConf } from '../../routing/subnet/net-conf.ts';
import type { NodeStatusPatch } from '../../routing/subnet/self.ts';
import type { Underlay } from '../../routing/subnet/underlay.ts';
import type { KubeObject, Node } from '../api/types.ts';
import type { EventSink } from '../client/event-recorder.ts';

/** The overlay, as a source sees it. */
export interface NodeSink {
  upsertNode(node: Node): void;
  deleteNode(name: string): void;
}

export interface Prepared {
  config: NetConf;
  /** The name of this node; stable, and no other node's. */
  nodeName: (underlay: Underlay) => string;
  /** Addresses the operator wants this node to use (annotation node-public-ip). */
  wantedIps: string[];
}

export interface SubnetSource {
  /** Reads the configuration and learns who we are; waits as long as the server is away. */
  prepare(signal: AbortSignal): Promise<Prepared>;
  /** Feeds `sink`; resolves when everything known was handed over. */
  run(sink: NodeSink, underlay: () => Underlay, signal: AbortSignal): Promise<void>;
  publish(patch: NodeStatusPatch): Promise<void>;
  /** Undefined when the server is heard, else what is wrong. */
  problem(): string | undefined;
  /** Where Events go; absent when there is no API. */
  readonly events?: EventSink;
  /** The API's object of a node, for Events. */
  nodeObject(name: string): KubeObject | undefined;
  stop(): Promise<void>;
}
