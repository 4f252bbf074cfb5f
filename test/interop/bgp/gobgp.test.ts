// GoBGP in a namespace of its own.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { chosen, eventually, isUp, OURS, originate, Pair, THEIRS } from '../../harness/bgp/pair.ts';
import { GOBGPD, missing } from '../../harness/bgp/peers.ts';

const skip = missing(GOBGPD, 'gobgpd');

const sameAs = (wanted: readonly string[]) => (got: readonly string[]) =>
  JSON.stringify(got) === JSON.stringify(wanted);

function startGobgp(
  pair: Pair,
  asn: number,
  remote: number,
  password?: string,
): (...args: string[]) => string {
  const families = ['ipv4-unicast', 'ipv6-unicast']
    .map(
      name =>
        ` [[neighbors.afi-safis]]\n  [neighbors.afi-safis.config]\n   afi-safi-name = "${name}"\n  [neighbors.afi-safis.mp-graceful-restart.config]\n   enabled = true\n`,
    )
    .join('');
  const file = join(pair.directory.path, 'gobgp.toml');
  writeFileSync(
    file,
    `[global.config]
 as = ${asn}
 router-id = "10.9.0.2"
[[neighbors]]
 [neighbors.config]
  neighbor-address = "${OURS.v4}"
  peer-as = ${remote}
${password === undefined ? '' : `  auth-password = "${password}"\n`} [neighbors.timers.config]
  connect-retry = 1
 [neighbors.graceful-restart.config]
  enabled = true
  restart-time = 60
${families}`,
  );
  pair.namespaces.spawn(pair.theirNetns, GOBGPD, [
    '-f',
    file,
    '-l',
    'warn',
    '--api-hosts',
    '127.0.0.1:50051',
  ]);
  return (...args) =>
    execFileSync('nsenter', [`--net=/run/netns/${pair.theirNetns}`, 'gobgp', ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
}

function addRoutes(gobgp: (...args: string[]) => string): boolean {
  try {
    gobgp('global', 'rib', 'add', '10.30.1.0/24', 'nexthop', THEIRS.v4, 'community', '65002:7');
    gobgp('global', 'rib', 'add', '-a', 'ipv6', 'fd30:1::/64', 'nexthop', THEIRS.v6);
    return true;
  } catch {
    return false;
  }
}

function adjIn(gobgp: (...args: string[]) => string, family: string): string[] {
  try {
    const routes = JSON.parse(gobgp('neighbor', OURS.v4, 'adj-in', '-a', family, '-j')) as Record<
      string,
      unknown
    >;
    return Object.keys(routes).sort();
  } catch {
    return [];
  }
}

const LEARNED = [
  '10.20.1.0/24 via local',
  '10.20.2.0/25 via local',
  '10.30.1.0/24 via 10.9.0.2',
  'fd20:1::/64 via local',
  'fd30:1::/64 via fd09::2',
];

test('GoBGP: both families on one external session, withdraw, refresh, password, reset', {
  skip,
}, async () => {
  await using pair = new Pair('gobgp1');
  const gobgp = startGobgp(pair, 65002, 65001, 'sesame');
  const speaker = await pair.start(pair.config({ password: 'sesame' }));
  assert.ok(
    await eventually(
      () => addRoutes(gobgp),
      ok => ok,
    ),
  );
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(LEARNED)), LEARNED);
  const announced = ['10.20.1.0/24', '10.20.2.0/25'];
  assert.deepEqual(await eventually(() => adjIn(gobgp, 'ipv4'), sameAs(announced)), announced);
  assert.deepEqual(await eventually(() => adjIn(gobgp, 'ipv6'), sameAs(['fd20:1::/64'])), ['fd20:1::/64']);
  const { rib } = speaker.locRibs[4];
  const entry = rib.entry.find(one => one?.attributes.communities?.includes(65002 * 65536 + 7));
  assert.ok(entry !== undefined, 'RFC 1997 communities arrive');

  gobgp('global', 'rib', 'del', '10.30.1.0/24');
  const without = LEARNED.filter(route => !route.startsWith('10.30.1'));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(without)), without);
  await speaker.configure(
    pair.config({ password: 'sesame' }, { originate: originate('10.20.1.0/24', 'fd20:1::/64') }),
  );
  assert.deepEqual(await eventually(() => adjIn(gobgp, 'ipv4'), sameAs(['10.20.1.0/24'])), ['10.20.1.0/24']);
  gobgp('neighbor', OURS.v4, 'softresetin');
  assert.deepEqual(await eventually(() => adjIn(gobgp, 'ipv4'), sameAs(['10.20.1.0/24'])), ['10.20.1.0/24']);
  const { peer } = speaker.neighbours.get('peer')!;
  gobgp('neighbor', OURS.v4, 'disable');
  await eventually(
    () => isUp(speaker),
    up => !up,
  );
  assert.match(peer.lastError ?? '', /admin-shutdown/);
  gobgp('neighbor', OURS.v4, 'enable');
  assert.ok(
    await eventually(
      () => peer.establishedCount === 2 && isUp(speaker),
      ok => ok,
      20_000,
    ),
  );
  // After a reset GoBGP refuses everybody for 30 s (its idle hold time, which no configuration of its changes).
  gobgp('neighbor', OURS.v4, 'reset');
  await eventually(
    () => isUp(speaker),
    up => !up,
  );
  assert.match(peer.lastError ?? '', /admin-reset/);
});

test('GoBGP: RFC 6793 four-octet AS numbers on an internal session', { skip }, async () => {
  await using pair = new Pair('gobgp2');
  const gobgp = startGobgp(pair, 4_200_000_001, 4_200_000_001);
  const speaker = await pair.start(pair.config({ asn: 4_200_000_001 }, { asn: 4_200_000_001 }));
  assert.ok(
    await eventually(
      () => addRoutes(gobgp),
      ok => ok,
    ),
  );
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(LEARNED)), LEARNED);
});
