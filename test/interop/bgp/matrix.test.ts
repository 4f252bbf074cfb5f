// Every real speaker, line by line: session, both families both ways, withdraw, refresh, reset by either side, MD5,
// four-octet AS numbers, reflection, several paths, graceful restart. What a speaker cannot do is said in its row; what
// only one of them has is in its own file beside this one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PathAttributes } from '../../../routing/bgp/packet/path-attributes.ts';
import { ACCEPT_ALL } from '../../../routing/bgp/policy/policy.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { requireCidr } from '../../../src/lib/cidr.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Namespaces, wait } from '../../harness/bgp/bench-net.ts';
import { chosen, eventually, isUp, OURS, originate, Pair } from '../../harness/bgp/pair.ts';
import { BIRD, EXABGP, FRR_BGPD, GOBGPD, missing } from '../../harness/bgp/peers.ts';
import { birdPeer } from '../../harness/bgp/real/bird-peer.ts';
import { exabgpPeer } from '../../harness/bgp/real/exabgp-peer.ts';
import { frrPeer } from '../../harness/bgp/real/frr-peer.ts';
import { gobgpPeer } from '../../harness/bgp/real/gobgp-peer.ts';
import type { RealPeerFactory } from '../../harness/bgp/real/real-peer.ts';

type Line =
  | 'session'
  | 'our refresh'
  | 'its refresh'
  | 'password'
  | 'as4'
  | 'reflects us'
  | 'is reflected'
  | 'paths from it'
  | 'paths to it'
  | 'our restart'
  | 'its restart';

interface Column {
  readonly name: string;
  readonly skip: string | false;
  readonly make: RealPeerFactory;
  /** What the speaker itself does not do. */
  readonly cannot: Partial<Record<Line, string>>;
  /** How it shows RFC 4456's ORIGINATOR_ID 10.9.0.11. */
  readonly originator: RegExp;
}

const COLUMNS: readonly Column[] = [
  {
    ...{ name: 'BIRD', skip: missing(BIRD, 'bird2'), make: birdPeer, cannot: {} },
    originator: /originator_id: 10\.9\.0\.11/,
  },
  {
    ...{ name: 'FRR', skip: missing(FRR_BGPD, 'frr'), make: frrPeer, cannot: {} },
    originator: /Originator: 10\.9\.0\.11/,
  },
  {
    ...{ name: 'GoBGP', skip: missing(GOBGPD, 'gobgpd'), make: gobgpPeer },
    cannot: { 'its refresh': 'it never sends ROUTE-REFRESH' },
    originator: /"type":9,"value":"10\.9\.0\.11"/,
  },
  {
    ...{ name: 'ExaBGP', skip: missing(EXABGP, 'exabgp'), make: exabgpPeer },
    cannot: {
      'our refresh': 'ExaBGP 4.2.21 ends the session with a TypeError of its own',
      'reflects us': 'it does not pass routes on',
      'our restart': 'it keeps no table',
    },
    originator: /"originator-id":"10\.9\.0\.11"/,
  },
];

const TIMEOUT_MS = 30_000;
const OUR_ROUTES = ['10.20.1.0/24', '10.20.2.0/25', 'fd20:1::/64'];
const THEIR_ROUTES = ['10.30.1.0/24', '10.30.2.0/24', 'fd30:1::/64'];
/** Two more speakers of ours, where a test needs third parties. */
const THIRD = ['10.9.0.11', '10.9.0.12'] as const;
const SHARED = '10.77.0.0/24';

const same =
  (wanted: readonly string[]) =>
  (got: readonly string[]): boolean =>
    JSON.stringify(got) === JSON.stringify(wanted);

async function settles(read: () => string[] | Promise<string[]>, wanted: readonly string[], what: string) {
  assert.deepEqual(await eventually(read, same(wanted), TIMEOUT_MS), wanted, what);
}

const holds = (read: () => boolean, timeoutMs = TIMEOUT_MS) => eventually(read, ok => ok, timeoutMs);

const remote = (speaker: Speaker): string[] =>
  chosen(speaker)
    .filter(route => !route.endsWith('local'))
    .map(route => route.split(' ')[0]!);

