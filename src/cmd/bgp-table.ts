// The looking glass's views as text for a terminal.
import Table from 'cli-table3';
import type { NeighbourView, PathView, StatusView, WhyView } from '../../routing/bgp/looking-glass/views.ts';

function table(head: string[], rows: string[][]): string {
  const made = new Table({ head, style: { head: [], border: [], compact: true } });
  made.push(...rows);
  return made.toString();
}

export function formatBgpStatus(nodes: readonly { node: string; status: StatusView }[]): string {
  return table(
    ['NODE', 'AS', 'ROUTER ID', 'SESSIONS', 'PREFIXES', 'ANNOUNCES', 'STATE'],
    nodes.map(({ node, status }) => [
      node,
      String(status.asn),
      status.routerId,
      `${status.neighbours.established} of ${status.neighbours.configured} up`,
      `${status.routes.ipv4.prefixes} + ${status.routes.ipv6.prefixes}`,
      status.announced.map(({ prefix, origin }) => `${prefix} (${origin})`).join('\n'),
      status.complete ? 'complete' : 'restarting',
    ]),
  );
}

export function formatNeighbours(neighbours: readonly NeighbourView[]): string {
  return table(
    ['NEIGHBOR', 'ADDRESS', 'AS', 'STATE', 'SINCE', 'BFD', 'RECEIVED', 'ADVERTISED', 'LAST ERROR'],
    neighbours.map(one => [
      one.name,
      one.address,
      one.asn === undefined ? '' : String(one.asn),
      one.staleSince === undefined ? one.state : `${one.state} (routes kept)`,
      one.since,
      bfdText(one.bfd),
      String(one.received.ipv4 + one.received.ipv6),
      String(one.advertised.ipv4 + one.advertised.ipv6),
      one.lastError ?? '',
    ]),
  );
}

/** `Up 300 ms`: silence for so long ends the session. */
function bfdText(bfd: NeighbourView['bfd']): string {
  if (bfd === undefined) return '';
  return bfd.state === 'Up' ? `Up ${bfd.detectionMs} ms` : bfd.state;
}

export function formatRoutes(paths: readonly PathView[]): string {
  return table(
    ['', 'PREFIX', 'NEXT HOP', 'FROM', 'LOCAL PREF', 'MED', 'AS PATH', 'COMMUNITIES'],
    paths.map(path => [
      path.best ? '*' : path.multipath ? '=' : '',
      path.prefix,
      path.nextHop ?? '',
      path.from,
      path.localPref === undefined ? '' : String(path.localPref),
      path.med === undefined ? '' : String(path.med),
      path.asPath,
      [...path.communities, ...path.largeCommunities].join(' '),
    ]),
  );
}

export function formatWhy(node: string, why: WhyView): string {
  if (!why.found) return `${node}: no path covers ${why.prefix}`;
  const paths = why.paths.map(
    path => `  from ${path.from}${path.nextHop ? ` via ${path.nextHop}` : ''}: ${path.verdict}`,
  );
  const told = why.advertised.map(
    one => `  to ${one.to}: ${one.announced ? 'announced' : 'not announced'}, ${one.reason}`,
  );
  return [`${node}: ${why.prefix}`, ...paths, ...(told.length > 0 ? ['announcements:', ...told] : [])].join(
    '\n',
  );
}
