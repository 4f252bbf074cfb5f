// Speakers of ours talking to each other over loopback: what only shows when all parts run together.
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { whyView } from '../../../routing/bgp/looking-glass/routes.ts';
import { neighbourViews, statusView } from '../../../routing/bgp/looking-glass/status.ts';
import type { Policy } from '../../../routing/bgp/policy/policy.ts';
import type { LocRib } from '../../../routing/bgp/speaker/loc-rib.ts';
import type { RouteSink } from '../../../routing/bgp/speaker/route-sink.ts';
import { ReconcilerRouteSink } from '../../../routing/fib/reconciler-route-sink.ts';
import type { KernelState } from '../../../src/kernel/state.ts';
import { makeCidr } from '../../../src/lib/cidr.ts';
import { wait } from '../../harness/bgp/bench-net.ts';
import { configFor, Loopback, PORT, peerTo } from '../../harness/bgp/loopback.ts';
import { chosen, eventually, originate } from '../../harness/bgp/pair.ts';

const NO_GUARD = { isOwnAddress: () => false };
const remote = (speaker: Parameters<typeof chosen>[0]): string[] =>
  chosen(speaker)
    .filter(route => !route.endsWith('local'))
    .map(route => route.split(' ')[0]!);
const has =
  (...wanted: string[]) =>
  (got: readonly string[]) =>
    JSON.stringify(got) === JSON.stringify(wanted);
const TO_10: Policy = {
  name: 'next hop outside loopback',
  statements: [{ name: 'all', match: { families: [4] }, set: { nextHop: '10.255.0.1' }, action: 'accept' }],
  otherwise: 'accept',
};

test('reflection, RFC 4456: two clients learn from each other; loops are refused and explained', async () => {
  await using loop = new Loopback();
  const client = (address: string, cidr: string) =>
    loop.start(
      configFor(address, 65000, [peerTo('127.30.0.1', 65000, { exportPolicy: TO_10 })], {
        originate: originate(cidr),
      }),
      NO_GUARD,
    );
  const reflector = await loop.start(
    configFor('127.30.0.1', 65000, [
      peerTo('127.30.0.2', 65000, { reflectorClient: true }),
      peerTo('127.30.0.3', 65000, { reflectorClient: true }),
    ]),
    NO_GUARD,
  );
  const a = await client('127.30.0.2', '10.1.0.0/24');
  const b = await client('127.30.0.3', '10.2.0.0/24');
  assert.deepEqual(await eventually(() => remote(b), has('10.1.0.0/24')), ['10.1.0.0/24']);
  assert.deepEqual(await eventually(() => remote(a), has('10.2.0.0/24')), ['10.2.0.0/24']);
  const why = whyView(reflector, '10.1.0.7');
  assert.equal(why.prefix, '10.1.0.0/24');
  assert.deepEqual(
    why.advertised.map(one => [one.to, one.announced]),
    [
      ['127.30.0.2', false],
      ['127.30.0.3', true],
    ],
  );
  assert.equal(whyView(b, '10.1.0.0/24').paths[0]?.originatorId, '127.30.0.2');
  assert.equal(statusView(reflector).neighbours.established, 2);
  assert.ok(neighbourViews(reflector)[0]?.capabilities.includes('extended-message'));
});

