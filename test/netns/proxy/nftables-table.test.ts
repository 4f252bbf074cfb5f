// The nftables table in the kernel: what we write is what nft makes of the plan's text, is seen to be so, and stays so
// while it changes all the time. No traffic here.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NftRepair } from '../../../proxy/backend/nftables/apply/keeper.ts';
import { TableKeeper } from '../../../proxy/backend/nftables/apply/keeper.ts';
import { writeChanges } from '../../../proxy/backend/nftables/apply/write.ts';
import { wholeTable } from '../../../proxy/backend/nftables/plan/state.ts';
import { formatTable } from '../../../proxy/backend/nftables/plan/text.ts';
import { cleanupRules } from '../../../proxy/cleanup.ts';
import { ServiceProxy } from '../../../proxy/proxy.ts';
import { Nftables } from '../../../src/linux/nftables.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { type LabNamespace, NetnsLab, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { EVERYTHING_CONFIG, everything } from '../../harness/nft/everything.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 60_000 };
const TABLE = 'podwire-proxy';
const lab = new NetnsLab('nftt');
let count = 0;
after(() => lab.close());

function namespace(): LabNamespace {
  return lab.namespace(`n${count++}`);
}

const pause = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

async function nft(host: LabNamespace, ...args: string[]): Promise<string> {
  const ran = await host.run('nft', args);
  assert.equal(ran.code, 0, `nft ${args.join(' ')}: ${ran.stderr}`);
  return ran.stdout;
}

/** Blocks and elements in any order. */
function canonical(text: string): string[] {
  return (
    text
      .replace(/elements = \{[^}]*\}/g, list =>
        list
          .split(/[,{}]/)
          .map(one => one.trim())
          .sort()
          .join(', '),
      )
      // What session affinity does only netlink can load.
      .replace(/(chain \S*sticky-\d+-\d+s \{)[^}]*(?:\{[^{}]*\}[^{}]*)*\n\t\}/g, '$1 }')
      .split(/\n\n?(?=\t(?:set|map|chain) )/)
      .map(block => block.replace(/\s+/g, ' ').replace(/[ }]+$/, ''))
      .sort()
  );
}

const DETECTORS = [
  EVERYTHING_CONFIG.localDetector,
  { mode: 'none' },
  { mode: 'bridge', interface: 'cni0' },
  { mode: 'prefix', prefix: 'veth' },
] as const;

for (const family of [4, 6] as const)
  for (const localDetector of DETECTORS)
    test(
      `IPv${family}, detector ${localDetector.mode}: the same as nft makes of the text`,
      limits,
      async () => {
        const ip = family === 4 ? 'ip' : 'ip6';
        const config = { ...EVERYTHING_CONFIG, localDetector };
        const [theirs, ours] = [namespace(), namespace()];
        const loaded = await theirs.run('nft', ['-f', '-'], formatTable(everything(family, config)));
        assert.equal(loaded.code, 0, loaded.stderr);
        using kernel = Nftables.open(ours.netns);
        const plan = everything(family, config);
        await writeChanges(kernel, plan, wholeTable(plan), { create: true, pause });
        const [left, right] = await Promise.all(
          [theirs, ours].map(host => nft(host, '-s', 'list', 'table', ip, TABLE)),
        );
        assert.deepEqual(canonical(right!), canonical(left!));
        for (const host of [theirs, ours]) {
          using socket = Nftables.open(host.netns);
          const keeper = new TableKeeper(family, config, socket, host.netns);
          keeper.update([]);
          // An empty plan first: all that is there is unknown and goes.
          const repairs = await keeper.replace(() => pause().then(() => true));
          assert.ok(repairs.length > 10);
          assert.deepEqual(await keeper.replace(() => pause().then(() => true)), []);
        }
      },
    );

test('a table of another layout is replaced', limits, async () => {
  const host = namespace();
  await nft(host, 'add', 'table', 'ip', TABLE);
  await nft(
    host,
    'add',
    'chain',
    'ip',
    TABLE,
    'old',
    '{ type filter hook forward priority 0; policy drop; }',
  );
  using kernel = Nftables.open(host.netns);
  const keeper = new TableKeeper(4, EVERYTHING_CONFIG, kernel, host.netns);
  const repairs = await keeper.replace(() => pause().then(() => true));
  assert.deepEqual(repairs, [{ family: 4, what: `table ${TABLE} foreign` }]);
  assert.doesNotMatch(await nft(host, 'list', 'ruleset'), /chain old/);
});

test('a comparison names what differs, and changes nothing', limits, async () => {
  const host = namespace();
  using kernel = Nftables.open(host.netns);
  const keeper = new TableKeeper(4, EVERYTHING_CONFIG, kernel, host.netns);
  const patient = () => pause().then(() => true);
  const missing = [{ family: 4, what: `table ${TABLE} missing` }];
  assert.deepEqual(await keeper.compare(patient), missing);
  assert.deepEqual(await keeper.compare(patient), missing);
  await keeper.replace(patient);
  assert.deepEqual(await keeper.compare(patient), []);
  await nft(host, 'flush', 'chain', 'ip', TABLE, 'services');
  await nft(host, 'add', 'element', 'ip', TABLE, 'cluster-ips', '{ 10.1.2.3 }');
  const differences = [
    { family: 4, what: 'chain services: other rules' },
    { family: 4, what: 'cluster-ips: element 10.1.2.3 unknown' },
  ];
  assert.deepEqual(await keeper.compare(patient), differences);
  assert.deepEqual(await keeper.compare(patient), differences);
});

