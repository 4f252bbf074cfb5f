// `bgp routes [PREFIX]` and `bgp why PREFIX`. Nothing is recorded for these while routes come in: import, decision and
// export are run again for the one prefix, on the same state, and say what they did.
import { cidrContainsCidr, compareCidr, formatCidr, parseCidrOrIp } from '../../../src/lib/cidr.ts';
import { PodwireError } from '../../../src/lib/errors.ts';
import type { Family } from '../packet/context.ts';
import { NONE, PATH_FLAG } from '../rib/rib.ts';
import { exportRoute } from '../speaker/export.ts';
import { importRoute } from '../speaker/import.ts';
import type { Speaker } from '../speaker/speaker.ts';
import { pathView } from './format.ts';
import type { PathView, WhyView } from './views.ts';

export interface RoutesQuery {
  /** Only this prefix and what is inside it. */
  readonly prefix?: string;
  readonly family?: Family;
  /** Chosen paths only. */
  readonly bestOnly?: boolean;
  readonly limit?: number;
}

function parse(text: string) {
  const cidr = parseCidrOrIp(text);
  if (cidr === undefined)
    throw new PodwireError('INVALID_CIDR', `${JSON.stringify(text)} is neither a prefix nor an address`);
  return cidr;
}

export function routeViews(speaker: Speaker, query: RoutesQuery = {}): PathView[] {
  const within = query.prefix === undefined ? undefined : parse(query.prefix);
  const views: PathView[] = [];
  const limit = query.limit ?? Number.POSITIVE_INFINITY;
  for (const family of [4, 6] as const) {
    if (query.family !== undefined && query.family !== family) continue;
    if (within !== undefined && within.family !== family) continue;
    const loc = speaker.locRibs[family];
    const { rib } = loc;
    const nets: number[] = [];
    for (let net = 0; net < rib.nets.limit; net++)
      if (rib.nets.has(net) && (within === undefined || cidrContainsCidr(within, rib.nets.cidr(net))))
        nets.push(net);
    nets.sort((a, b) => compareCidr(rib.nets.cidr(a), rib.nets.cidr(b)));
    for (const net of nets) {
      if (views.length >= limit) return views;
      const equal = new Set(loc.decide(net).multipath.map(candidate => candidate.path));
      for (const path of rib.pathsOf(net))
        if (query.bestOnly !== true || rib.best[net] === path)
          views.push(pathView(loc, path, equal.has(path)));
    }
  }
  return views;
}

/** The net of a prefix, or of the longest one that covers it. */
function findNet(speaker: Speaker, text: string): { family: Family; net: number } {
  const wanted = parse(text);
  const { rib } = speaker.locRibs[wanted.family];
  for (let length = wanted.prefixLength; length >= 0; length--) {
    const covering = parseCidrOrIp(`${formatCidr(wanted).split('/')[0]}/${length}`)!;
    const net = rib.nets.findCidr(covering);
    if (net !== NONE && rib.head[net] !== NONE) return { family: wanted.family, net };
  }
  return { family: wanted.family, net: NONE };
}

export function whyView(speaker: Speaker, prefix: string): WhyView {
  const { family, net } = findNet(speaker, prefix);
  if (net === NONE) return { prefix, found: false, paths: [], advertised: [] };
  const loc = speaker.locRibs[family];
  const { rib } = loc;
  const decision = loc.decide(net, true);
  const lost = new Map(decision.lost.map(({ candidate, step }) => [candidate.path, step]));
  const equal = new Set(decision.multipath.map(candidate => candidate.path));
  const verdictOf = (path: number): string => {
    if (decision.best?.path === path) return 'best';
    if ((rib.flags[path]! & PATH_FLAG.REFUSED) !== 0) return `refused: ${refusal(speaker, family, path)}`;
    const step = lost.get(path);
    if (equal.has(path)) return `equal to the best for ECMP; not best by ${step}`;
    return `lost by ${step}`;
  };
  return {
    prefix: formatCidr(rib.nets.cidr(net)),
    found: true,
    paths: rib
      .pathsOf(net)
      .map(path => ({ ...pathView(loc, path, equal.has(path)), verdict: verdictOf(path) })),
    advertised: advertisedTo(speaker, family, net),
  };
}

/** Import is asked again: reasons are not kept per path. */
function refusal(speaker: Speaker, family: Family, path: number): string {
  const { rib } = speaker.locRibs[family];
  const source = speaker.sources[rib.source[path]!];
  const neighbour = source === undefined ? undefined : speaker.neighbours.get(source.name);
  if (neighbour === undefined) return 'the neighbour is gone';
  const net = rib.netOf[path]!;
  const verdict = importRoute(speaker.importContext(neighbour), rib.received[path]!, speaker.store, {
    family,
    words: rib.nets.words,
    at: net * rib.nets.stride,
    length: rib.nets.lengths[net]!,
  });
  return typeof verdict === 'string' ? verdict : 'policy has changed since';
}

function advertisedTo(speaker: Speaker, family: Family, net: number): WhyView['advertised'] {
  const { rib } = speaker.locRibs[family];
  const best = rib.best[net]!;
  return [...speaker.neighbours.values()].flatMap((neighbour): WhyView['advertised'] => {
    const group = neighbour.groups.get(family);
    if (group === undefined) return [];
    const to = neighbour.peer.name;
    if (best === NONE) return [{ to, announced: false, reason: 'no path is usable' }];
    const source = speaker.sources[rib.source[best]!]!;
    if (source.index === neighbour.index)
      return [{ to, announced: false, reason: 'it is this neighbour that told us' }];
    const verdict = exportRoute(group.context, rib.entry[best]!, source, speaker.store, {
      family,
      words: rib.nets.words,
      at: net * rib.nets.stride,
      length: rib.nets.lengths[net]!,
    });
    if (typeof verdict === 'string') return [{ to, announced: false, reason: verdict }];
    return [{ to, announced: true, reason: `next hop ${verdict.attributes.nextHop}` }];
  });
}