test('policy changes reset no session: import and export, both ways', async () => {
  await using loop = new Loopback();
  const reject: Policy = {
    name: 'no-10.1',
    statements: [
      {
        name: 'deny',
        match: { prefixes: [{ cidr: originate('10.1.0.0/16')[0]!.cidr, min: 16, max: 32 }] },
        action: 'reject',
      },
    ],
    otherwise: 'accept',
  };
  const a = await loop.start(
    configFor('127.31.0.1', 65001, [peerTo('127.31.0.2', 65002, { exportPolicy: TO_10 })], {
      originate: originate('10.1.0.0/24', '10.2.0.0/24'),
    }),
    NO_GUARD,
  );
  const base = (importPolicy?: Policy) =>
    configFor('127.31.0.2', 65002, [
      peerTo('127.31.0.1', 65001, importPolicy === undefined ? {} : { importPolicy }),
    ]);
  const b = await loop.start(base(), NO_GUARD);
  const both = ['10.1.0.0/24', '10.2.0.0/24'];
  assert.deepEqual(await eventually(() => remote(b), has(...both)), both);
  await b.configure(base(reject));
  assert.deepEqual(await eventually(() => remote(b), has('10.2.0.0/24')), ['10.2.0.0/24']);
  assert.match(whyView(b, '10.1.0.0/24').paths[0]!.verdict, /refused: policy no-10\.1, statement deny/);
  await b.configure(base());
  assert.deepEqual(await eventually(() => remote(b), has(...both)), both);
  const { statements } = TO_10;
  await a.configure(
    configFor(
      '127.31.0.1',
      65001,
      [
        peerTo('127.31.0.2', 65002, {
          exportPolicy: { ...reject, statements: [...reject.statements, ...statements] },
        }),
      ],
      { originate: originate('10.1.0.0/24', '10.2.0.0/24') },
    ),
  );
  assert.deepEqual(await eventually(() => remote(b), has('10.2.0.0/24')), ['10.2.0.0/24']);
  for (const speaker of [a, b])
    assert.equal([...speaker.neighbours.values()][0]!.peer.establishedCount, 1, 'still the first session');
});

test('dynamic neighbours: admitted from their range, up to the limit, unknown addresses turned away', async () => {
  await using loop = new Loopback();
  const range = originate('127.32.1.0/24')[0]!.cidr;
  const a = await loop.start(
    configFor('127.32.0.1', 65001, [], {
      dynamicPeers: [{ name: 'rack', cidr: range, limit: 1, template: peerTo('', 65002) }],
    }),
    NO_GUARD,
  );
  const speakers = [];
  for (const address of ['127.32.1.2', '127.32.1.3', '127.32.2.2'])
    speakers.push(await loop.start(configFor(address, 65002, [peerTo('127.32.0.1', 65001)]), NO_GUARD));
  await eventually(
    () => [...a.neighbours.values()].some(({ peer }) => peer.state === 'Established'),
    ok => ok,
  );
  await wait(300);
  assert.deepEqual([...a.neighbours.keys()], ['rack:127.32.1.2']);
});

test('a restart beside a dead peer: routes at once, End-of-RIB and sweep within the deferral (RFC 4724 4.1, calico#7144)', async () => {
  await using loop = new Loopback();
  const live = await loop.start(
    configFor('127.33.0.2', 65000, [peerTo('127.33.0.1', 65000, { exportPolicy: TO_10 })], {
      originate: originate('10.1.0.0/24'),
    }),
    NO_GUARD,
  );
  let completedMs = 0;
  const sink: RouteSink = {
    changed: (_loc: LocRib) => undefined,
    forgetResolutions: () => undefined,
    complete: () => {
      completedMs = performance.now();
    },
  };
  const began = performance.now();
  const node = await loop.start(
    configFor('127.33.0.1', 65000, [peerTo('127.33.0.2', 65000), peerTo('127.33.0.9', 65000)], {
      originate: originate('10.5.0.0/24'),
    }),
    { ...NO_GUARD, restarting: true, deferralMs: 800, sink },
  );
  assert.deepEqual(await eventually(() => remote(node), has('10.1.0.0/24')), ['10.1.0.0/24']);
  assert.ok(performance.now() - began < 700, 'not waiting for the dead peer');
  assert.ok(
    await eventually(
      () => completedMs > 0,
      ok => ok,
    ),
  );
  assert.ok(completedMs - began < 1500);
  assert.equal(live.neighbours.size, 1);
});

