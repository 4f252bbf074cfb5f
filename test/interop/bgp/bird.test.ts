// BIRD 2, in a namespace of its own, in the shapes that Calico gives it and in those that routers have.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BfdEndpoint } from '../../../routing/bgp/bfd/endpoint.ts';
import type { Policy } from '../../../routing/bgp/policy/policy.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Namespaces } from '../../harness/bgp/bench-net.ts';
import { chosen, eventually, isUp, OURS, originate, Pair, THEIRS } from '../../harness/bgp/pair.ts';
import { BIRD, Bird, missing } from '../../harness/bgp/peers.ts';

const skip = missing(BIRD, 'bird2');

const config = (
  session: string,
  routes = 'route 10.30.1.0/24 blackhole; route 10.30.2.0/24 blackhole;',
): string =>
  `router id 10.9.0.2;
log stderr all;
protocol device { scan time 2; }
protocol static s4 { ipv4; ${routes} }
protocol static s6 { ipv6; route fd30:1::/64 blackhole; }
protocol bgp ours { ${session} }
`;

const EBGP = `local ${THEIRS.v4} as 65002; neighbor ${OURS.v4} as 65001; connect delay time 1;
  ipv4 { import all; export all; }; ipv6 { import all; export all; next hop address ${THEIRS.v6}; };`;

const LEARNED = [
  '10.20.1.0/24 via local',
  '10.20.2.0/25 via local',
  '10.30.1.0/24 via 10.9.0.2',
  '10.30.2.0/24 via 10.9.0.2',
  'fd20:1::/64 via local',
  'fd30:1::/64 via fd09::2',
];

const sameAs = (wanted: readonly string[]) => (got: readonly string[]) =>
  JSON.stringify(got) === JSON.stringify(wanted);

async function birdRoutes(bird: Bird): Promise<string[]> {
  const text = await bird.ask('show route protocol ours');
  return [...text.matchAll(/([0-9a-f.:]+\/\d+)\s+unicast/g)].map(match => match[1]!).sort();
}

test('BIRD: IPv4 and IPv6 on one external session, withdraw, refresh, reset by either side', {
  skip,
}, async () => {
  await using pair = new Pair('bird1');
  const bird = new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, config(EBGP));
  const speaker = await pair.start(pair.config({}));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(LEARNED)), LEARNED);
  const announced = ['10.20.1.0/24', '10.20.2.0/25', 'fd20:1::/64'];
  assert.deepEqual(await eventually(() => birdRoutes(bird), sameAs(announced)), announced);

  // RFC 4271 3.1: a withdraw in each direction.
  await bird.configure(config(EBGP, 'route 10.30.1.0/24 blackhole;'));
  const without = LEARNED.filter(route => !route.startsWith('10.30.2.0'));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(without)), without);
  await speaker.configure(pair.config({}, { originate: originate('10.20.1.0/24') }));
  assert.deepEqual(await eventually(() => birdRoutes(bird), sameAs(['10.20.1.0/24'])), ['10.20.1.0/24']);
  assert.ok(isUp(speaker), 'a change of what is announced resets nothing');

  // RFC 2918 in both directions.
  speaker.requestRefresh('peer');
  await bird.ask('reload in ours');
  await bird.ask('reload out ours');
  assert.deepEqual(await eventually(() => birdRoutes(bird), sameAs(['10.20.1.0/24'])), ['10.20.1.0/24']);

  // Reset by them, then by us.
  const { peer } = speaker.neighbours.get('peer')!;
  await bird.ask('restart ours');
  assert.ok(
    await eventually(
      () => peer.establishedCount >= 2 && isUp(speaker),
      ok => ok,
    ),
  );
  peer.reset({ code: 6, subcode: 4, data: new Uint8Array(0) }, 'test');
  assert.ok(
    await eventually(
      () => peer.establishedCount >= 3 && isUp(speaker),
      ok => ok,
      25_000,
    ),
  );
});

test('BIRD: RFC 2385 passwords; a wrong one keeps the session down', { skip }, async () => {
  await using pair = new Pair('bird2');
  new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, config(`${EBGP} password "sesame";`));
  const speaker = await pair.start(pair.config({ password: 'wrong' }));
  await new Promise(resolve => setTimeout(resolve, 2500));
  assert.equal(isUp(speaker), false);
  await speaker.configure(pair.config({ password: 'sesame' }));
  assert.ok(
    await eventually(
      () => isUp(speaker),
      up => up,
    ),
  );
});

