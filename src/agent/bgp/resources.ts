// Calico's resources as the client asks for them.
import {
  type BGPConfiguration,
  type BGPFilter,
  type BGPPeer,
  type BlockAffinity,
  CALICO_GROUP,
  CALICO_VERSION,
  type IPAMBlock,
  type IPAMConfig,
  type IPAMHandle,
  type IPPool,
  type IPReservation,
} from '../../../routing/bgp/calico/types.ts';
import type { CalicoNodeStatusBody } from '../../../routing/bgp/looking-glass/calico-node-status.ts';
import type { KubeObject } from '../../api/types.ts';
import type { TypedRef } from '../../client/resources.ts';

function ref<T extends KubeObject>(kind: string, plural = `${kind.toLowerCase()}s`): TypedRef<T> {
  return Object.freeze({ group: CALICO_GROUP, version: CALICO_VERSION, plural, kind, namespaced: false });
}

export interface CalicoNodeStatus extends KubeObject {
  spec?: {
    node: string;
    /** All of them when absent. */
    classes?: string[];
    /** 10 when absent. */
    updatePeriodSeconds?: number;
  };
  status?: CalicoNodeStatusBody;
}

export const CALICO = Object.freeze({
  pools: ref<IPPool>('IPPool'),
  configurations: ref<BGPConfiguration>('BGPConfiguration'),
  peers: ref<BGPPeer>('BGPPeer'),
  filters: ref<BGPFilter>('BGPFilter'),
  affinities: ref<BlockAffinity>('BlockAffinity', 'blockaffinities'),
  blocks: ref<IPAMBlock>('IPAMBlock'),
  handles: ref<IPAMHandle>('IPAMHandle'),
  ipamConfigs: ref<IPAMConfig>('IPAMConfig'),
  reservations: ref<IPReservation>('IPReservation'),
  nodeStatuses: ref<CalicoNodeStatus>('CalicoNodeStatus', 'caliconodestatuses'),
});
