// A peer made of bytes against a whole speaker: what breaks the rules costs that peer its session, with the NOTIFICATION
// RFC 4271 section 6 names, and nobody else anything. And what a refresh must do (RFC 2918, RFC 7313).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { whyView } from '../../../routing/bgp/looking-glass/routes.ts';
import { DEFAULT_CONTEXT } from '../../../routing/bgp/packet/context.ts';
import { MESSAGE } from '../../../routing/bgp/packet/iana.ts';
import { encodeKeepalive } from '../../../routing/bgp/packet/message/keepalive.ts';
import { encodeRouteRefresh, REFRESH } from '../../../routing/bgp/packet/message/route-refresh.ts';
import {
  decodeUpdate,
  ENCODE_SCRATCH_BYTES,
  encodeAnnouncements,
} from '../../../routing/bgp/packet/message/update.ts';
import { PathAttributes } from '../../../routing/bgp/packet/path-attributes.ts';
import { PrefixBatch } from '../../../routing/bgp/packet/prefix-batch.ts';
import type { Policy } from '../../../routing/bgp/policy/policy.ts';
import type { PeerConfig } from '../../../routing/bgp/session/peer-config.ts';
import type { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { makeCidr, requireCidr } from '../../../src/lib/cidr.ts';
import { wait } from '../../harness/bgp/bench-net.ts';
import { configFor, Loopback, peerTo } from '../../harness/bgp/loopback.ts';
import { chosen, eventually, originate } from '../../harness/bgp/pair.ts';
import { RawPeer } from '../../harness/bgp/raw-peer.ts';

const OURS = 65001;
const THEIRS = 65002;
const EXTERNAL = { ...DEFAULT_CONTEXT, external: true };
const scratch = Buffer.alloc(ENCODE_SCRATCH_BYTES);

/** UPDATEs for prefixes with one attribute set, as a well-meaning peer would write them. */
function announce(cidrs: readonly string[], nextHop = '10.0.0.9', first = THEIRS): Buffer[] {
  const batch = new PrefixBatch();
  batch.reset(4);
  for (const cidr of cidrs) batch.push(requireCidr(cidr));
  const messages: Buffer[] = [];
  const attributes = new PathAttributes().with({ nextHop, asPath: [{ type: 2, asns: [first] }] });
  encodeAnnouncements(batch, attributes, EXTERNAL, scratch, message => messages.push(Buffer.from(message)));
  return messages;
}

const raw = (type: number, body: string, length = 19 + body.length / 2): Buffer =>
  Buffer.from(`${'ff'.repeat(16)}${length.toString(16).padStart(4, '0')}0${type}${body}`, 'hex');

/** 127.0.0.0/8 is no next hop. */
const NEXT_HOP: Policy = {
  name: 'next hop',
  statements: [{ name: 'all', match: { families: [4] }, set: { nextHop: '10.0.0.8' }, action: 'accept' }],
  otherwise: 'accept',
};

interface Scene {
  readonly speaker: Speaker;
  readonly peer: RawPeer;
  /** A well-behaved speaker of ours that must notice nothing. */
  readonly bystander: Speaker;
}

let scenes = 0;

/** A speaker at 127.40.N.1 with a raw peer at 127.40.N.2 and a well-behaved one at 127.40.N.3. */
async function scene(config: Partial<PeerConfig>, play: (scene: Scene) => Promise<void>): Promise<void> {
  const n = ++scenes;
  const [own, hostile, good] = [`127.40.${n}.1`, `127.40.${n}.2`, `127.40.${n}.3`];
  await using loop = new Loopback();
  const options = { isOwnAddress: (address: string) => address === '10.0.0.1' };
  const speaker = await loop.start(
    configFor(
      own,
      OURS,
      [
        peerTo(hostile, THEIRS, { name: 'hostile', passive: true, families: [4], ...config }),
        peerTo(good, 65003, { name: 'good', passive: true, exportPolicy: NEXT_HOP }),
      ],
      { originate: originate('10.20.1.0/24', '10.20.2.0/24') },
    ),
    options,
  );
  const bystander = await loop.start(configFor(good, 65003, [peerTo(own, OURS)]), options);
  const up = (): boolean => speaker.neighbours.get('good')!.peer.state === 'Established';
  assert.ok(await eventually(up, ok => ok));
  using peer = new RawPeer(own, hostile);
  await play({ speaker, peer, bystander });
  assert.ok(up());
  assert.equal(speaker.neighbours.get('good')!.peer.establishedCount, 1, 'the other session never noticed');
}

const OPENS: [title: string, open: Parameters<RawPeer['open']>, wanted: string][] = [
  ['RFC 4271 6.2: the wrong AS', [{ asn: 64999 }], '2/2'],
  ['RFC 4271 6.2: a hold time of one second', [{ asn: THEIRS, holdTimeSeconds: 1 }], '2/6'],
  ['RFC 6286 2.1: router id zero', [{ asn: THEIRS, routerId: 0 }], '2/3'],
  ['RFC 5492 5: no address family in common', [{ asn: THEIRS }, { families: [6] }], '2/7'],
];

for (const [title, open, wanted] of OPENS)
  test(`OPEN, ${title}: ${wanted}`, () =>
    scene({}, async ({ peer }) => {
      peer.open(...open);
      assert.equal(await peer.notified(), wanted);
    }));

test('OPEN, RFC 6286 2.2: our own router id from a peer of our AS: 2/3', () =>
  scene({ asn: OURS }, async ({ peer, speaker }) => {
    const routerId = Buffer.from(speaker.config.routerId.split('.').map(Number)).readUInt32BE(0);
    peer.open({ asn: OURS, routerId });
    assert.equal(await peer.notified(), '2/3');
  }));

const MESSAGES: [title: string, bytes: readonly Buffer[], wanted: string][] = [
  ['RFC 4271 6.1: a type that is none', [raw(9, '')], '1/3'],
  ['RFC 4271 6.1: a KEEPALIVE with a body', [raw(4, '00')], '1/2'],
  ['RFC 4271 6.1: longer than 4096 without RFC 8654', [raw(2, '', 5000)], '1/2'],
  ['RFC 4271 6.1: the marker is lost in the stream', [encodeKeepalive(), Buffer.alloc(64, 7)], '1/1'],
  ['RFC 4271 6.3: an UPDATE whose attributes do not fit', [raw(2, '000000ff')], '3/1'],
  ['RFC 7606 5.3: a prefix cut short', [raw(2, '0002180a0000')], '3/10'],
  ['RFC 4271 6.6: a second OPEN', [raw(1, '04fdea005a0000004d00')], '5/3'],
  ['RFC 7313 5: a ROUTE-REFRESH of the wrong length', [raw(5, '0001010100')], '7/1'],
];

for (const [title, bytes, wanted] of MESSAGES)
  test(`Established, ${title}: ${wanted}, and its routes go`, () =>
    scene({}, async ({ speaker, peer }) => {
      await peer.establish({ asn: THEIRS });
      peer.send(...announce(['10.1.0.0/24']));
      assert.ok(
        await eventually(
          () => speaker.ribs[4].counts[1] === 1,
          ok => ok,
        ),
      );
      peer.send(...bytes);
      assert.equal(await peer.notified(), wanted);
      assert.ok(
        await eventually(
          () => speaker.ribs[4].counts[1] === 0,
          ok => ok,
        ),
      );
    }));

test('RFC 4271 6.4: a NOTIFICATION, even a malformed one, is never answered with another', () =>
  scene({}, async ({ peer }) => {
    await peer.establish({ asn: THEIRS });
    peer.send(raw(3, 'ff7f'));
    assert.equal(await peer.notified(), undefined);
    assert.ok(peer.closed);
  }));

test('RFC 7606 2: malformed attributes withdraw the route and keep the session', () =>
  scene({}, async ({ speaker, peer }) => {
    await peer.establish({ asn: THEIRS });
    const [update] = announce(['10.1.0.0/24']);
    peer.send(update!);
    assert.ok(
      await eventually(
        () => speaker.ribs[4].counts[1] === 1,
        ok => ok,
      ),
    );
    const broken = Buffer.from(update!);
    broken[26] = 9;
    peer.send(broken);
    assert.ok(
      await eventually(
        () => speaker.neighbours.get('hostile')!.malformed > 0,
        ok => ok,
      ),
    );
    await speaker.settled();
    assert.deepEqual(
      chosen(speaker).filter(route => route.startsWith('10.1.')),
      [],
    );
    assert.equal(peer.notification, undefined);
  }));

test('a stream that comes one byte at a time is read as any other', () =>
  scene({}, async ({ speaker, peer }) => {
    await peer.establish({ asn: THEIRS });
    for (const byte of Buffer.concat(announce(['10.1.0.0/24', '10.2.0.0/16']))) {
      peer.socket.write(Uint8Array.of(byte));
      await wait(1);
    }
    assert.ok(
      await eventually(
        () => speaker.ribs[4].counts[1] === 2,
        ok => ok,
      ),
    );
  }));

test('a stream that never ends is read message by message: memory stays, the others are served', () =>
  scene({}, async ({ speaker, peer }) => {
    await peer.establish({ asn: THEIRS });
    const [update] = announce(['10.1.0.0/24']);
    const block = Buffer.concat(Array.from({ length: 2000 }, () => update!));
    const begun = process.memoryUsage().arrayBuffers;
    const end = performance.now() + 1500;
    while (performance.now() < end) {
      if (!peer.socket.write(block)) await wait(5);
    }
    const { peer: session } = speaker.neighbours.get('hostile')!;
    assert.ok(session.updatesReceived > 10_000, `${session.updatesReceived} in a second and a half`);
    await eventually(
      () => peer.socket.writableLength,
      length => length === 0,
    );
    assert.ok(process.memoryUsage().arrayBuffers - begun < 64 * 2 ** 20);
    assert.equal(speaker.ribs[4].counts[1], 1);
    assert.equal(peer.notification, undefined);
  }));

test('RFC 4271 8.2.2: a connection that never finishes its OPEN does not hold the place of one that does', () =>
  scene({}, async ({ speaker, peer }) => {
    peer.send(raw(1, '04fd', 29));
    await wait(300);
    const { peer: session } = speaker.neighbours.get('hostile')!;
    assert.notEqual(session.state, 'Established');
    using second = new RawPeer(speaker.config.listen[0]!.address, session.config.address);
    await second.establish({ asn: THEIRS });
    assert.ok(
      await eventually(
        () => session.state === 'Established',
        ok => ok,
      ),
      'a whole OPEN wins',
    );
  }));

test('RFC 4486 4: a flood of prefixes ends at the limit, with nothing left of it', () =>
  scene({ maxPrefixes: 1000 }, async ({ speaker, peer, bystander }) => {
    await peer.establish({ asn: THEIRS });
    const flood = Array.from({ length: 50_000 }, (_, i) => {
      const { network } = makeCidr(Uint8Array.of(30 + (i >> 16), (i >> 8) & 255, i & 255, 0), 24);
      return `${network.join('.')}/24`;
    });
    peer.send(...announce(flood));
    assert.equal(await peer.notified(), '6/1');
    assert.ok(
      await eventually(
        () => speaker.ribs[4].counts[1] === 0,
        ok => ok,
      ),
    );
    const own = ['10.20.1.0/24', '10.20.2.0/24'];
    const left = (): string[] => chosen(bystander).map(route => route.split(' ')[0]!);
    assert.deepEqual(await eventually(left, list => list.length === 2), own);
  }));

test('RFC 4271 5.1.3 and 9.1.2: next hop ourselves, our own AS, a foreign first AS: refused, and why', () =>
  scene({}, async ({ speaker, peer }) => {
    await peer.establish({ asn: THEIRS });
    peer.send(
      ...announce(['10.1.0.0/24'], '10.0.0.1'),
      ...announce(['10.2.0.0/24'], '10.0.0.9', OURS),
      ...announce(['10.3.0.0/24'], '10.0.0.9', 64999),
      ...announce(['10.4.0.0/24']),
    );
    assert.ok(
      await eventually(
        () => speaker.ribs[4].counts[1] === 4,
        ok => ok,
      ),
    );
    await speaker.settled();
    const why = (cidr: string): string => whyView(speaker, cidr).paths[0]!.verdict;
    assert.match(why('10.1.0.0/24'), /refused: next hop 10\.0\.0\.1 is our own address/);
    assert.match(why('10.2.0.0/24'), /refused: our AS 65001 is in the path/);
    assert.match(why('10.3.0.0/24'), /refused: the path does not begin with the peer's AS 65002/);
    assert.deepEqual(
      chosen(speaker).filter(route => !route.endsWith('local')),
      ['10.4.0.0/24 via 10.0.0.9'],
    );
    assert.equal(peer.notification, undefined, 'the session stays');
  }));

const prefixesOf = (messages: readonly Buffer[]): string[] =>
  messages
    .flatMap(message => decodeUpdate(message, EXTERNAL).announced.map(({ cidr }) => cidr))
    .map(({ network, prefixLength }) => `${network.join('.')}/${prefixLength}`)
    .sort();

test('RFC 2918 4: a ROUTE-REFRESH is answered with everything; RFC 7313 4.1: between BoRR and EoRR for who knows it', async () => {
  for (const enhancedRouteRefresh of [false, true])
    await scene({}, async ({ peer }) => {
      await peer.establish({ asn: THEIRS }, { routeRefresh: true, enhancedRouteRefresh });
      const both = ['10.20.1.0/24', '10.20.2.0/24'];
      await eventually(
        () => prefixesOf(peer.of(MESSAGE.UPDATE)).length,
        n => n === 2,
      );
      await wait(50);
      peer.messages.length = 0;
      peer.send(encodeRouteRefresh(4));
      assert.deepEqual(
        await eventually(
          () => prefixesOf(peer.of(MESSAGE.UPDATE)),
          list => list.length === 2,
        ),
        both,
      );
      await wait(50);
      const kinds = peer.messages.map(message =>
        message[18] === MESSAGE.ROUTE_REFRESH ? `refresh ${message[21]}` : 'update',
      );
      const marks = [kinds[0], kinds.at(-1)];
      assert.deepEqual(marks, enhancedRouteRefresh ? ['refresh 1', 'refresh 2'] : ['update', 'update']);
    });
});

test('RFC 7313 4.2: what is not told again between BoRR and EoRR is gone', () =>
  scene({}, async ({ speaker, peer }) => {
    await peer.establish({ asn: THEIRS }, { routeRefresh: true, enhancedRouteRefresh: true });
    peer.send(...announce(['10.1.0.0/24', '10.2.0.0/24']));
    assert.ok(
      await eventually(
        () => speaker.ribs[4].counts[1] === 2,
        ok => ok,
      ),
    );
    peer.send(encodeRouteRefresh(4, REFRESH.BEGIN), ...announce(['10.2.0.0/24']));
    await wait(100);
    assert.equal(speaker.ribs[4].counts[1], 2, 'nothing goes before the end');
    peer.send(encodeRouteRefresh(4, REFRESH.END));
    assert.ok(
      await eventually(
        () => speaker.ribs[4].counts[1] === 1,
        ok => ok,
      ),
    );
    assert.deepEqual(
      chosen(speaker).filter(route => !route.endsWith('local')),
      ['10.2.0.0/24 via 10.0.0.9'],
    );
  }));

test('RFC 8654 4: a message of 20,000 bytes is read where both said they take it', () =>
  scene({}, async ({ speaker, peer }) => {
    await peer.establish({ asn: THEIRS }, { extendedMessage: true });
    const cidrs = Array.from({ length: 5000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);
    const batch = new PrefixBatch();
    batch.reset(4);
    for (const cidr of cidrs) batch.push(requireCidr(cidr));
    const attributes = new PathAttributes().with({
      nextHop: '10.0.0.9',
      asPath: [{ type: 2, asns: [THEIRS] }],
    });
    const messages: Buffer[] = [];
    const context = { ...EXTERNAL, maxMessageBytes: 65535 };
    encodeAnnouncements(batch, attributes, context, scratch, one => messages.push(Buffer.from(one)));
    assert.equal(messages.length, 1);
    peer.send(...messages);
    assert.ok(
      await eventually(
        () => speaker.ribs[4].counts[1] === cidrs.length,
        ok => ok,
      ),
    );
  }));