/** Of the chosen path. */
function attributesOf(speaker: Speaker, cidr: string): PathAttributes | undefined {
  const { rib } = speaker.locRibs[4];
  const net = rib.nets.findCidr(requireCidr(cidr));
  return net < 0 ? undefined : rib.entry[rib.best[net]!]?.attributes;
}

/** A speaker of ours at an address of its own in our namespace, announcing SHARED to whom it is told. */
async function third(pair: Pair, address: string, asn: number, to: string): Promise<Speaker> {
  Namespaces.command('ip', '-n', pair.ourNetns, 'addr', 'add', `${address}/24`, 'dev', 'va');
  const peer = { name: to, address: to, localAddress: address, asn, families: [4 as const] };
  const speaker = new Speaker({
    config: {
      ...{ asn, routerId: address, originate: originate(SHARED) },
      listen: [{ address, port: 179 }],
      peers: [{ ...peer, importPolicy: ACCEPT_ALL, connectRetryMs: 500 }],
    },
    transport: new TcpTransport(pair.netns),
    log: silentLogger(),
  });
  pair.onClose(() => speaker.stop());
  await speaker.start();
  return speaker;
}

let runs = 0;

/** One cell of the matrix. */
function cell(line: Line, rfc: string, check: (pair: Pair, column: Column) => Promise<void>): void {
  for (const column of COLUMNS)
    test(`${column.name}: ${rfc}`, { skip: column.skip || column.cannot[line] || false }, async () => {
      await using pair = new Pair(`mx${runs++}`);
      await check(pair, column);
    });
}

cell(
  'session',
  'RFC 4271 and 4760: IPv4 and IPv6 both ways, withdraw, reset by either side',
  async (pair, column) => {
    const real = column.make(pair, { asn: 65002, remoteAsn: 65001 }, THEIR_ROUTES);
    await real.start();
    const speaker = await pair.start(pair.config({}));
    const { peer } = speaker.neighbours.get('peer')!;
    const learned = () => real.learned();
    await settles(() => remote(speaker), THEIR_ROUTES, 'what it announces');
    await settles(learned, OUR_ROUTES, 'what we announce');

    await real.announce(['10.30.1.0/24', 'fd30:2::/64']);
    await settles(() => remote(speaker), ['10.30.1.0/24', 'fd30:2::/64'], 'it withdraws in both families');
    const fewer = ['10.20.1.0/24', 'fd20:2::/64'];
    await speaker.configure(pair.config({}, { originate: originate(...fewer) }));
    await settles(learned, fewer, 'we withdraw in both families');
    assert.equal(peer.establishedCount, 1, 'all in one session');

    const again = (count: number) => holds(() => peer.establishedCount >= count && isUp(speaker), 45_000);
    await real.reset();
    assert.ok(await again(2), 'after its reset');
    await settles(() => remote(speaker), ['10.30.1.0/24', 'fd30:2::/64'], 'after its reset');
    peer.reset({ code: 6, subcode: 4, data: new Uint8Array(0) }, 'test');
    assert.ok(await again(3), 'after our reset');
    await settles(learned, fewer, 'after our reset');
  },
);

cell('our refresh', 'RFC 2918 4: asked again, it sends everything again', async (pair, column) => {
  const real = column.make(pair, { asn: 65002, remoteAsn: 65001 }, THEIR_ROUTES);
  await real.start();
  const speaker = await pair.start(pair.config({}));
  await settles(() => remote(speaker), THEIR_ROUTES, 'before');
  const { peer } = speaker.neighbours.get('peer')!;
  await wait(500);
  const received = peer.updatesReceived;
  speaker.requestRefresh('peer');
  assert.ok(await holds(() => peer.updatesReceived >= received + 2, 10_000), 'both families');
  assert.deepEqual(remote(speaker), THEIR_ROUTES);
  assert.equal(peer.establishedCount, 1);
});

