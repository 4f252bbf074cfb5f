// Who this node peers with (confd/pkg/backends/calico/client.go): the mesh, reflectors, BGPPeers that are global, for a
// node or for selected nodes, and the reverse of peerings that others configured towards this node.

import { errorMessage } from '../../../src/lib/errors.ts';
import { formatIp, ipFamily } from '../../../src/lib/ip.ts';
import type { Problem } from '../../../src/lib/problem.ts';
import type { PeerConfig } from '../session/peer-config.ts';
import { bfdConfig, bfdProblem } from './bfd.ts';
import { parseAsNumber, parseDuration, userMetadata } from './names.ts';
import { type CalicoNode, inOwnSubnet, nodeAddress } from './node-info.ts';
import { AUTOMATIC_CLUSTER_ID } from './reflectors.ts';
import { parseSelector, type Selector } from './selector.ts';
import type { BfdSpec, BGPConfiguration, BGPPeer, SecretKeyRef } from './types.ts';
import { type LocalWorkload, workloadSessions } from './workload-peers.ts';

export const DEFAULT_ASN = 64512;

export interface PeersInput {
  readonly self: CalicoNode;
  readonly nodes: readonly CalicoNode[];
  readonly spec: NonNullable<BGPConfiguration['spec']>;
  readonly peers: readonly BGPPeer[];
  readonly localWorkloads?: readonly LocalWorkload[];
  readonly secret: (ref: SecretKeyRef) => string | undefined;
}

/** A session before policies are added; `filters` are BGPFilter names. */
export interface ResolvedPeer {
  readonly config: PeerConfig;
  readonly filters: readonly string[];
  /** The BGPPeer it comes from; undefined for the mesh. */
  readonly owner: string | undefined;
  /** The other end is a node of this cluster. */
  readonly clusterNode: string | undefined;
  /** The other end is a pod: nothing is taken from it but what filters accept. */
  readonly workload?: boolean;
  /** `reachableBy`: the way to the peer leads over this gateway. */
  readonly gateway?: string;
}

export function resolvePeers(input: PeersInput): { peers: ResolvedPeer[]; problems: Problem[] } {
  const problems: Problem[] = [];
  const found = new Map<string, ResolvedPeer>();
  const add = (peer: ResolvedPeer): void => {
    const key = `${peer.config.address} ${peer.config.port ?? 179}`;
    if (!found.has(key)) found.set(key, peer);
  };
  const valid = input.peers.flatMap(object => readPeer(object, problems) ?? []);
  // Global ones first, then those for a node; explicit ones before the reverse of others', the mesh last.
  const explicit = valid.filter(peer => peer.selectsLocal(input.self.labels, input.self.name));
  for (const peer of [...explicit.filter(p => p.global), ...explicit.filter(p => !p.global)])
    for (const resolved of forward(peer, input, problems)) add(resolved);
  for (const peer of valid) for (const resolved of reverse(peer, input)) add(resolved);
  for (const resolved of mesh(input)) add(resolved);
  problems.push(...bfdProblems(input));
  return { peers: [...found.values()], problems };
}

function bfdProblems({ spec, peers }: PeersInput): Problem[] {
  const asked = peers.map(object => ({
    bfd: object.spec?.bfd,
    owner: { kind: 'BGPPeer', name: userMetadata(object).name },
  }));
  asked.push({ bfd: spec.nodeMeshBFD, owner: { kind: 'BGPConfiguration', name: 'default' } });
  return asked.flatMap(({ bfd, owner }) => (bfd === undefined ? [] : (bfdProblem(bfd, owner) ?? [])));
}

interface ReadPeer {
  readonly name: string;
  readonly global: boolean;
  readonly spec: NonNullable<BGPPeer['spec']>;
  readonly selectsLocal: (labels: Readonly<Record<string, string>>, node: string) => boolean;
  readonly selectsPeer: Selector | undefined;
  readonly selectsWorkload: Selector | undefined;
}

function readPeer(object: BGPPeer, problems: Problem[]): ReadPeer | undefined {
  const { name } = userMetadata(object);
  const spec = object.spec ?? {};
  try {
    const selector = spec.nodeSelector === undefined ? undefined : parseSelector(spec.nodeSelector);
    return {
      name,
      spec,
      global: spec.node === undefined && spec.nodeSelector === undefined,
      selectsLocal: (labels, node) =>
        spec.node !== undefined ? spec.node === node : (selector?.(labels) ?? true),
      selectsPeer: spec.peerSelector === undefined ? undefined : parseSelector(spec.peerSelector),
      selectsWorkload:
        spec.localWorkloadSelector === undefined ? undefined : parseSelector(spec.localWorkloadSelector),
    };
  } catch (error) {
    problems.push({
      kind: 'BGPPeer',
      name,
      reason: 'InvalidSelector',
      message: `${errorMessage(error)}; the peer is not used`,
    });
    return undefined;
  }
}

const asnOf = (node: CalicoNode, input: PeersInput): number =>
  node.asn ?? parseAsNumber(input.spec.asNumber) ?? DEFAULT_ASN;