test('BIRD: RFC 5082 ttl security on both sides', { skip }, async () => {
  await using pair = new Pair('bird3');
  new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, config(`${EBGP} ttl security on;`));
  const speaker = await pair.start(pair.config({ ttlSecurityHops: 1 }));
  assert.ok(
    await eventually(
      () => isUp(speaker),
      up => up,
    ),
  );
});

test('BIRD: RFC 6793 four-octet AS numbers on both sides', { skip }, async () => {
  await using pair = new Pair('bird4');
  const session = EBGP.replace('65002', '4200000002').replace('65001', '4200000001');
  const bird = new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, config(session));
  const speaker = await pair.start(pair.config({ asn: 4_200_000_002 }, { asn: 4_200_000_001 }));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(LEARNED)), LEARNED);
  const text = await eventually(
    () => bird.ask('show route 10.20.1.0/24 all'),
    answer => answer.includes('as_path'),
  );
  assert.match(text, /BGP\.as_path: 4200000001/);
});

test('BIRD as an old speaker: RFC 6793 4.2, AS_TRANS in AS_PATH and the number in AS4_PATH', {
  skip,
}, async () => {
  await using pair = new Pair('bird5');
  const session = `${EBGP} enable as4 off;`;
  const bird = new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, config(session));
  const exportPolicy: Policy = {
    name: 'prepend',
    statements: [{ name: 'all', match: {}, set: { prepend: [4_200_000_001] }, action: 'accept' }],
    otherwise: 'accept',
  };
  const speaker = await pair.start(pair.config({ exportPolicy }));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(LEARNED)), LEARNED);
  const text = await eventually(
    () => bird.ask('show route 10.20.1.0/24 all'),
    answer => answer.includes('as_path'),
  );
  assert.match(text, /BGP\.as_path: 65001 (23456|4200000001)/);
});

test('BIRD: RFC 7911 several paths for one prefix', { skip }, async () => {
  await using pair = new Pair('bird6');
  const ibgp = `local ${THEIRS.v4} as 65001; neighbor ${OURS.v4} as 65001; connect delay time 1; rr client;
  ipv4 { import all; export all; add paths on; };`;
  const text = `${config(ibgp, 'route 10.30.1.0/24 via 10.9.0.50;')}
protocol static second { ipv4 { preference 150; }; route 10.30.1.0/24 via 10.9.0.51; }
`;
  new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, text);
  const speaker = await pair.start(pair.config({ asn: 65001, families: [4], addPath: { receive: true } }));
  const paths = (): number => speaker.neighbours.get('peer')!.received(4);
  assert.equal(await eventually(paths, n => n === 2), 2);
});

test('BIRD: RFC 7911 we send several paths: both of two neighbours, and one is withdrawn', {
  skip,
}, async () => {
  await using pair = new Pair('bird10');
  const rr = `local ${THEIRS.v4} as 65001; neighbor ${OURS.v4} as 65001; connect delay time 1;
  ipv4 { import all; export none; add paths rx; };`;
  const bird = new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, config(rr));
  const base = pair.config({ asn: 65001, families: [4], reflectorClient: true, addPath: { send: true } });
  // Two more speakers of ours, on addresses of our namespace, announce the same prefix.
  const extra = ['10.9.0.11', '10.9.0.12'];
  for (const address of extra)
    Namespaces.command('ip', '-n', pair.ourNetns, 'addr', 'add', `${address}/24`, 'dev', 'va');
  const speaker = await pair.start({
    ...base,
    peers: [
      ...base.peers,
      ...extra.map(address => ({
        name: address,
        address,
        asn: 65001,
        families: [4 as const],
        passive: true,
      })),
    ],
  });
  const clients: Speaker[] = [];
  for (const address of extra) {
    const client = new Speaker({
      config: {
        asn: 65001,
        routerId: address,
        listen: [],
        peers: [{ name: 'rr', address: OURS.v4, localAddress: address, asn: 65001, families: [4] }],
        originate: originate('10.77.0.0/24'),
      },
      transport: new TcpTransport(pair.netns),
      log: silentLogger(),
    });
    clients.push(client);
    await client.start();
  }
  const hops = async (): Promise<string[]> => {
    const text = await bird.ask('show route 10.77.0.0/24 all');
    return [...text.matchAll(/BGP\.next_hop: (\S+)/g)].map(match => match[1]!).sort();
  };
  assert.deepEqual(await eventually(hops, sameAs(extra)), extra);
  await clients[0]!.stop();
  assert.deepEqual(await eventually(hops, sameAs(extra.slice(1))), extra.slice(1));
  await clients[1]!.stop();
  assert.equal(isUp(speaker), true);
});

