// The speaker's views on the agent's admin socket, for `podwire bgp`.
import { calicoNodeStatus } from '../../../routing/bgp/looking-glass/calico-node-status.ts';
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
    'GET /bgp/node-status': () => calicoNodeStatus(speaker(), new Date(), PODWIRE_VERSION),
  };
}
