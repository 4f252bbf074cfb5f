// BFD with BIRD and with FRR's bfdd: a cut path costs its routes in under a second where the hold time is 90 s.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { BfdEndpoint } from '../../../routing/bgp/bfd/endpoint.ts';
import { neighbourViews } from '../../../routing/bgp/looking-glass/status.ts';
import type { BfdConfig } from '../../../routing/bgp/session/peer-config.ts';
import type { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Namespaces, wait } from '../../harness/bgp/bench-net.ts';
import { chosen, eventually, OURS, Pair, THEIRS } from '../../harness/bgp/pair.ts';
import { BIRD, Bird, FRR_BGPD, Frr, missing } from '../../harness/bgp/peers.ts';

const FRR_BFDD = '/usr/lib/frr/bfdd';
const FAST: BfdConfig = { transmitMs: 100, receiveMs: 100, multiplier: 3, multihop: false };
const LEARNED = '10.30.1.0/24 via 10.9.0.2';

/** A speaker that watches its paths, as the agent puts it together. */
async function watching(pair: Pair, config: BfdConfig): Promise<{ speaker: Speaker; bfd: BfdEndpoint }> {
  let speaker: Speaker | undefined;
  const bfd = new BfdEndpoint({
    netns: pair.netns,
    log: silentLogger(),
    onChange: (peer, _state, failed) => {
      if (failed) speaker?.pathDown(peer);
    },
  });
  speaker = await pair.start(pair.config({ bfd: config }), false, { bfd });
  return { speaker, bfd };
}

const learned = (speaker: Speaker): boolean => chosen(speaker).includes(LEARNED);
const view = (speaker: Speaker) => neighbourViews(speaker)[0]!;

async function untilWatched(speaker: Speaker): Promise<void> {
  const state = await eventually(
    () => view(speaker).bfd?.state,
    one => one === 'Up',
  );
  assert.equal(state, 'Up');
  assert.ok(await eventually(() => learned(speaker), Boolean));
  // The faster interval is agreed on by a poll sequence (RFC 5880 section 6.5).
  await eventually(
    () => view(speaker).bfd?.detectionMs,
    ms => ms === 300,
  );
}

/** Drops their link and answers how long our routes to them lived on. */
async function cut(pair: Pair, speaker: Speaker): Promise<number> {
  Namespaces.command('ip', '-n', pair.theirNetns, 'link', 'set', 'vb', 'down');
  const since = performance.now();
  while (learned(speaker) && performance.now() - since < 5000) await wait(5);
  return performance.now() - since;
}

const birdConfig = (session: string, more = ''): string => `router id 10.9.0.2;
log stderr all;
protocol device { scan time 2; }
protocol static s4 { ipv4; route 10.30.1.0/24 blackhole; }
protocol bfd { interface "*" { interval 100 ms; idle tx interval 300 ms; multiplier 3; };
  multihop { interval 100 ms; idle tx interval 300 ms; multiplier 3; }; }
protocol bgp ours { local ${THEIRS.v4} as 65002; neighbor ${OURS.v4} as 65001; connect delay time 1; ${session}
  ipv4 { import all; export all; }; }
${more}
`;

const skipBird = missing(BIRD, 'bird2');

test('BIRD: RFC 5881, a cut link takes its routes in under a second (3 × 100 ms)', {
  skip: skipBird,
}, async () => {
  await using pair = new Pair('bfd1');
  const bird = new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, birdConfig('bfd on;'));
  const { speaker, bfd } = await watching(pair, FAST);
  using closing = new DisposableStack();
  closing.defer(() => bfd.close());
  await untilWatched(speaker);
  assert.match(await bird.ask('show bfd sessions'), /10\.9\.0\.1\s+\S+\s+Up/);
  const took = await cut(pair, speaker);
  assert.ok(took < 1000, `routes lived on for ${took.toFixed(0)} ms`);
  assert.match(view(speaker).lastError ?? '', /BFD/);
  // The link is back: so are session, BFD and routes.
  Namespaces.command('ip', '-n', pair.theirNetns, 'link', 'set', 'vb', 'up');
  await untilWatched(speaker);
});

test('BIRD: RFC 5883, the same with routers allowed between', { skip: skipBird }, async () => {
  await using pair = new Pair('bfd2');
  const config = birdConfig('bfd on; multihop;');
  const bird = new Bird(pair.namespaces, pair.theirNetns, pair.directory.path, config);
  const { speaker, bfd } = await watching(pair, { ...FAST, multihop: true });
  using closing = new DisposableStack();
  closing.defer(() => bfd.close());
  await untilWatched(speaker);
  assert.equal(view(speaker).bfd?.multihop, true);
  assert.match(await bird.ask('show bfd sessions'), /10\.9\.0\.1\s+---\s+Up/, 'no interface: multihop');
  const took = await cut(pair, speaker);
  assert.ok(took < 1000, `routes lived on for ${took.toFixed(0)} ms`);
});

const skipFrr = missing(FRR_BGPD, 'frr') || missing(FRR_BFDD, 'frr');

for (const multihop of [false, true])
  test(`FRR's bfdd: ${multihop ? 'RFC 5883' : 'RFC 5881'}, up, and down in under a second`, {
    skip: skipFrr,
  }, async () => {
    await using pair = new Pair(multihop ? 'bfd5' : 'bfd4');
    const frr = new Frr(pair.theirNetns, pair.directory.path);
    const at = (name: string): string => join(pair.directory.path, pair.theirNetns, name);
    const config = `router bgp 65002
 bgp router-id 10.9.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor ${OURS.v4} remote-as 65001
 neighbor ${OURS.v4} timers connect 1
${multihop ? ` neighbor ${OURS.v4} ebgp-multihop 5\n` : ''} neighbor ${OURS.v4} bfd profile fast
 address-family ipv4 unicast
  network 10.30.1.0/24
 exit-address-family
`;
    await frr.start(pair.namespaces, THEIRS.v4, config, true);
    writeFileSync(
      at('bfdd.conf'),
      'bfd\n profile fast\n  detect-multiplier 3\n  receive-interval 100\n  transmit-interval 100\n !\n!\n',
    );
    pair.namespaces.spawn(pair.theirNetns, FRR_BFDD, [
      ...['-f', at('bfdd.conf'), '-i', at('bfdd.pid'), '-z', at('zserv.sock'), '--bfdctl', at('bfdd.sock')],
      ...['--vty_socket', at('.'), '-u', 'frr', '-g', 'frr', '-P', '0'],
    ]);
    const { speaker, bfd } = await watching(pair, { ...FAST, multihop });
    using closing = new DisposableStack();
    closing.defer(() => bfd.close());
    await untilWatched(speaker);
    const took = await cut(pair, speaker);
    assert.ok(took < 1000, `routes lived on for ${took.toFixed(0)} ms`);
  });