/** `ip`, `ip:port` or `[ip]:port`. */
export function parsePeerIp(text: string): { address: string; port: number | undefined } | undefined {
  const match = /^\[([^\]]+)\]:(\d+)$/.exec(text) ?? /^([0-9.]+):(\d+)$/.exec(text);
  const address = match?.[1] ?? text;
  if (ipFamily(address) === undefined) return undefined;
  return { address, port: match === null ? undefined : Number(match[2]) };
}

/** What a BGPPeer says about the session, whichever end we are. */
function sessionOptions(
  { name, spec }: ReadPeer,
  input: PeersInput,
  problems: Problem[],
): Partial<PeerConfig> | undefined {
  const password = spec.password === undefined ? undefined : input.secret(spec.password);
  if (spec.password !== undefined && password === undefined) {
    problems.push({
      kind: 'BGPPeer',
      name,
      reason: 'PasswordMissing',
      message: `secret ${spec.password.secretKeyRef?.name}/${spec.password.secretKeyRef?.key} is not there; the session waits for it`,
    });
    return undefined;
  }
  const restartMs = parseDuration(spec.maxRestartTime);
  const keepaliveMs = parseDuration(spec.keepaliveTime);
  const localAsn = parseAsNumber(spec.localASNumber);
  const mode = spec.nextHopMode ?? (spec.keepOriginalNextHop === true ? 'Keep' : 'Auto');
  return {
    nextHopMode: mode.toLowerCase() as 'auto' | 'self' | 'keep',
    multihop: 255,
    ...(password === undefined ? {} : { password }),
    ...(localAsn === undefined ? {} : { localAsn }),
    ...(restartMs === undefined ? {} : { gracefulRestartSeconds: Math.round(restartMs / 1000) }),
    ...(keepaliveMs === undefined ? {} : { holdTimeSeconds: Math.round((keepaliveMs * 3) / 1000) }),
    ...(spec.numAllowedLocalASNumbers === undefined ? {} : { allowOwnAs: spec.numAllowedLocalASNumbers }),
    ...(spec.ttlSecurity === undefined ? {} : { ttlSecurityHops: spec.ttlSecurity }),
  };
}

function localAddress(
  input: PeersInput,
  peerAddress: string,
  source: string | undefined,
): Partial<PeerConfig> {
  const own = nodeAddress(input.self, ipFamily(peerAddress) ?? 4);
  return source === 'None' || own === undefined ? {} : { localAddress: own };
}

function watched(bfd: BfdSpec | undefined, { self }: PeersInput, peerAddress: string): Partial<PeerConfig> {
  return bfd === undefined ? {} : { bfd: bfdConfig(bfd, self, peerAddress) };
}

function forward(peer: ReadPeer, input: PeersInput, problems: Problem[]): ResolvedPeer[] {
  const { spec, name } = peer;
  const options = sessionOptions(peer, input, problems);
  if (options === undefined) return [];
  if (peer.selectsPeer !== undefined)
    return input.nodes
      .filter(node => node.name !== input.self.name && peer.selectsPeer!(node.labels))
      .flatMap(node =>
        nodeSessions(node, input, { owner: name, filters: spec.filters ?? [], options, bfd: spec.bfd }),
      );
  const remote = spec.peerIP === undefined ? undefined : parsePeerIp(spec.peerIP);
  const asn = parseAsNumber(spec.asNumber);
  if (peer.selectsWorkload !== undefined && remote === undefined && asn !== undefined)
    return workloadSessions(name, peer.selectsWorkload, input.localWorkloads ?? [], { ...options, asn }).map(
      config => ({
        config: { ...config, ...watched(spec.bfd, input, config.address) },
        filters: spec.filters ?? [],
        owner: name,
        clusterNode: undefined,
        workload: true,
      }),
    );
  if (remote === undefined || asn === undefined) {
    problems.push({
      kind: 'BGPPeer',
      name,
      reason: 'InvalidPeer',
      message: `peerIP ${JSON.stringify(spec.peerIP)} with asNumber ${JSON.stringify(spec.asNumber)} is no peer; it is not used`,
    });
    return [];
  }
  const own = [nodeAddress(input.self, 4), nodeAddress(input.self, 6)];
  if (own.includes(remote.address)) return [];
  const node = input.nodes.find(one => [nodeAddress(one, 4), nodeAddress(one, 6)].includes(remote.address));
  const port = remote.port ?? (node === undefined ? undefined : input.spec.listenPort);
  return [
    {
      config: {
        name: `${name}:${remote.address}`,
        address: remote.address,
        asn,
        ...(port === undefined ? {} : { port }),
        ...options,
        ...localAddress(input, remote.address, spec.sourceAddress),
        ...watched(spec.bfd, input, remote.address),
        ...(node === undefined ? sharedWith(input.self, remote.address) : reflection(input.self, node)),
      },
      filters: spec.filters ?? [],
      owner: name,
      clusterNode: node?.name,
      ...gatewayTo(remote.address, peer, problems),
    },
  ];
}

