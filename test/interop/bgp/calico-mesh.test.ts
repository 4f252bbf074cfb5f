// One mesh of BIRDs, configured as confd configures them for calico-node, and of our speakers, planned from Calico's
// resources: every node's block in every kernel, a block added and removed, a BIRD killed.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planBgp } from '../../../routing/bgp/calico/plan.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { KernelRouteSink } from '../../../routing/fib/kernel-route-sink.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Namespaces, netnsName } from '../../harness/bgp/bench-net.ts';
import { eventually } from '../../harness/bgp/pair.ts';
import { BIRD, Bird, missing, TemporaryDirectory } from '../../harness/bgp/peers.ts';

const skip = missing(BIRD, 'bird2');
const NODES = [1, 2, 3, 4];
const addressOf = (n: number): string => `10.8.0.${n}`;
const blockOf = (n: number): string => `10.244.${n}.0/26`;
const netnsOf = (n: number): string => netnsName(`c${n}`);

function birdConfig(n: number, blocks: readonly string[]): string {
  const aggregate = blocks.map(
    b => ` if ( net = ${b} ) then { accept; }\n if ( net ~ ${b} ) then { reject; }`,
  );
  const peers = NODES.filter(other => other !== n).map(
    other =>
      `protocol bgp Mesh_${other} from bgp_template { neighbor ${addressOf(other)} as 64512; ${addressOf(other) > addressOf(n) ? 'passive on; ' : ''}}`,
  );
  return `router id ${addressOf(n)};
log stderr all;
protocol device { scan time 2; }
protocol direct { ipv4; interface -"cali*", "*"; }
function calico_aggr() {
${aggregate.join('\n')}
}
filter calico_export { bgp_local_pref = 2147482623; calico_aggr(); if ( net ~ 10.244.0.0/16 ) then { accept; } reject; }
protocol kernel { learn; persist; scan time 2; graceful restart; merge paths on; ipv4 { import all; export all; }; }
protocol static { ipv4; ${blocks.map(b => `route ${b} blackhole; `).join('')} }
template bgp bgp_template { local ${addressOf(n)} as 64512; multihop; graceful restart; connect delay time 1;
  connect retry time 2; error wait time 1,5;
  ipv4 { import all; add paths on; gateway recursive; export filter calico_export; }; }
${peers.join('\n')}
`;
}

function plan(n: number, extraBlocks: readonly string[] = []) {
  const blocks = [
    ...NODES.map(one => [blockOf(one), one] as const),
    ...extraBlocks.map(b => [b, n] as const),
  ];
  return planBgp({
    nodeName: `n${n}`,
    nodes: NODES.map(one => ({
      metadata: { name: `n${one}`, annotations: { 'projectcalico.org/IPv4Address': `${addressOf(one)}/24` } },
    })),
    pools: [{ metadata: { name: 'default-ipv4-ippool' }, spec: { cidr: '10.244.0.0/16' } }],
    configurations: [],
    peers: [],
    filters: [],
    affinities: blocks.map(([cidr, one]) => ({
      spec: { cidr, node: `n${one}`, state: 'confirmed' as const, deleted: 'false' },
    })),
    blocks: [],
    services: [],
    endpointSlices: [],
    secret: () => undefined,
  }).config!;
}

/** `10.244.2.0/26 10.8.0.2`, blackholes without an address. */
function kernel(n: number): string[] {
  return Namespaces.command('ip', '-n', netnsOf(n), 'route', 'show')
    .split('\n')
    .filter(line => line.includes('10.244.'))
    .map(line => {
      const match = /(10\.244\.\S+)(?: via (\S+))?/.exec(line)!;
      return `${match[1]}${match[2] === undefined ? '' : ` ${match[2]}`}`;
    })
    .sort();
}

const wanted = (n: number, extra: readonly string[] = []): string[] =>
  [...NODES.map(one => (one === n ? blockOf(one) : `${blockOf(one)} ${addressOf(one)}`)), ...extra].sort();

const same = (list: readonly string[]) => (got: readonly string[]) =>
  JSON.stringify(got) === JSON.stringify(list);

test('BIRD nodes as Calico runs them and ours share one mesh', { skip }, async () => {
  using namespaces = new Namespaces();
  using directory = new TemporaryDirectory();
  namespaces.addLan(
    'csw',
    NODES.map(n => ({ name: `c${n}`, addresses: [`${addressOf(n)}/24`] })),
  );
  const birds = [1, 3].map(
    n => new Bird(namespaces, netnsOf(n), directory.path, birdConfig(n, [blockOf(n)])),
  );
  const log = silentLogger();
  const ours: Speaker[] = [];
  const opened: Netns[] = [];
  try {
    for (const n of [2, 4]) {
      const netns = Netns.open(`/run/netns/${netnsOf(n)}`);
      opened.push(netns);
      const sink = new KernelRouteSink({ netns, log });
      const speaker = new Speaker({ config: plan(n), transport: new TcpTransport(netns), log, sink });
      ours.push(speaker);
      await speaker.start();
    }
    for (const n of NODES)
      assert.deepEqual(await eventually(() => kernel(n), same(wanted(n))), wanted(n), `node ${n}`);

    // Our LOCAL_PREF is what Calico's nodes expect, and theirs arrives here.
    const text = await birds[0]!.ask(`show route ${blockOf(2)} all`);
    assert.match(text, /BGP\.local_pref: 2147482623/);

    // A block of ours comes and goes; a BIRD's too.
    await ours[0]!.configure(plan(2, ['10.244.20.0/26']));
    await birds[1]!.configure(birdConfig(3, [blockOf(3), '10.244.30.0/26']));
    const more = ['10.244.20.0/26 10.8.0.2', '10.244.30.0/26 10.8.0.3'];
    assert.deepEqual(await eventually(() => kernel(4), same(wanted(4, more))), wanted(4, more));
    assert.deepEqual(await eventually(() => kernel(1), same(wanted(1, more))), wanted(1, more));
    await ours[0]!.configure(plan(2));
    await birds[1]!.configure(birdConfig(3, [blockOf(3)]));
    for (const n of NODES)
      assert.deepEqual(await eventually(() => kernel(n), same(wanted(n))), wanted(n), `node ${n}, again`);
  } finally {
    for (const speaker of ours) await speaker.stop();
    for (const netns of opened) netns.close();
    await namespaces.killChildren();
  }
});
