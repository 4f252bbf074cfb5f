// Chosen routes in a real kernel: blackholes, ECMP, other people's routes, restart without a gap.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import type { SpeakerConfig } from '../../../routing/bgp/speaker/speaker-config.ts';
import { KernelRouteSink } from '../../../routing/fib/kernel-route-sink.ts';
import { ROUTE_PROTOCOL } from '../../../src/kernel/state.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Namespaces, netnsName, wait } from '../../harness/bgp/bench-net.ts';
import { eventually, originate } from '../../harness/bgp/pair.ts';
import { RouteWatch } from '../../harness/bgp/route-watch.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root (network namespaces)';
const log = silentLogger();

/** Two senders and a receiver on one bridge. */
class Lan implements AsyncDisposable {
  readonly namespaces = new Namespaces();
  readonly speakers: Speaker[] = [];
  readonly opened: Netns[] = [];

  constructor() {
    this.namespaces.addLan(
      'lan',
      [1, 2, 3].map(n => ({ name: `l${n}`, addresses: [`10.7.0.${n}/24`, `fd07::${n}/64`] })),
    );
  }

  netns(n: number): Netns {
    const netns = Netns.open(`/run/netns/${netnsName(`l${n}`)}`);
    this.opened.push(netns);
    return netns;
  }

  config(n: number, peers: readonly number[], ...cidrs: string[]): SpeakerConfig {
    return {
      asn: 64512,
      routerId: `10.7.0.${n}`,
      listen: [{ address: `10.7.0.${n}`, port: 179 }],
      nextHops: { 4: `10.7.0.${n}`, 6: `fd07::${n}` },
      peers: peers.map(peer => ({
        name: `l${peer}`,
        address: `10.7.0.${peer}`,
        asn: 64512,
        localAddress: `10.7.0.${n}`,
        connectRetryMs: 300,
      })),
      originate: originate(...cidrs).map(route => ({ ...route, blackhole: true })),
    };
  }

  async start(n: number, config: SpeakerConfig, restarting = false) {
    const netns = this.netns(n);
    const sink = new KernelRouteSink({ netns, log });
    sink.adopt();
    const speaker = new Speaker({ config, transport: new TcpTransport(netns), log, sink, restarting });
    this.speakers.push(speaker);
    await speaker.start();
    return { speaker, sink };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const speaker of this.speakers) await speaker.stop();
    for (const netns of this.opened) netns.close();
    this.namespaces[Symbol.dispose]();
  }
}

function kernelRoutes(netns: Netns): string[] {
  using rtnetlink = Rtnetlink.open(netns);
  return rtnetlink
    .listRoutes({ protocol: ROUTE_PROTOCOL.bgp })
    .map(route => {
      const hops = (route.nexthops ?? []).map(hop => hop.gateway).sort();
      return `${route.destination} ${route.type === 'blackhole' ? 'blackhole' : (route.gateway ?? hops.join(' '))}`;
    })
    .sort();
}

const is =
  (...wanted: string[]) =>
  (got: readonly string[]) =>
    JSON.stringify(got) === JSON.stringify(wanted);

test('blackhole, both families, ECMP, withdraw; a foreign route is left alone', { skip }, async () => {
  await using lan = new Lan();
  const rx = lan.netns(3);
  Namespaces.command(
    'ip',
    '-n',
    netnsName('l3'),
    'route',
    'add',
    '10.66.0.0/24',
    'via',
    '10.7.0.1',
    'metric',
    '1024',
  );
  await lan.start(1, lan.config(1, [3], '10.50.0.0/24', '10.51.0.0/24', '10.66.0.0/24', 'fd50::/64'));
  const second = await lan.start(2, lan.config(2, [3], '10.51.0.0/24'));
  const { sink } = await lan.start(3, lan.config(3, [1, 2], '10.53.0.0/26'));
  const wanted = [
    '10.50.0.0/24 10.7.0.1',
    '10.51.0.0/24 10.7.0.1 10.7.0.2',
    '10.53.0.0/26 blackhole',
    'fd50::/64 fd07::1',
  ];
  assert.deepEqual(await eventually(() => kernelRoutes(rx), is(...wanted)), wanted);
  assert.ok((sink.refusals.get('EEXIST') ?? 0) > 0, 'the prefix somebody else routes is named');
  await second.speaker.configure(lan.config(2, [3]));
  const one = [
    '10.50.0.0/24 10.7.0.1',
    '10.51.0.0/24 10.7.0.1',
    '10.53.0.0/26 blackhole',
    'fd50::/64 fd07::1',
  ];
  assert.deepEqual(await eventually(() => kernelRoutes(rx), is(...one)), one);
  assert.deepEqual(
    sink.fragment().routes?.map(route => route.destination),
    ['10.50.0.0/24', '10.51.0.0/24', '10.53.0.0/26', '10.66.0.0/24', 'fd50::/64'],
  );
});

test('restart, RFC 4724: not one route leaves any kernel, and what is gone meanwhile is swept', {
  skip,
}, async () => {
  await using lan = new Lan();
  await lan.start(1, lan.config(1, [3], '10.50.0.0/24'));
  const first = await lan.start(3, lan.config(3, [1], '10.53.0.0/26', '10.54.0.0/26'));
  const [one, three] = [lan.netns(1), lan.netns(3)];
  const onThree = ['10.50.0.0/24 10.7.0.1', '10.53.0.0/26 blackhole', '10.54.0.0/26 blackhole'];
  assert.deepEqual(await eventually(() => kernelRoutes(three), is(...onThree)), onThree);
  const onOne = ['10.50.0.0/24 blackhole', '10.53.0.0/26 10.7.0.3', '10.54.0.0/26 10.7.0.3'];
  assert.deepEqual(await eventually(() => kernelRoutes(one), is(...onOne)), onOne);
  using watch = new RouteWatch([netnsName('l1'), netnsName('l3')]);
  const gone: string[] = [];
  await first.speaker.stop({ keepRoutes: true });
  first.sink.close(true);
  await wait(400);
  assert.deepEqual(kernelRoutes(one), onOne);
  await lan.start(3, lan.config(3, [1], '10.53.0.0/26'), true);
  const left = ['10.50.0.0/24 10.7.0.1', '10.53.0.0/26 blackhole'];
  assert.deepEqual(await eventually(() => kernelRoutes(three), is(...left)), left);
  const leftOnOne = ['10.50.0.0/24 blackhole', '10.53.0.0/26 10.7.0.3'];
  assert.deepEqual(await eventually(() => kernelRoutes(one), is(...leftOnOne)), leftOnOne);
  watch.drain((_netns, destination, isGone) => {
    if (isGone) gone.push(destination);
  });
  assert.deepEqual([...new Set(gone)], ['10.54.0.0/26'], 'only what is no longer announced was ever removed');
});
