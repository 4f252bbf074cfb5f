// Where kube-proxy of this day and kube-proxy 1.20 are meant to treat a packet differently, each by name. What none of these
// names is a difference that nobody meant. Pure.
import type { EndpointSlice, Service } from '../../../src/api/types.ts';
import type { Target } from './oracle-cluster.ts';

export type Contestant = 'iptables' | 'nftables' | 'userspace';

/** What came of a few connections from one place to one target. */
export interface Observation {
  /** `answer`, or the code of the refusal. */
  outcome: string;
  servers: ReadonlySet<string>;
  /** Whether the server saw another address than the sender's; undefined without an answer or for the node's own. */
  masqueraded?: boolean;
}

export interface Comparison {
  contestant: Contestant;
  origin: 'pod' | 'client' | 'node';
  target: Target;
  service: Service;
  slice: EndpointSlice;
  real: Observation;
  ours: Observation;
}

export interface Difference {
  name: string;
  applies(compared: Comparison): boolean;
}

function isLocalOnly({ service, target }: Comparison): boolean {
  return (
    service.spec?.externalTrafficPolicy === 'Local' &&
    target.kind !== 'clusterIP' &&
    target.kind !== 'unknownPort'
  );
}

/** Nobody is ready where the packet may go, but somebody there still serves on the way out. */
function fallsBackToTerminating({ slice }: Comparison): boolean {
  const scopes = [slice.endpoints, slice.endpoints.filter(({ nodeName }) => nodeName === 'node')];
  return scopes.some(
    scope =>
      scope.every(({ conditions }) => conditions?.ready !== true) &&
      scope.some(({ conditions }) => conditions?.serving === true && conditions.terminating === true),
  );
}

export const DIFFERENCES: readonly Difference[] = [
  {
    name: 'terminating endpoints serve when nobody is ready (KEP-1669, GA in 1.28)',
    applies: compared => {
      const { real, ours, service } = compared;
      const checked = (service.spec?.loadBalancerSourceRanges ?? []).length > 0 || isLocalOnly(compared);
      // To 1.20 such a Service has no endpoints and is refused; now it has, and its other conditions hold.
      const asWithEndpoints = ours.outcome === 'answer' || (ours.outcome === 'TIMEOUT' && checked);
      return real.outcome !== 'answer' && asWithEndpoints && fallsBackToTerminating(compared);
    },
  },
  {
    name: "external IPs hold for this node's pods and its own packets, too (1.20 leaves those to routing)",
    applies: ({ target, origin, real }) =>
      target.kind === 'externalIP' && origin !== 'client' && real.outcome !== 'answer',
  },
  {
    name: 'nftables mode refuses ports that a cluster IP does not have (KEP-3866); iptables lets them pass',
    applies: ({ contestant, target, ours }) =>
      contestant === 'nftables' && target.kind === 'unknownPort' && ours.outcome === 'ECONNREFUSED',
  },
  {
    name: "the node's own packets to external addresses without endpoints are refused, too (nftables: KEP-3866; userspace)",
    applies: ({ contestant, origin, target, real, ours }) =>
      contestant !== 'iptables' &&
      origin === 'node' &&
      (target.kind === 'loadBalancer' || target.kind === 'externalIP') &&
      real.outcome === 'TIMEOUT' &&
      ours.outcome === 'ECONNREFUSED',
  },
  {
    name: 'userspace mode: the relay is the client that an endpoint sees',
    applies: ({ contestant, real, ours }) =>
      contestant === 'userspace' && real.outcome === 'answer' && ours.outcome === 'answer',
  },
  {
    name: 'userspace mode knows no source ranges and no traffic policy Local, and never did',
    applies: ({ contestant, target, service, ...rest }) =>
      contestant === 'userspace' &&
      ((target.kind === 'loadBalancer' && (service.spec?.loadBalancerSourceRanges ?? []).length > 0) ||
        isLocalOnly({ contestant, target, service, ...rest })),
  },
];

/** The same to whoever sent the packets. A pod that only met itself does not know who is masqueraded. */
export function isSame({ real, ours }: Pick<Comparison, 'real' | 'ours'>): boolean {
  const known = real.masqueraded !== undefined && ours.masqueraded !== undefined;
  return real.outcome === ours.outcome && !(known && real.masqueraded !== ours.masqueraded);
}

/** The name of a difference that was meant; undefined when nobody meant it. */
export function explain(compared: Comparison): string | undefined {
  return DIFFERENCES.find(({ applies }) => applies(compared))?.name;
}
