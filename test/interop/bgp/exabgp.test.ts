// ExaBGP in a namespace of its own: it announces what its configuration says.
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { chosen, eventually, isUp, OURS, Pair, THEIRS } from '../../harness/bgp/pair.ts';
import { EXABGP, missing } from '../../harness/bgp/peers.ts';

const skip = missing(EXABGP, 'exabgp');

const sameAs = (wanted: readonly string[]) => (got: readonly string[]) =>
  JSON.stringify(got) === JSON.stringify(wanted);

test('ExaBGP: both families, communities of RFC 1997 and 8092, session reset by us', { skip }, async () => {
  await using pair = new Pair('exa1');
  const file = join(pair.directory.path, 'exabgp.conf');
  mkdirSync(join(pair.directory.path, 'run'));
  writeFileSync(
    file,
    `neighbor ${OURS.v4} {
  router-id 10.9.0.2;
  local-address ${THEIRS.v4};
  local-as 65002;
  peer-as 65001;
  family { ipv4 unicast; ipv6 unicast; }
  static {
    route 10.30.1.0/24 next-hop ${THEIRS.v4} community [ 65002:7 ] large-community [ 65002:1:2 ] med 5;
    route 10.30.2.0/24 next-hop ${THEIRS.v4};
    route fd30:1::/64 next-hop ${THEIRS.v6};
  }
}
`,
  );
  pair.namespaces.spawn(pair.theirNetns, '/usr/bin/env', [
    'exabgp.daemon.user=root',
    'exabgp.api.cli=false',
    EXABGP,
    file,
  ]);
  const speaker = await pair.start(pair.config({}));
  const wanted = [
    '10.20.1.0/24 via local',
    '10.20.2.0/25 via local',
    '10.30.1.0/24 via 10.9.0.2',
    '10.30.2.0/24 via 10.9.0.2',
    'fd20:1::/64 via local',
    'fd30:1::/64 via fd09::2',
  ];
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(wanted), 30_000), wanted);
  const entry = speaker.locRibs[4].rib.entry.find(one => one?.attributes.med === 5);
  assert.deepEqual(entry?.attributes.communities, [65002 * 65536 + 7]);
  assert.deepEqual(entry?.attributes.largeCommunities, [65002, 1, 2]);
  const { peer } = speaker.neighbours.get('peer')!;
  peer.reset({ code: 6, subcode: 4, data: new Uint8Array(0) }, 'test');
  assert.ok(
    await eventually(
      () => peer.establishedCount >= 2 && isUp(speaker),
      ok => ok,
      30_000,
    ),
  );
});