test('BIRD: RFC 4724 our restart: BIRD keeps our routes, and sweeps what we do not announce again', {
  skip,
}, async () => {
  await using pair = new Pair('bird7');
  const bird = new Bird(
    pair.namespaces,
    pair.theirNetns,
    pair.directory.path,
    config(`${EBGP} graceful restart on;`),
  );
  const first = await pair.start(pair.config({}));
  const announced = ['10.20.1.0/24', '10.20.2.0/25', 'fd20:1::/64'];
  assert.deepEqual(await eventually(() => birdRoutes(bird), sameAs(announced)), announced);
  await first.stop({ keepRoutes: true });
  await new Promise(resolve => setTimeout(resolve, 700));
  assert.deepEqual(await birdRoutes(bird), announced, 'kept while we are away');
  const second = await pair.start(
    pair.config({}, { originate: originate('10.20.1.0/24', 'fd20:1::/64') }),
    true,
  );
  const left = ['10.20.1.0/24', 'fd20:1::/64'];
  assert.deepEqual(await eventually(() => birdRoutes(bird), sameAs(left)), left);
  assert.deepEqual(
    (
      await eventually(
        () => chosen(second),
        list => list.some(r => r.startsWith('10.30.1.0')),
      )
    ).filter(r => r.startsWith('10.30.1')),
    ['10.30.1.0/24 via 10.9.0.2'],
  );
});

test('BIRD: RFC 4724 its crash: we keep its routes until its End-of-RIB', { skip }, async () => {
  await using pair = new Pair('bird8');
  const text = config(`${EBGP} graceful restart on;`);
  new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, text);
  const speaker = await pair.start(pair.config({}));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(LEARNED)), LEARNED);
  await pair.namespaces.killChildren();
  await eventually(
    () => isUp(speaker),
    up => !up,
  );
  assert.deepEqual(chosen(speaker), LEARNED, 'stale routes stay in use');
  const again = config(`${EBGP} graceful restart on;`, 'route 10.30.1.0/24 blackhole;');
  new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, again, ['-R']);
  const left = LEARNED.filter(route => !route.startsWith('10.30.2.0'));
  assert.deepEqual(await eventually(() => chosen(speaker), sameAs(left), 30_000), left);
});

test('BIRD: RFC 5880 and 5881, BFD sees a cut path long before the hold timer', { skip }, async () => {
  await using pair = new Pair('bird9');
  const text = `${config(`${EBGP} bfd on;`)}
protocol bfd { interface "*" { interval 100 ms; idle tx interval 300 ms; multiplier 3; }; }
`;
  const bird = new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, text);
  const states: string[] = [];
  let speaker: Speaker | undefined;
  const bfd = new BfdEndpoint({
    netns: pair.netns,
    log: silentLogger(),
    onChange: (peer, state, failed) => {
      states.push(state);
      if (failed) speaker?.pathDown(peer);
    },
  });
  using closing = new DisposableStack();
  closing.defer(() => bfd.close());
  speaker = await pair.start(
    pair.config({ bfd: { transmitMs: 100, receiveMs: 100, multiplier: 3, multihop: false } }),
    false,
    { bfd },
  );
  assert.equal(
    await eventually(
      () => bfd.state(THEIRS.v4)?.state,
      state => state === 'Up',
    ),
    'Up',
  );
  assert.match(
    await eventually(
      () => bird.ask('show bfd sessions'),
      answer => / Up /.test(answer),
    ),
    / Up /,
  );
  await new Promise(resolve => setTimeout(resolve, 600));
  const cut = performance.now();
  Namespaces.command('ip', '-n', pair.theirNetns, 'link', 'set', 'vb', 'down');
  assert.ok(
    (await eventually(
      () => isUp(speaker!),
      up => !up,
      3000,
    )) === false,
  );
  assert.ok(performance.now() - cut < 1500, 'within a second and a half, hold time is 90 s');
  assert.ok(states.includes('Down'));
});
