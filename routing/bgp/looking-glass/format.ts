// Paths and numbers in the spelling routers use.

import { formatCidr } from '../../../src/lib/cidr.ts';
import { formatIpv4Number } from '../../../src/lib/ip.ts';
import { formatAsPath } from '../packet/path-attributes.ts';
import { formatCommunity } from '../policy/policy.ts';
import { PATH_FLAG } from '../rib/rib.ts';
import type { LocRib } from '../speaker/loc-rib.ts';
import type { PathView } from './views.ts';

const ORIGINS = ['IGP', 'EGP', 'incomplete'] as const;

export function pathView(loc: LocRib, path: number, multipath: boolean): PathView {
  const { rib } = loc;
  const net = rib.netOf[path]!;
  const { attributes } = rib.entry[path]!;
  const large = attributes.largeCommunities ?? [];
  return {
    prefix: formatCidr(rib.nets.cidr(net)),
    best: rib.best[net] === path,
    multipath,
    stale: (rib.flags[path]! & PATH_FLAG.STALE) !== 0,
    from: loc.candidate(path).source.name,
    nextHop: attributes.nextHop,
    asPath: formatAsPath(attributes.asPath),
    origin: ORIGINS[attributes.origin]!,
    localPref: attributes.localPref,
    med: attributes.med,
    communities: (attributes.communities ?? []).map(formatCommunity),
    largeCommunities: Array.from(
      { length: large.length / 3 },
      (_, i) => `${large[i * 3]}:${large[i * 3 + 1]}:${large[i * 3 + 2]}`,
    ),
    originatorId:
      attributes.originatorId === undefined ? undefined : formatIpv4Number(attributes.originatorId),
    clusterList: (attributes.clusterList ?? []).map(formatIpv4Number),
  };
}