interface Running {
  host: LabNamespace;
  proxy: ServiceProxy;
  repairs: NftRepair[];
}

function start(verifyIntervalMs: number): Running {
  const host = namespace();
  const repairs: NftRepair[] = [];
  const proxy = new ServiceProxy({
    nodeName: 'here',
    families: [4],
    mode: 'nftables',
    nftables: EVERYTHING_CONFIG,
    netns: host.netns,
    verifyIntervalMs,
    setDesired: () => {},
    onRepair: list => repairs.push(...list),
    log: silentLogger(),
  });
  return { host, proxy, repairs };
}

function put(proxy: ServiceProxy, n: number, round: number): void {
  const key = `test/s${n}`;
  const ports = [{ port: 80, nodePort: 30000 + n }];
  if (round % 7 === 6) {
    proxy.deleteService('test', `s${n}`);
    return;
  }
  proxy.upsertService(
    service(key, {
      type: 'NodePort',
      clusterIP: `10.96.${n >> 8}.${n & 255}`,
      ports,
      externalTrafficPolicy: round % 3 === 0 ? 'Local' : 'Cluster',
      sessionAffinity: round % 4 === 0 ? 'ClientIP' : 'None',
    }),
  );
  const endpoints = Array.from({ length: (n + round) % 9 }, (_, i) =>
    endpoint(`10.244.${round % 250}.${i + 1}`, { node: i % 2 ? 'here' : 'there' }),
  );
  proxy.upsertEndpointSlice({ ...slice(key, endpoints, ports), addressType: 'IPv4' });
}

test('no false alarm while everything changes and everything is compared all the time', limits, async () => {
  const { host, proxy, repairs } = start(15);
  try {
    proxy.setServices([]);
    proxy.setEndpointSlices([]);
    for (let n = 0; n < 1000; n++) put(proxy, n, 1);
    await proxy.settled();
    const until = performance.now() + 4000;
    for (let round = 1; performance.now() < until; round++) {
      for (let n = 0; n < 5; n++) put(proxy, (round * 37 + n * 11) % 1000, round);
      await proxy.settled();
      if (round % 10 === 0) await sleep(60);
    }
    assert.deepEqual(repairs, []);
    // And it still sees what is wrong.
    await nft(host, 'flush', 'chain', 'ip', TABLE, 'services');
    await sleep(500);
    assert.deepEqual(repairs, [{ family: 4, what: 'chain services: other rules' }]);
  } finally {
    proxy.stop();
  }
});

test('a storm of deletions by somebody, while it changes: all of it is mended', limits, async () => {
  const { host, proxy } = start(60_000);
  try {
    proxy.setServices([]);
    proxy.setEndpointSlices([]);
    for (let n = 0; n < 500; n++) put(proxy, n, 1);
    await proxy.settled();
    const before = canonical(await nft(host, '-s', 'list', 'table', 'ip', TABLE));
    for (let round = 0; round < 5; round++) {
      // Some of it may be gone already, by the time before.
      await host.run('nft', ['flush', 'map', 'ip', TABLE, 'service-ips']);
      put(proxy, 1000 + round, 1);
      await host.run('nft', ['flush', 'map', 'ip', TABLE, 'endpoints-0']);
      await nft(host, 'flush', 'ruleset');
      await proxy.settled();
    }
    for (let round = 0; round < 5; round++) proxy.deleteService('test', `s${1000 + round}`);
    await proxy.settled();
    await sleep(800);
    assert.deepEqual(canonical(await nft(host, '-s', 'list', 'table', 'ip', TABLE)), before);
  } finally {
    proxy.stop();
  }
});

test(
  "cleanup takes the tables away, and upstream's too; the mode that goes on keeps its own",
  limits,
  async () => {
    const { host, proxy } = start(60_000);
    proxy.setServices([]);
    proxy.setEndpointSlices([]);
    await proxy.settled();
    proxy.stop();
    await nft(host, 'add', 'table', 'ip', 'kube-proxy');
    const options = { netns: host.netns, lockDirectory: '/run', log: silentLogger() };
    assert.deepEqual(await cleanupRules({ ...options, keep: 'nftables' }), []);
    assert.deepEqual(
      (await nft(host, 'list', 'tables')).match(/table ip podwire-proxy|table ip kube-proxy/g),
      [`table ip ${TABLE}`],
    );
    assert.deepEqual(await cleanupRules(options), []);
    assert.doesNotMatch(await nft(host, 'list', 'tables'), /podwire-proxy|kube-proxy/);
  },
);
