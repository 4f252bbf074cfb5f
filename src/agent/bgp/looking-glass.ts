// The speaker's views on the agent's admin socket, for `podwire bgp`.
import { calicoNodeStatus } from '../../../routing/bgp/looking-glass/calico-node-status.ts';
import { bgpSamples, type Sample } from '../../../routing/bgp/looking-glass/metrics.ts';
import { routeViews, whyView } from '../../../routing/bgp/looking-glass/routes.ts';
import { neighbourViews, statusView } from '../../../routing/bgp/looking-glass/status.ts';
import type { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { PodwireError } from '../../lib/errors.ts';
import { PODWIRE_VERSION } from '../../lib/version.ts';
import type { AdminRoutes } from '../../observe/admin-server.ts';

const MAX_ROUTES = 10_000;

export function lookingGlass(current: () => Speaker | undefined): AdminRoutes {
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
    'GET /bgp/metrics': () => promText(bgpSamples(speaker())),
    'GET /bgp/node-status': () => calicoNodeStatus(speaker(), new Date(), PODWIRE_VERSION),
  };
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
