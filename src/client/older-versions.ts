// Resources that API servers of earlier releases have in an earlier version only, and how their objects translate. Whoever
// uses a KubeClient sees the version of RESOURCE alone; the client finds out what the server has (see client.ts).
// Source: k8s.io/api discovery/v1beta1 (1.17 to 1.24; topology gave way to nodeName and zone) and discovery/v1 (since 1.21).
import type { ResourceRef } from '../api/types.ts';
import { groupVersionOf } from './resources.ts';

const HOSTNAME = 'kubernetes.io/hostname';
const ZONE = 'topology.kubernetes.io/zone';

type Fields = Record<string, unknown>;

export interface OlderVersion {
  readonly version: string;
  /** One object, or a part of one (a patch), as this server has it, in the version that we use. */
  read(object: Fields): Fields;
  /** The reverse. */
  write(object: Fields): Fields;
}

function mapEndpoints(slice: Fields, change: (endpoint: Fields) => Fields): Fields {
  return Array.isArray(slice.endpoints) ? { ...slice, endpoints: slice.endpoints.map(change) } : slice;
}

function withoutUndefined(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

const SLICES_V1BETA1: OlderVersion = {
  version: 'v1beta1',
  read: slice =>
    mapEndpoints(slice, ({ topology, ...endpoint }) => {
      const { [HOSTNAME]: host, [ZONE]: zone, ...others } = (topology ?? {}) as Fields;
      return withoutUndefined({
        ...endpoint,
        nodeName: endpoint.nodeName ?? host,
        zone,
        deprecatedTopology: Object.keys(others).length > 0 ? others : undefined,
      });
    }),
  write: slice =>
    mapEndpoints(slice, ({ nodeName, zone, deprecatedTopology, ...endpoint }) => {
      const topology = withoutUndefined({
        ...(deprecatedTopology as Fields | undefined),
        [HOSTNAME]: nodeName,
        [ZONE]: zone,
      });
      return withoutUndefined({
        ...endpoint,
        nodeName,
        topology: Object.keys(topology).length > 0 ? topology : undefined,
      });
    }),
};

const OLDER: Readonly<Record<string, readonly OlderVersion[]>> = {
  'discovery.k8s.io/v1/endpointslices': [SLICES_V1BETA1],
};

/** The versions that a server may have instead of this one, the newest first. */
export function olderVersionsOf(ref: ResourceRef): readonly OlderVersion[] {
  return OLDER[`${groupVersionOf(ref)}/${ref.plural}`] ?? [];
}