cell('its refresh', 'RFC 2918 4 and 7313 4: it asks, and we send everything again', async (pair, column) => {
  const real = column.make(pair, { asn: 65002, remoteAsn: 65001 }, THEIR_ROUTES);
  await real.start();
  const speaker = await pair.start(pair.config({}));
  await settles(() => real.learned(), OUR_ROUTES, 'before');
  const { peer } = speaker.neighbours.get('peer')!;
  await wait(500);
  const sent = peer.connection!.messagesSent;
  await real.requestRefresh();
  // Well below the 30 s between keepalives.
  assert.ok(await holds(() => peer.connection!.messagesSent >= sent + 2, 10_000), 'both families');
  await settles(() => real.learned(), OUR_ROUTES, 'afterwards');
  assert.equal(peer.establishedCount, 1);
});

cell(
  'password',
  'RFC 2385 2: a wrong password keeps the session down, the right one brings it up',
  async (pair, column) => {
    const real = column.make(pair, { asn: 65002, remoteAsn: 65001, password: 'sesame' }, THEIR_ROUTES);
    await real.start();
    const speaker = await pair.start(pair.config({ password: 'wrong' }));
    await wait(2500);
    assert.equal(isUp(speaker), false);
    await speaker.configure(pair.config({ password: 'sesame' }));
    await settles(() => remote(speaker), THEIR_ROUTES, 'with the right password');
  },
);

cell('as4', 'RFC 6793 4.1: four-octet AS numbers on both sides', async (pair, column) => {
  const [ours, theirs] = [4_200_000_001, 4_200_000_002];
  const real = column.make(pair, { asn: theirs, remoteAsn: ours }, THEIR_ROUTES);
  await real.start();
  const speaker = await pair.start(pair.config({ asn: theirs }, { asn: ours }));
  await settles(() => remote(speaker), THEIR_ROUTES, 'what it announces');
  await settles(() => real.learned(), OUR_ROUTES, 'what we announce');
  assert.match(await real.show('10.20.1.0/24'), /4200000001/);
  assert.deepEqual(attributesOf(speaker, '10.30.1.0/24')?.asPath[0]?.asns, [theirs]);
});

cell(
  'is reflected',
  'RFC 4456 8: it is our client and gets ORIGINATOR_ID and CLUSTER_LIST',
  async (pair, column) => {
    const real = column.make(pair, { asn: 65001, remoteAsn: 65001 }, THEIR_ROUTES);
    await real.start();
    const base = pair.config({ asn: 65001, reflectorClient: true });
    const [client] = THIRD;
    const other = { name: client, address: client, asn: 65001, families: [4 as const], passive: true };
    const speaker = await pair.start({
      ...base,
      peers: [...base.peers, { ...other, reflectorClient: true }],
    });
    const origin = await third(pair, client, 65001, OURS.v4);
    await settles(() => real.learned(), [...OUR_ROUTES.slice(0, 2), SHARED, 'fd20:1::/64'], 'reflected');
    assert.match(await real.show(SHARED), column.originator);
    const back = (): string[] => remote(origin).filter(route => route.startsWith('10.30.'));
    await settles(back, THEIR_ROUTES.slice(0, 2), 'its routes, reflected to the other client');
    await origin.stop();
    await settles(() => real.learned(), OUR_ROUTES, 'the withdraw is reflected too');
    assert.ok(isUp(speaker));
  },
);

cell('reflects us', 'RFC 4456 8: it reflects to us what another client told it', async (pair, column) => {
  const [client] = THIRD;
  const setup = { asn: 65001, remoteAsn: 65001, reflector: true, neighbours: [OURS.v4, client] };
  const real = column.make(pair, setup, THEIR_ROUTES);
  await real.start();
  const speaker = await pair.start(pair.config({ asn: 65001 }));
  const origin = await third(pair, client, 65001, '10.9.0.2');
  await settles(
    () => remote(speaker),
    ['10.30.1.0/24', '10.30.2.0/24', SHARED, 'fd30:1::/64'],
    'reflected to us',
  );
  const attributes = attributesOf(speaker, SHARED);
  assert.equal(attributes?.originatorId, 0x0a09000b);
  assert.deepEqual(attributes?.clusterList, [0x0a090002]);
  assert.equal(attributes?.nextHop, client);
  assert.ok(
    await holds(() => remote(origin).includes('10.20.1.0/24')),
    'ours, reflected to the other client',
  );
  await origin.stop();
});

