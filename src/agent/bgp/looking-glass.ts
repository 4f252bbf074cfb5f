// The speaker's views on the agent's admin socket, for `podwire bgp`.
import { userMetadata } from '../../../routing/bgp/calico/names.ts';
import type { BGPPeer } from '../../../routing/bgp/calico/types.ts';
import {
  type CalicoNodeStatusBody,
  calicoNodeStatus,
  type NodeStatusClass,
} from '../../../routing/bgp/looking-glass/calico-node-status.ts';
import { bgpSamples, type Sample } from '../../../routing/bgp/looking-glass/metrics.ts';
import { routeViews, whyView } from '../../../routing/bgp/looking-glass/routes.ts';
import { neighbourViews, statusView } from '../../../routing/bgp/looking-glass/status.ts';
import type { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import type { FibTable } from '../../../routing/fib/fib-table.ts';
import { PodwireError } from '../../lib/errors.ts';
import { PODWIRE_VERSION } from '../../lib/version.ts';
import type { AdminRoutes } from '../../observe/admin-server.ts';

const MAX_ROUTES = 10_000;

export function lookingGlass(
  current: () => Speaker | undefined,
  nodeStatus: (speaker: Speaker) => CalicoNodeStatusBody | undefined,
): AdminRoutes {
  const speaker = (): Speaker => {
    const found = current();
    if (!found) throw new PodwireError('NOT_READY', 'the BGP speaker has not started yet');
    return found;
  };
  return {
    'GET /bgp/status': () => statusView(speaker()),
    'GET /bgp/neighbors': () => neighbourViews(speaker()),
    'GET /bgp/routes': ({ query }) =>
      routeViews(speaker(), {
        ...(query.has('prefix') ? { prefix: query.get('prefix')! } : {}),
        limit: Number(query.get('limit') ?? MAX_ROUTES),
      }),
    'GET /bgp/why': ({ query }) => whyView(speaker(), query.get('prefix') ?? ''),
    'GET /bgp/metrics': () => bgpMetrics(speaker()),
    'GET /bgp/node-status': () => nodeStatus(speaker()),
  };
}

/** What CalicoNodeStatus objects of this node are told; undefined before the speaker runs. */
export function nodeStatusBody(
  speaker: Speaker | undefined,
  classes: readonly NodeStatusClass[],
  fib: FibTable,
  peers: readonly BGPPeer[],
): CalicoNodeStatusBody | undefined {
  if (speaker === undefined) return undefined;
  const global = peers.filter(({ spec }) => spec?.node === undefined && spec?.nodeSelector === undefined);
  const names = new Set(global.map(peer => userMetadata(peer).name));
  const links = classes.includes('Routes')
    ? new Map(fib.fragment().routes?.map(({ destination, link }) => [destination, link]))
    : undefined;
  return calicoNodeStatus(speaker, {
    classes,
    now: new Date(),
    version: PODWIRE_VERSION,
    isGlobal: name => names.has(name.slice(0, name.indexOf(':'))),
    linkOf: destination => links?.get(destination),
  });
}

/** Prometheus text. */
export function bgpMetrics(speaker: Speaker): string {
  return promText(bgpSamples(speaker));
}

/** Prometheus' text format; samples of one name stand together. */
function promText(samples: readonly Sample[]): string {
  const byName = Map.groupBy(samples, ({ name }) => name);
  const quoted = (text: string): string =>
    `"${text.replace(/[\\\n"]/g, char => (char === '\n' ? '\\n' : `\\${char}`))}"`;
  return [...byName]
    .map(([name, [first, ...others]]) => {
      const lines = [first!, ...others].map(({ labels, value }) => {
        const pairs = Object.entries(labels).map(([key, text]) => `${key}=${quoted(text)}`);
        return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}\n`;
      });
      return `# HELP ${name} ${first!.help}\n# TYPE ${name} ${first!.type}\n${lines.join('')}`;
    })
    .join('');
}
