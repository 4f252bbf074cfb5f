// What `explain` says must be what the kernel does: generated Services, endpoints and flows, with real connections.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Explanation, explainFlow } from '../../../src/explain/service.ts';
import { writeSysctl } from '../../../src/linux/sysctl.ts';
import { type Answer, type LabNamespace, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { ProxyNode } from './node.ts';

const SERVICES = 24;
const SILENCE_MS = 250;
const skip = SKIP_UNLESS_ROOT;
let net: ProxyNode;

/** xorshift32: the same clusters in every run. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const ENDPOINTS = [
  ...[1, 2, 3].map(n => ({ ip: `10.244.1.${n + 1}`, node: 'node', server: `pod${n}` })),
  ...[1, 2, 3].map(n => ({ ip: `10.244.2.${n + 1}`, node: 'far', server: `far${n}` })),
];

function generate(n: number) {
  const pick = random(0x9e3779b9 + n * 7919);
  const chance = (percent: number) => pick(100) < percent;
  const endpoints = ENDPOINTS.filter(() => chance(40)).map(({ ip, node }) => {
    const state = pick(10);
    const conditions =
      state < 6
        ? {}
        : state < 8
          ? { ready: false }
          : { ready: false, serving: state === 8, terminating: true };
    return endpoint(ip, { node, ...conditions });
  });
  const ranges = [undefined, ['10.9.0.9/32'], ['192.0.2.0/24']][pick(3)];
  return {
    spec: {
      type: 'LoadBalancer',
      clusterIP: `10.96.7.${n + 1}`,
      ports: [{ port: 80, nodePort: 31_000 + n }],
      externalIPs: chance(50) ? [`198.51.100.${n + 1}`] : [],
      loadBalancer: [{ ip: `198.51.100.${n + 101}` }],
      ...(ranges ? { loadBalancerSourceRanges: ranges } : {}),
      ...(chance(30) ? { internalTrafficPolicy: 'Local' } : {}),
      ...(chance(50) ? { externalTrafficPolicy: 'Local' } : {}),
    },
    endpoints,
  };
}

before(async () => {
  if (skip) return;
  net = new ProxyNode('explain');
  // Each refusal is an ICMP error, of which the kernel otherwise sends one a second to each host (icmp(7)).
  writeSysctl(net.node.netns, 'net/ipv4/icmp_ratelimit', '0');
  await net.start();
});
after(() => (skip ? undefined : net.close()));

function explainIn(source: string, destination: string, port: number): Explanation {
  return explainFlow(
    { source, destination, port, protocol: 'TCP' },
    {
      ports: net.proxy.ports(),
      candidates: resolved => net.proxy.candidates(resolved.port),
      nodeIps: ['10.9.0.1', '10.8.0.1', '10.244.1.1'],
      clusterCidrs: ['10.244.0.0/16'],
    },
  );
}

async function happens(from: LabNamespace, destination: string, port: number): Promise<Answer | string> {
  try {
    return await from.ask(destination, port, { timeoutMs: SILENCE_MS });
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code ?? String(thrown);
  }
}

test('generated clusters: the verdict, the endpoints and the masquerade are the kernel’s', {
  skip,
  timeout: 180_000,
}, async () => {
  const clusters = Array.from({ length: SERVICES }, (_, n) => generate(n));
  for (const [n, { spec, endpoints }] of clusters.entries()) {
    net.proxy.upsertService(service(`gen/s${n}`, spec));
    net.proxy.upsertEndpointSlice(slice(`gen/s${n}`, endpoints, [{ port: 80 }]));
  }
  await net.proxy.settled();
  const sources = [
    { from: net.client, ip: '10.9.0.9' },
    { from: net.node, ip: '10.8.0.1' },
    { from: net.pods[0]!, ip: '10.244.1.2' },
  ];
  const seen = { forwarded: 0, rejected: 0, dropped: 0, untouched: 0 };
  for (const { spec } of clusters)
    for (const { from, ip } of sources) {
      const targets: [string, number][] = [
        [spec.clusterIP, 80],
        ['10.9.0.1', spec.ports[0]!.nodePort],
        [spec.loadBalancer[0]!.ip, 80],
        ...spec.externalIPs.map((external): [string, number] => [external, 80]),
      ];
      for (const [destination, port] of targets) {
        const said = explainIn(ip, destination, port);
        const done = await happens(from, destination, port);
        const what = `${from.name} → ${destination}:${port}: said ${JSON.stringify(said)}, happened ${JSON.stringify(done)}`;
        seen[said.verdict] += 1;
        if (said.verdict === 'rejected') assert.equal(done, 'ECONNREFUSED', what);
        else if (said.verdict !== 'forwarded') assert.equal(done, 'TIMEOUT', what);
        else {
          assert.ok(typeof done !== 'string', what);
          const answered = ENDPOINTS.find(each => each.server === done.server)!;
          const explained = said.endpoints.find(each => each.endpoint === `${answered.ip}:80`);
          assert.ok(explained && explained.share > 0, what);
          if (from !== net.node)
            assert.equal(done.client.replace('::ffff:', '') !== ip, explained.masqueraded, what);
        }
      }
    }
  assert.ok(seen.forwarded > 50 && seen.rejected > 5 && seen.dropped > 5, JSON.stringify(seen));
});
