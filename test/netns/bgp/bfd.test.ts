// BFD between two of our speakers: switched on and off under a live session, a silent peer, a peer that stops gracefully.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BfdEndpoint } from '../../../routing/bgp/bfd/endpoint.ts';
import { neighbourViews } from '../../../routing/bgp/looking-glass/status.ts';
import type { BfdConfig } from '../../../routing/bgp/session/peer-config.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Namespaces, netnsName, wait } from '../../harness/bgp/bench-net.ts';
import { chosen, eventually, originate } from '../../harness/bgp/pair.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root (network namespaces)';
const log = silentLogger();
const addressOf = (family: 4 | 6, n: number): string => (family === 4 ? `10.7.1.${n}` : `fd07:1::${n}`);

class End {
  readonly speaker: Speaker;
  readonly bfd: BfdEndpoint;
  readonly #netns: Netns;
  readonly #n: number;
  readonly #family: 4 | 6;

  constructor(n: number, family: 4 | 6, bfd: BfdConfig | undefined) {
    this.#n = n;
    this.#family = family;
    this.#netns = Netns.open(`/run/netns/${netnsName(`b${n}`)}`);
    this.bfd = new BfdEndpoint({
      netns: this.#netns,
      log,
      onChange: (peer, _state, failed) => {
        if (failed) this.speaker.pathDown(peer);
      },
    });
    const transport = new TcpTransport(this.#netns);
    this.speaker = new Speaker({ config: this.config(bfd), transport, log, bfd: this.bfd });
  }

  config(bfd: BfdConfig | undefined) {
    const peer = 3 - this.#n;
    return {
      asn: 64512,
      routerId: `10.7.1.${this.#n}`,
      listen: [{ address: addressOf(this.#family, this.#n), port: 179 }],
      nextHops: { 4: `10.7.1.${this.#n}`, 6: `fd07:1::${this.#n}` },
      peers: [
        {
          name: 'peer',
          address: addressOf(this.#family, peer),
          asn: 64512,
          localAddress: addressOf(this.#family, this.#n),
          connectRetryMs: 300,
          ...(bfd === undefined ? {} : { bfd }),
        },
      ],
      originate: originate(`10.5${this.#n}.0.0/24`),
    };
  }

  get view() {
    return neighbourViews(this.speaker)[0]!;
  }

  get learned(): boolean {
    return chosen(this.speaker).some(route => route.startsWith(`10.5${3 - this.#n}.`));
  }

  async close(): Promise<void> {
    await this.speaker.stop();
    this.bfd.close();
    // The last packets leave with the next turns of the loop.
    await wait(20);
    this.#netns.close();
  }
}

async function withEnds(
  family: 4 | 6,
  bfd: (n: number) => BfdConfig | undefined,
  body: (one: End, two: End) => Promise<void>,
): Promise<void> {
  const namespaces = new Namespaces();
  namespaces.addLan(
    'bsw',
    [1, 2].map(n => ({ name: `b${n}`, addresses: [`10.7.1.${n}/24`, `fd07:1::${n}/64`] })),
  );
  const ends = [1, 2].map(n => new End(n, family, bfd(n)));
  try {
    for (const end of ends) await end.speaker.start();
    await body(ends[0]!, ends[1]!);
  } finally {
    for (const end of ends) await end.close();
    namespaces[Symbol.dispose]();
  }
}

const FAST: BfdConfig = { transmitMs: 100, receiveMs: 100, multiplier: 3, multihop: false };
const bothUp = (one: End, two: End) => () => [one, two].every(({ view }) => view.bfd?.state === 'Up');
const steady = (one: End, two: End) => () =>
  bothUp(one, two)() && [one, two].every(({ view }) => view.bfd?.detectionMs === 300);

for (const family of [4, 6] as const)
  for (const multihop of [false, true])
    test(
      `IPv${family}, ${multihop ? 'RFC 5883' : 'RFC 5881'}: a peer that falls silent is gone in under a second`,
      {
        skip,
      },
      () =>
        withEnds(
          family,
          () => ({ ...FAST, multihop }),
          async (one, two) => {
            assert.ok(
              await eventually(steady(one, two), Boolean),
              JSON.stringify([one.view.bfd, two.view.bfd]),
            );
            assert.ok(one.learned && two.learned);
            // The switch port, not the own link: nothing tells the node but the silence.
            Namespaces.command('ip', '-n', netnsName('bsw'), 'link', 'set', 'p1', 'down');
            const since = performance.now();
            while ((one.learned || two.learned) && performance.now() - since < 5000) await wait(5);
            const took = performance.now() - since;
            assert.ok(took < 1000, `routes lived on for ${took.toFixed(0)} ms`);
            assert.match(one.view.lastError ?? '', /BFD/);
            Namespaces.command('ip', '-n', netnsName('bsw'), 'link', 'set', 'p1', 'up');
            assert.ok(await eventually(steady(one, two), Boolean), 'and comes back');
          },
        ),
    );

test('switched on and off, and its interval changed, under a live session', { skip }, () =>
  withEnds(
    4,
    () => undefined,
    async (one, two) => {
      const ends = [one, two];
      const configure = (bfd: BfdConfig | undefined) =>
        Promise.all(ends.map(end => end.speaker.configure(end.config(bfd))));
      assert.ok(await eventually(() => ends.every(end => end.learned), Boolean));
      assert.equal(one.view.bfd, undefined);
      await configure(FAST);
      assert.ok(await eventually(steady(one, two), Boolean));
      await one.speaker.configure(one.config(undefined));
      await wait(800);
      assert.equal(two.view.bfd?.state, 'Down', 'RFC 5882 3.2: told, and not taken for a failure');
      await configure({ ...FAST, transmitMs: 50, receiveMs: 50 });
      const faster = () => bothUp(one, two)() && one.view.bfd?.detectionMs === 150;
      assert.ok(await eventually(faster, Boolean));
      assert.deepEqual(
        ends.map(({ view }) => [view.state, view.timesEstablished]),
        [
          ['Established', 1],
          ['Established', 1],
        ],
      );
    },
  ),
);

test(
  'a peer without BFD, and one of the other kind: BFD stays down and takes nothing with it',
  { skip },
  () =>
    withEnds(
      4,
      n => ({ ...FAST, multihop: n === 2 }),
      async (one, two) => {
        assert.ok(await eventually(() => one.learned && two.learned, Boolean));
        await wait(1500);
        assert.deepEqual(
          [one, two].map(({ view }) => [view.state, view.timesEstablished, view.bfd?.state]),
          [
            ['Established', 1, 'Down'],
            ['Established', 1, 'Down'],
          ],
        );
      },
    ),
);

test('RFC 4724 and BFD: a speaker that restarts costs no route, though its BFD falls silent', { skip }, () =>
  withEnds(
    4,
    () => FAST,
    async (one, two) => {
      assert.ok(await eventually(steady(one, two), Boolean));
      await two.speaker.stop({ keepRoutes: true });
      two.bfd.close();
      await wait(1000);
      assert.ok(one.learned, 'kept over the restart');
      assert.ok(one.view.staleSince !== undefined);
    },
  ),
);