test('malformed, slow and never-ending streams: the NOTIFICATION of RFC 4271 6.1, and the listener lives on', async () => {
  await using loop = new Loopback();
  const a = await loop.start(
    configFor('127.34.0.1', 65001, [peerTo('127.34.0.2', 65002, { passive: true })]),
    NO_GUARD,
  );
  const answers: string[] = [];
  for (const bytes of [
    '00'.repeat(64),
    `${'ff'.repeat(16)}001309`,
    `${'ff'.repeat(16)}ffff02${'00'.repeat(500)}`,
  ]) {
    const answer = await new Promise<string>(resolve => {
      const socket = connect({ host: '127.34.0.1', port: PORT, localAddress: '127.34.0.2' });
      const got: Buffer[] = [];
      socket.on('data', chunk => got.push(chunk));
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(Buffer.concat(got).toString('hex')));
      socket.write(Buffer.from(bytes, 'hex'));
    });
    answers.push(answer.slice(-6));
    await wait(20);
  }
  // Type 3, code 1, subcodes 1 (with no data), then 3 and 2 with data.
  assert.match(answers[0]!, /030101$/);
  assert.equal(a.neighbours.get('127.34.0.2')?.peer.state === 'Established', false);
  const b = await loop.start(configFor('127.34.0.2', 65002, [peerTo('127.34.0.1', 65001)]), NO_GUARD);
  assert.ok(
    await eventually(
      () => b.neighbours.get('127.34.0.1')?.peer.state === 'Established',
      ok => ok,
    ),
  );
});

test('IPv6 over an IPv4 session, and IPv4 with an IPv6 next hop (RFC 4760, RFC 8950)', async () => {
  await using loop = new Loopback();
  const v6NextHop: Policy = {
    name: 'v6 next hop',
    statements: [{ name: 'all', match: {}, set: { nextHop: 'fd00::35' }, action: 'accept' }],
    otherwise: 'accept',
  };
  await loop.start(
    configFor('127.35.0.1', 65001, [peerTo('127.35.0.2', 65002, { exportPolicy: v6NextHop })], {
      originate: originate('10.1.0.0/24', 'fd01::/64'),
    }),
    NO_GUARD,
  );
  const b = await loop.start(configFor('127.35.0.2', 65002, [peerTo('127.35.0.1', 65001)]), NO_GUARD);
  const wanted = ['10.1.0.0/24 via fd00::35', 'fd01::/64 via fd00::35'];
  assert.deepEqual(await eventually(() => chosen(b), has(...wanted)), wanted);
});

test('a large table to a peer that joins, then to one that lags, then taken back: nothing lost, nothing left', async () => {
  await using loop = new Loopback();
  const many = Array.from({ length: 30_000 }, (_, i) => ({
    cidr: makeCidr(Uint8Array.of(20 + (i >> 16), (i >> 8) & 255, i & 255, 0), 24),
    origin: 'test',
    set: { med: i % 977 },
  }));
  const peers = [peerTo('127.36.0.2', 65002, { exportPolicy: TO_10 })];
  const a = await loop.start(configFor('127.36.0.1', 65001, peers, { originate: many }), NO_GUARD);
  const b = await loop.start(configFor('127.36.0.2', 65002, [peerTo('127.36.0.1', 65001)]), NO_GUARD);
  const count = (): number => b.ribs[4].size;
  assert.equal(await eventually(count, n => n === many.length, 30_000), many.length);
  const { socket } = b.neighbours.get('127.36.0.1')!.peer.connection!;
  socket.pause();
  const changed = many.map(route => ({ ...route, set: { med: route.set.med + 1 } }));
  await a.configure(configFor('127.36.0.1', 65001, peers, { originate: changed.slice(0, 20_000) }));
  await wait(200);
  await a.configure(configFor('127.36.0.1', 65001, peers, { originate: changed.slice(10_000, 20_000) }));
  await wait(200);
  socket.resume();
  assert.equal(await eventually(count, n => n === 10_000, 30_000), 10_000);
  const meds = new Set<number | undefined>();
  b.ribs[4].forEachPath(path => meds.add(b.ribs[4].entry[path]!.attributes.med));
  assert.ok(!meds.has(0), 'every route is the changed one');
  await a.configure(configFor('127.36.0.1', 65001, peers));
  assert.equal(await eventually(count, n => n === 0, 30_000), 0);
  await b.settled();
  b.store.collect();
  a.store.collect();
  assert.deepEqual([a.store.size, b.store.size, a.ribs[4].nets.size, b.ribs[4].nets.size], [0, 0, 0, 0]);
});