/** A router in the node's own subnet reaches other nodes there as directly as it reaches this one. */
function sharedWith(self: CalicoNode, peerAddress: string): Partial<PeerConfig> {
  if (!inOwnSubnet(self, peerAddress)) return {};
  const subnets = [self.ipv4, self.ipv6].flatMap(own =>
    own === undefined || own.prefixLength === own.network.length * 8 ? [] : [own],
  );
  return { sharedSubnets: subnets };
}

function gatewayTo(
  address: string,
  { name, spec: { reachableBy } }: ReadPeer,
  problems: Problem[],
): { gateway?: string } {
  if (reachableBy === undefined || reachableBy === '') return {};
  if (ipFamily(reachableBy) === ipFamily(address)) return { gateway: reachableBy };
  problems.push({
    kind: 'BGPPeer',
    name,
    reason: 'InvalidPeer',
    message: `reachableBy ${JSON.stringify(reachableBy)} is no address that ${address} could be reached by; no route is made`,
  });
  return {};
}

interface NodePeering {
  readonly owner: string | undefined;
  readonly filters: readonly string[];
  readonly options: Partial<PeerConfig>;
  readonly bfd: BfdSpec | undefined;
}

/** Sessions to a node: one over each family both ends have (Calico's form, and what its nodes expect). */
function nodeSessions(
  node: CalicoNode,
  input: PeersInput,
  { owner, filters, options, bfd }: NodePeering,
): ResolvedPeer[] {
  return ([4, 6] as const).flatMap(family => {
    const own = family === 4 ? input.self.ipv4 : input.self.ipv6;
    const theirs = family === 4 ? node.ipv4 : node.ipv6;
    if (own === undefined || theirs === undefined) return [];
    const address = formatIp(theirs.address);
    const local = formatIp(own.address);
    const { listenPort } = input.spec;
    return [
      {
        config: {
          name: `${owner ?? 'mesh'}:${node.name}:v${family}`,
          address,
          asn: asnOf(node, input),
          localAddress: local,
          families: [family],
          // Both ends are configured; the one with the smaller text connects, as Calico has it.
          passive: address > local,
          multihop: 255,
          ...(listenPort === undefined ? {} : { port: listenPort }),
          addPath: { receive: true, send: false },
          ...options,
          ...watched(bfd, input, address),
          ...reflection(input.self, node),
        },
        filters,
        owner,
        clusterNode: node.name,
      },
    ];
  });
}

/** RFC 4456 as confd does it: a node with another cluster id, or none, is the client of one that has an id. */
function reflection(self: CalicoNode, other: CalicoNode): Partial<PeerConfig> {
  return self.clusterId !== undefined && self.clusterId !== other.clusterId ? { reflectorClient: true } : {};
}

/** Others' BGPPeers that choose this node as the far end: without a peering of ours theirs would find no answer. */
function reverse(peer: ReadPeer, input: PeersInput): ResolvedPeer[] {
  const { spec, name } = peer;
  if (spec.reversePeering === 'Manual') return [];
  const own = [nodeAddress(input.self, 4), nodeAddress(input.self, 6)];
  const target = spec.peerIP === undefined ? undefined : parsePeerIp(spec.peerIP)?.address;
  const chosen =
    peer.selectsPeer !== undefined
      ? peer.selectsPeer(input.self.labels)
      : target !== undefined && own.includes(target);
  if (!chosen) return [];
  const options = sessionOptions(peer, input, []);
  if (options === undefined) return [];
  return input.nodes
    .filter(node => node.name !== input.self.name && peer.selectsLocal(node.labels, node.name))
    .flatMap(node =>
      nodeSessions(node, input, { owner: name, filters: spec.filters ?? [], options, bfd: spec.bfd }),
    );
}

/**
 * Every node with every other; reflectors keep out, both ways, because their owner gives them peerings. Reflectors that
 * podwire chose have none: everybody is with them, and nobody else with anybody.
 */
function inMesh(self: CalicoNode, other: CalicoNode, automatic: boolean): boolean {
  if (!automatic) return self.clusterId === undefined && other.clusterId === undefined;
  return self.clusterId !== undefined || other.clusterId !== undefined;
}

function mesh(input: PeersInput): ResolvedPeer[] {
  if (input.spec.nodeToNodeMeshEnabled === false) return [];
  const automatic = input.nodes.some(node => node.clusterId === AUTOMATIC_CLUSTER_ID);
  const password =
    input.spec.nodeMeshPassword === undefined ? undefined : input.secret(input.spec.nodeMeshPassword);
  if (input.spec.nodeMeshPassword !== undefined && password === undefined) return [];
  const restartMs = parseDuration(input.spec.nodeMeshMaxRestartTime);
  const options: Partial<PeerConfig> = {
    ...(password === undefined ? {} : { password }),
    ...(restartMs === undefined ? {} : { gracefulRestartSeconds: Math.round(restartMs / 1000) }),
  };
  return input.nodes
    .filter(node => node.name !== input.self.name && inMesh(input.self, node, automatic))
    .flatMap(node =>
      nodeSessions(node, input, { owner: undefined, filters: [], options, bfd: input.spec.nodeMeshBFD }),
    );
}
