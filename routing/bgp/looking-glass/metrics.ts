// The speaker's numbers for Prometheus, as samples; the agent's registry reads them at scrape time.
import type { Speaker } from '../speaker/speaker.ts';

export interface Sample {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter';
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export function bgpSamples(speaker: Speaker): Sample[] {
  const samples: Sample[] = [];
  const add = (
    type: Sample['type'],
    name: string,
    help: string,
    value: number,
    labels: Sample['labels'] = {},
  ): void => {
    samples.push({ type, name: `podwire_bgp_${name}`, help, labels, value });
  };
  for (const neighbour of speaker.neighbours.values()) {
    const { peer } = neighbour;
    const labels = { peer: peer.name, address: peer.config.address };
    add(
      'gauge',
      'session_up',
      '1 while the session is established.',
      Number(peer.state === 'Established'),
      labels,
    );
    const path = peer.config.bfd === undefined ? undefined : speaker.pathState(peer.config.address);
    if (path !== undefined)
      add('gauge', 'bfd_up', '1 while BFD says that the path is up.', Number(path.state === 'Up'), labels);
    add('counter', 'sessions_established_total', 'Times the session came up.', peer.establishedCount, labels);
    add('counter', 'updates_received_total', 'UPDATE messages received.', peer.updatesReceived, labels);
    add('counter', 'malformed_attributes_total', 'RFC 7606 attribute errors.', neighbour.malformed, labels);
    for (const [family, text] of [
      [4, 'ipv4'],
      [6, 'ipv6'],
    ] as const) {
      const both = { ...labels, family: text };
      add('gauge', 'paths_received', 'Paths held from the peer.', neighbour.received(family), both);
      add(
        'gauge',
        'routes_advertised',
        'Routes told to the peer.',
        neighbour.groups.get(family)?.size ?? 0,
        both,
      );
    }
  }
  add('gauge', 'prefixes', 'Prefixes in the tables.', speaker.ribs[4].nets.size, { family: 'ipv4' });
  add('gauge', 'prefixes', 'Prefixes in the tables.', speaker.ribs[6].nets.size, { family: 'ipv6' });
  add('gauge', 'attribute_sets', 'Distinct attribute sets stored.', speaker.store.size);
  return samples;
}