cell(
  'paths from it',
  'RFC 7911 3 and 5: it sends two paths for one prefix, then one',
  async (pair, column) => {
    const exa = column.name === 'ExaBGP';
    const setup = { asn: 65001, remoteAsn: 65001, reflector: !exa, addPath: true };
    // ExaBGP has two paths of its own; the others have them from two speakers of ours.
    const real = column.make(
      pair,
      exa ? setup : { ...setup, neighbours: [OURS.v4, ...THIRD] },
      exa ? [SHARED, SHARED] : [],
    );
    await real.start();
    const speaker = await pair.start(
      pair.config({ asn: 65001, families: [4], addPath: { receive: true } }, { originate: [] }),
    );
    const origins: Speaker[] = [];
    if (!exa) for (const address of THIRD) origins.push(await third(pair, address, 65001, '10.9.0.2'));
    const paths = (): number => speaker.neighbours.get('peer')!.received(4);
    assert.equal(await eventually(paths, n => n === 2, TIMEOUT_MS), 2);
    if (exa) return;
    await origins[0]!.stop();
    assert.equal(await eventually(paths, n => n === 1, TIMEOUT_MS), 1);
    await origins[1]!.stop();
    assert.equal(await eventually(paths, n => n === 0, TIMEOUT_MS), 0);
  },
);

cell('paths to it', 'RFC 7911 3 and 5: we send two paths for one prefix, then one', async (pair, column) => {
  const real = column.make(pair, { asn: 65001, remoteAsn: 65001, addPath: true }, []);
  await real.start();
  const base = pair.config({ asn: 65001, families: [4], reflectorClient: true, addPath: { send: true } });
  const clients = THIRD.map(address => ({
    ...{ name: address, address, asn: 65001, families: [4 as const], passive: true },
  }));
  await pair.start({ ...base, originate: [], peers: [...base.peers, ...clients] });
  const origins: Speaker[] = [];
  for (const address of THIRD) origins.push(await third(pair, address, 65001, OURS.v4));
  await settles(() => real.learned(), [SHARED, SHARED], 'both paths');
  await origins[0]!.stop();
  await settles(() => real.learned(), [SHARED], 'one path');
  await origins[1]!.stop();
  await settles(() => real.learned(), [], 'none');
});

cell(
  'our restart',
  'RFC 4724 4.1: it keeps our routes while we are away, and sweeps what we do not tell again',
  async (pair, column) => {
    const real = column.make(pair, { asn: 65002, remoteAsn: 65001, gracefulRestart: true }, THEIR_ROUTES);
    await real.start();
    const first = await pair.start(pair.config({}));
    await settles(() => real.learned(), OUR_ROUTES, 'before');
    await settles(() => remote(first), THEIR_ROUTES, 'before');
    await first.stop({ keepRoutes: true });
    await wait(700);
    assert.deepEqual(await real.learned(), OUR_ROUTES, 'kept while we are away');
    const left = ['10.20.1.0/24', 'fd20:1::/64'];
    const second = await pair.start(pair.config({}, { originate: originate(...left) }), true);
    await settles(() => real.learned(), left, 'what we did not announce again is swept');
    await settles(() => remote(second), THEIR_ROUTES, 'and it tells us its own');
  },
);

cell(
  'its restart',
  'RFC 4724 4.2: it is killed; we keep its routes until its End-of-RIB',
  async (pair, column) => {
    const real = column.make(pair, { asn: 65002, remoteAsn: 65001, gracefulRestart: true }, THEIR_ROUTES);
    await real.start();
    const speaker = await pair.start(pair.config({}));
    await settles(() => remote(speaker), THEIR_ROUTES, 'before');
    await settles(() => real.learned(), OUR_ROUTES, 'before');
    await real.kill();
    assert.ok(await holds(() => !isUp(speaker)));
    assert.deepEqual(remote(speaker), THEIR_ROUTES, 'stale routes stay in use');
    await real.start();
    assert.ok(await holds(() => isUp(speaker)));
    await settles(() => remote(speaker), THEIR_ROUTES, 'afterwards');
    assert.ok(
      await holds(() => speaker.neighbours.get('peer')!.staleSinceMs === undefined),
      'End-of-RIB came in both families',
    );
  },
);
