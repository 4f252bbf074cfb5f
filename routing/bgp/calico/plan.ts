// One node's BGP from the cluster's objects: a pure function to the speaker's configuration, with what is wrong. The
// agent calls it whenever an object changes and hands the result to Speaker.configure, which changes only what differs.
import { type Cidr, formatCidr, parseCidr } from '../../../src/lib/cidr.ts';
import type { Problem } from '../../../src/lib/problem.ts';
import type { PeerConfig } from '../session/peer-config.ts';
import type { OriginatedRoute, SpeakerConfig } from '../speaker/speaker-config.ts';
import { blocksOfNode } from './blocks.ts';
import { communityStatements, exportPolicy, importPolicy } from './export-policy.ts';
import { filterStatements } from './filters.ts';
import { guardedAddresses } from './guarded.ts';
import type { CalicoInput } from './input.ts';
import { parseAsNumber, userMetadata } from './names.ts';
import { type CalicoNode, calicoNode, nodeAddress, routerIdOf } from './node-info.ts';
import { DEFAULT_ASN, type ResolvedPeer, resolvePeers } from './peers.ts';
import { type Pool, readPools } from './pools.ts';
import { NORMAL_PRIORITY, priorityToLocalPref } from './priority.ts';
import { withAutomaticReflectors } from './reflectors.ts';
import { serviceRoutes } from './services.ts';
import type { BGPConfiguration } from './types.ts';

export interface BgpPlan {
  /** Undefined while the node has no address: there is nobody to be yet. */
  readonly config: SpeakerConfig | undefined;
  readonly pools: readonly Pool[];
  /** Routes to peers themselves (reachableBy), so that what peers announce cannot move the way to them. */
  readonly waysToPeers: readonly { readonly destination: string; readonly gateway: string }[];
  readonly problems: readonly Problem[];
}

type Spec = NonNullable<BGPConfiguration['spec']>;

/** `default`, with the fields that `node.<name>` overrides. */
export function effectiveConfiguration(configurations: readonly BGPConfiguration[], nodeName: string): Spec {
  const named = (name: string): Spec =>
    configurations.find(object => userMetadata(object).name === name)?.spec ?? {};
  return { ...named('default'), ...named(`node.${nodeName}`) };
}

export function planBgp(input: CalicoInput): BgpPlan {
  const problems: Problem[] = [];
  const spec = effectiveConfiguration(input.configurations, input.nodeName);
  const nodes = withAutomaticReflectors(
    input.nodes.map(calicoNode),
    spec.nodeToNodeMeshEnabled === false
      ? 0
      : (spec.automaticReflectorsAbove ?? input.automaticReflectorsAbove ?? 0),
  );
  const self = nodes.find(node => node.name === input.nodeName);
  const pools = readPools(input.pools);
  problems.push(...pools.problems);
  if (self === undefined || (self.ipv4 ?? self.ipv6) === undefined)
    return { config: undefined, pools: pools.pools, waysToPeers: [], problems };
  const blocks = blocksOfNode(input.nodeName, input.affinities, input.blocks);
  problems.push(...blocks.problems);
  const sessions = resolvePeers({
    ...{ self, nodes, spec, peers: input.peers, secret: input.secret },
    localWorkloads: input.localWorkloads ?? [],
  });
  problems.push(...sessions.problems);
  const services = serviceRoutes({
    node: self,
    nodes,
    spec,
    services: input.services,
    endpointSlices: input.endpointSlices,
  });
  const policies = peerPolicies(input, spec, pools.pools, blocks.own, problems);
  const config: SpeakerConfig = {
    asn: self.asn ?? parseAsNumber(spec.asNumber) ?? DEFAULT_ASN,
    routerId: routerIdOf(self),
    ...(self.clusterId === undefined ? {} : { clusterId: self.clusterId }),
    listen: listeners(self, spec),
    nextHops: ownNextHops(self),
    peers: sessions.peers.map(policies),
    originate: originated(blocks.own, blocks.borrowed, services, spec),
  };
  const waysToPeers = sessions.peers.flatMap(({ config: { address }, gateway }) =>
    gateway === undefined ? [] : [{ destination: `${address}/${address.includes(':') ? 128 : 32}`, gateway }],
  );
  return { config, pools: pools.pools, waysToPeers, problems };
}

function listeners(self: CalicoNode, spec: Spec): SpeakerConfig['listen'] {
  const port = spec.listenPort ?? 179;
  const addresses: string[] =
    spec.bindMode === 'NodeIP'
      ? ([4, 6] as const).flatMap(family => nodeAddress(self, family) ?? [])
      : ['0.0.0.0', '::'];
  return addresses.map(address => ({ address, port }));
}

function ownNextHops(self: CalicoNode): Partial<Record<4 | 6, string>> {
  const v4 = nodeAddress(self, 4);
  const v6 = nodeAddress(self, 6);
  return { ...(v4 === undefined ? {} : { 4: v4 }), ...(v6 === undefined ? {} : { 6: v6 }) };
}

function originated(
  own: readonly Cidr[],
  borrowed: readonly Cidr[],
  services: readonly Cidr[],
  spec: Spec,
): OriginatedRoute[] {
  const priority = (cidr: Cidr): number =>
    (cidr.family === 4 ? spec.ipv4NormalRoutePriority : spec.ipv6NormalRoutePriority) ?? NORMAL_PRIORITY;
  const route = (cidr: Cidr, origin: string, blackhole: boolean): OriginatedRoute => ({
    cidr,
    origin,
    blackhole,
    set: { localPref: priorityToLocalPref(priority(cidr)) },
  });
  // A block of one address is a pod: a blackhole would swallow it (calico#2624). A service range is kept from looping.
  return [
    ...own.map(cidr => route(cidr, 'block', cidr.prefixLength < cidr.network.length * 8)),
    ...borrowed.map(cidr => route(cidr, 'borrowed address', false)),
    ...services.map(cidr => route(cidr, 'service', cidr.prefixLength < cidr.network.length * 8)),
  ];
}

function peerPolicies(
  input: CalicoInput,
  spec: Spec,
  pools: readonly Pool[],
  ownBlocks: readonly Cidr[],
  problems: Problem[],
): (peer: ResolvedPeer) => PeerConfig {
  const filters = new Map(input.filters.map(filter => [userMetadata(filter).name, filter]));
  const communities = communityStatements(spec, parseCidr);
  const guarded = guardedAddresses(input);
  return ({ config, filters: names, owner, clusterNode, workload }) => {
    const object = { kind: 'BGPPeer', name: owner ?? 'mesh' };
    return {
      ...config,
      exportPolicy: exportPolicy(
        {
          pools,
          filters: filterStatements(names, filters, 'export', object, problems),
          ownBlocks,
          spec,
        },
        communities,
      ),
      importPolicy: {
        ...importPolicy(
          filterStatements(names, filters, 'import', object, problems),
          ownBlocks,
          // A peer outside the cluster has no business with the nodes' own addresses.
          clusterNode === undefined ? guarded : [],
        ),
        ...(workload === true ? { otherwise: 'reject' as const } : {}),
      },
    };
  };
}

/** For logs and `status`: what the plan says in one line. */
export function describePlan({ config }: BgpPlan): string {
  if (config === undefined) return 'no address of this node is known yet';
  return `AS ${config.asn}, router id ${config.routerId}, ${config.peers.length} peers, announcing ${config.originate
    .map(route => formatCidr(route.cidr))
    .join(' ')}`;
}
