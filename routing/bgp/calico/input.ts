// Everything the plan of one node's BGP is made from: API objects, nothing else.
import type { EndpointSlice, Node, Service } from '../../../src/api/types.ts';
import type {
  BGPConfiguration,
  BGPFilter,
  BGPPeer,
  BlockAffinity,
  IPAMBlock,
  IPPool,
  SecretKeyRef,
} from './types.ts';
import type { LocalWorkload } from './workload-peers.ts';

export interface CalicoInput {
  readonly nodeName: string;
  readonly nodes: readonly Node[];
  readonly pools: readonly IPPool[];
  readonly configurations: readonly BGPConfiguration[];
  readonly peers: readonly BGPPeer[];
  readonly filters: readonly BGPFilter[];
  readonly affinities: readonly BlockAffinity[];
  readonly blocks: readonly IPAMBlock[];
  readonly services: readonly Service[];
  readonly endpointSlices: readonly EndpointSlice[];
  /** Pods of this node, for localWorkloadSelector. */
  readonly localWorkloads?: readonly LocalWorkload[];
  /** The value of a secret's key, in the namespace the agent runs in. */
  readonly secret: (ref: SecretKeyRef) => string | undefined;
  /** Above so many nodes podwire chooses route reflectors by itself when nobody did; 0 never. */
  readonly automaticReflectorsAbove?: number;
}