test('next hops: a path whose next hop cannot be reached is not chosen; it is when the resolver says otherwise', async () => {
  await using loop = new Loopback();
  let reachable = false;
  const states: KernelState[] = [];
  await loop.start(
    configFor('127.37.0.1', 65001, [peerTo('127.37.0.2', 65002, { exportPolicy: TO_10 })], {
      originate: originate('10.1.0.0/24'),
    }),
    NO_GUARD,
  );
  const sink = new ReconcilerRouteSink({ setDesired: state => states.push(state) });
  const b = await loop.start(configFor('127.37.0.2', 65002, [peerTo('127.37.0.1', 65001)]), {
    ...NO_GUARD,
    sink,
    resolver: address => (reachable ? { metric: 1, gateway: address, link: 'eth0' } : undefined),
  });
  assert.equal(
    await eventually(
      () => b.ribs[4].size,
      n => n === 1,
    ),
    1,
  );
  assert.deepEqual(chosen(b), []);
  assert.match(whyView(b, '10.1.0.0/24').paths[0]!.verdict, /lost by next hop reachable/);
  reachable = true;
  b.nextHopsChanged();
  assert.deepEqual(await eventually(() => remote(b), has('10.1.0.0/24')), ['10.1.0.0/24']);
  assert.deepEqual(states.at(-1)?.routes, [
    { destination: '10.1.0.0/24', protocol: 214, metric: 1024, gateway: '10.255.0.1', link: 'eth0' },
  ]);
  sink.table.shape = (_destination, nextHop) => ({ gateway: nextHop, link: 'tunl0', onlink: true });
  b.reprogram();
  const shaped = await eventually(
    () => states.at(-1)?.routes?.[0],
    route => route?.link === 'tunl0',
  );
  assert.deepEqual([shaped?.link, shaped?.onlink], ['tunl0', true]);
});

for (const keepRoutes of [true, false])
  test(`a stopped speaker ${keepRoutes ? 'leaves its routes and never speaks again' : 'takes down its routes, stale ones too'}`, async () => {
    await using loop = new Loopback();
    const [own, far] = keepRoutes ? ['127.38.0.1', '127.38.0.2'] : ['127.39.0.1', '127.39.0.2'];
    const fragments: string[][] = [];
    const sink = new ReconcilerRouteSink({
      setDesired: (state: KernelState) => fragments.push((state.routes ?? []).map(one => one.destination)),
    });
    const blackhole = originate('10.2.0.0/24').map(route => ({ ...route, blackhole: true }));
    const stopping = await loop.start(configFor(own, 65000, [peerTo(far, 65000)], { originate: blackhole }), {
      ...NO_GUARD,
      sink,
    });
    const peer = await loop.start(
      configFor(far, 65000, [peerTo(own, 65000, { gracefulRestartSeconds: 1, exportPolicy: TO_10 })], {
        originate: originate('10.1.0.0/24'),
      }),
      NO_GUARD,
    );
    const both = ['10.1.0.0/24', '10.2.0.0/24'];
    assert.deepEqual(
      await eventually(
        () => fragments.at(-1),
        got => got?.length === 2,
      ),
      both,
    );
    await peer.stop({ keepRoutes: true });
    const neighbour = stopping.neighbours.get(far)!;
    await eventually(
      () => neighbour.staleSinceMs !== undefined,
      stale => stale,
    );
    assert.deepEqual(fragments.at(-1), both, 'stale routes stay in use');
    await stopping.stop({ keepRoutes });
    const told = fragments.length;
    assert.deepEqual(fragments.at(-1), keepRoutes ? both : []);
    await wait(1300);
    assert.equal(fragments.length, told, 'the restart time of the peer is over, and nothing happens');
  });
