// FRR's bgpd in a namespace of its own.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chosen, eventually, isUp, OURS, originate, Pair, THEIRS } from '../../harness/bgp/pair.ts';
import { FRR_BGPD, Frr, missing } from '../../harness/bgp/peers.ts';

const skip = missing(FRR_BGPD, 'frr');

const config = (asn: number, remote: number, extra = '', v4 = '', v6 = ''): string => `router bgp ${asn}
 bgp router-id 10.9.0.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor ${OURS.v4} remote-as ${remote}
 neighbor ${OURS.v4} timers connect 1
${extra}
 address-family ipv4 unicast
  network 10.30.1.0/24
  network 10.30.2.0/24
  neighbor ${OURS.v4} activate
${v4}
 exit-address-family
 address-family ipv6 unicast
  network fd30:1::/64
  neighbor ${OURS.v4} activate
  neighbor ${OURS.v4} route-map v6hop out
${v6}
 exit-address-family
!
route-map v6hop permit 10
 set ipv6 next-hop global ${THEIRS.v6}
`;

const sameAs = (wanted: readonly string[]) => (got: readonly string[]) =>
  JSON.stringify(got) === JSON.stringify(wanted);

const LEARNED = [
  '10.20.1.0/24 via local',
  '10.20.2.0/25 via local',
  '10.30.1.0/24 via 10.9.0.2',
  '10.30.2.0/24 via 10.9.0.2',
  'fd20:1::/64 via local',
  'fd30:1::/64 via fd09::2',
];

function learnedBy(frr: Frr, family: 'ipv4' | 'ipv6'): string[] {
  const table = JSON.parse(frr.ask(`show bgp ${family} unicast json`)) as {
    routes: Record<string, { peerId?: string }[]>;
  };
  return Object.entries(table.routes)
    .filter(([, paths]) => paths.some(path => path.peerId === OURS.v4))
    .map(([prefix]) => prefix)
    .sort();
}

test('FRR: both families on one external session, withdraw, refresh, password, reset', { skip }, async () => {
  await using pair = new Pair('frr1');
  const frr = new Frr(pair.theirNetns, pair.directory.path);
  const text = config(65002, 65001, ` neighbor ${OURS.v4} password sesame`);
  await frr.start(pair.namespaces, THEIRS.v4, text, false);
  const speaker = await pair.start(pair.config({ password: 'sesame' }));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(LEARNED)), LEARNED);
  const announced = ['10.20.1.0/24', '10.20.2.0/25'];
  assert.deepEqual(await eventually(() => learnedBy(frr, 'ipv4'), sameAs(announced)), announced);
  assert.deepEqual(await eventually(() => learnedBy(frr, 'ipv6'), sameAs(['fd20:1::/64'])), ['fd20:1::/64']);

  await speaker.configure(
    pair.config({ password: 'sesame' }, { originate: originate('10.20.1.0/24', 'fd20:1::/64') }),
  );
  assert.deepEqual(await eventually(() => learnedBy(frr, 'ipv4'), sameAs(['10.20.1.0/24'])), [
    '10.20.1.0/24',
  ]);
  frr.ask(`clear bgp ipv4 unicast ${OURS.v4} soft in`);
  speaker.requestRefresh();
  assert.deepEqual(await eventually(() => learnedBy(frr, 'ipv4'), sameAs(['10.20.1.0/24'])), [
    '10.20.1.0/24',
  ]);
  const { peer } = speaker.neighbours.get('peer')!;
  frr.ask(`clear bgp ipv4 unicast ${OURS.v4}`);
  assert.ok(
    await eventually(
      () => peer.establishedCount >= 2 && isUp(speaker),
      ok => ok,
    ),
  );
});

test('FRR: RFC 4456, FRR is our reflector client and gets what another internal peer told us', {
  skip,
}, async () => {
  await using pair = new Pair('frr2');
  const frr = new Frr(pair.theirNetns, pair.directory.path);
  await frr.start(pair.namespaces, THEIRS.v4, config(65001, 65001), false);
  const speaker = await pair.start(pair.config({ asn: 65001, reflectorClient: true }));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(LEARNED)), LEARNED);
  // Its own routes do not come back to it (and would be dropped by ORIGINATOR_ID).
  const announced = ['10.20.1.0/24', '10.20.2.0/25'];
  assert.deepEqual(await eventually(() => learnedBy(frr, 'ipv4'), sameAs(announced)), announced);
  const detail = frr.ask('show bgp ipv4 unicast 10.20.1.0/24 json');
  assert.match(detail, /"locPrf":\s*100|"localPref":\s*100/);
});

test('FRR: RFC 7911 both ways and RFC 8950 capability do no harm', { skip }, async () => {
  await using pair = new Pair('frr3');
  const frr = new Frr(pair.theirNetns, pair.directory.path);
  const text = config(
    65002,
    65001,
    ` neighbor ${OURS.v4} capability extended-nexthop`,
    `  neighbor ${OURS.v4} addpath-tx-all-paths`,
  );
  await frr.start(pair.namespaces, THEIRS.v4, text, false);
  const speaker = await pair.start(pair.config({ addPath: { receive: true, send: false } }));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(LEARNED)), LEARNED);
  assert.equal(speaker.neighbours.get('peer')!.peer.negotiated?.receive.addPath4, true);
});

test('FRR: RFC 4486 more prefixes than allowed end the session', { skip }, async () => {
  await using pair = new Pair('frr4');
  const frr = new Frr(pair.theirNetns, pair.directory.path);
  await frr.start(pair.namespaces, THEIRS.v4, config(65002, 65001), false);
  const speaker = await pair.start(pair.config({ maxPrefixes: 2 }));
  const { peer } = speaker.neighbours.get('peer')!;
  assert.ok(
    await eventually(
      () => peer.lastError?.includes('more than 2 prefixes') === true,
      ok => ok,
    ),
  );
  assert.match(
    await eventually(
      () => frr.ask(`show bgp neighbors ${OURS.v4} json`),
      text => text.includes('Cease'),
    ),
    /Maximum Number of Prefixes Reached/,
  );
});
