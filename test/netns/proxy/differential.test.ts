// The model's verdict against the kernel's: random Services and endpoints, packets from pods, the node and outside to every
// address and port there is; what really answers, who it saw as the client, and how the rest was refused must be what
// the model says. A failure prints the seed; PODWIRE_SEED repeats it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import {
  judgePacket,
  type ProxyPacket,
  seesNodeAddress,
  type VerdictContext,
} from '../../../proxy/model/verdict.ts';
import type { EndpointSlice, Service } from '../../../src/api/types.ts';
import { cidrContains, parseCidr } from '../../../src/lib/cidr.ts';
import { parseIp } from '../../../src/lib/ip.ts';
import { type LabNamespace, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { NODE_IP, ProxyNode } from './node.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 120_000 };
const CLUSTERS = 6;
const SEED = Number(process.env.PODWIRE_SEED ?? Date.now() % 1_000_000);
const NAMES = new Map([
  ['10.244.1.2', 'pod1'],
  ['10.244.1.3', 'pod2'],
  ['10.244.1.4', 'pod3'],
  ['10.244.2.2', 'far1'],
  ['10.244.2.3', 'far2'],
  ['10.244.2.4', 'far3'],
]);
const PODS = parseCidr('10.244.0.0/16')!;
let net: ProxyNode;

before(async () => {
  if (limits.skip) return;
  net = new ProxyNode('dif');
  await net.start();
});
after(() => net?.close());

const arbitraryEndpoint = fc
  .record({
    ip: fc.constantFrom(...NAMES.keys()),
    ready: fc.boolean(),
    serving: fc.boolean(),
    terminating: fc.boolean(),
  })
  .map(({ ip, ...rest }) => endpoint(ip, { ...rest, node: ip.startsWith('10.244.1.') ? 'node' : 'far' }));

const arbitraryService = fc.record({
  type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer'),
  internalTrafficPolicy: fc.constantFrom('Cluster', 'Local'),
  externalTrafficPolicy: fc.constantFrom('Cluster', 'Local'),
  sessionAffinity: fc.constantFrom('None', 'None', 'ClientIP'),
  externalIPs: fc.boolean(),
  ranges: fc.constantFrom([], ['10.9.0.0/24'], ['10.244.0.0/16'], ['192.0.2.0/24']),
  endpoints: fc.uniqueArray(arbitraryEndpoint, { maxLength: 4, selector: one => one.addresses[0] }),
});

interface Cluster {
  services: Service[];
  slices: EndpointSlice[];
  targets: { address: string; port: number }[];
}

function buildCluster(specs: ReturnType<typeof sample>): Cluster {
  const cluster: Cluster = { services: [], slices: [], targets: [] };
  for (const [n, { externalIPs, ranges, endpoints, ...spec }] of specs.entries()) {
    const key = `diff/s${n}`;
    const clusterIP = `10.96.7.${n + 1}`;
    const external = `198.51.100.${n + 1}`;
    const balancer = `198.51.100.${n + 101}`;
    const nodePort = 31_000 + n;
    cluster.services.push(
      service(key, {
        ...spec,
        clusterIP,
        ports: [{ port: 80, nodePort }],
        externalIPs: externalIPs ? [external] : [],
        loadBalancer: [{ ip: balancer }],
        loadBalancerSourceRanges: [...ranges],
      }),
    );
    cluster.slices.push({ ...slice(key, endpoints, [{ port: 80 }]), addressType: 'IPv4' });
    for (const address of [clusterIP, external, balancer]) cluster.targets.push({ address, port: 80 });
    cluster.targets.push({ address: NODE_IP.v4, port: nodePort });
    cluster.targets.push({ address: clusterIP, port: 81 });
  }
  return cluster;
}

function sample(seed: number) {
  return fc.sample(arbitraryService, { numRuns: 6, seed });
}

/** Where packets come from, and the source address they have to a given destination. */
function origins(): { from: LabNamespace; name: string; source: (to: string) => string }[] {
  return [
    { from: net.pods[0]!, name: 'pod1', source: () => '10.244.1.2' },
    { from: net.pods[2]!, name: 'pod3', source: () => '10.244.1.4' },
    { from: net.client, name: 'client', source: () => '10.9.0.9' },
    // The node's own packets: the address of the link they would leave by.
    { from: net.node, name: 'node', source: to => (to === NODE_IP.v4 ? NODE_IP.v4 : '10.8.0.1') },
  ];
}

async function comparePacket(
  from: LabNamespace,
  packet: ProxyPacket,
  context: VerdictContext,
  what: string,
): Promise<string | undefined> {
  const verdict = judgePacket(packet, net.proxy.ports(), context);
  const say = (got: string): string =>
    `${what} → ${packet.destination}:${packet.destinationPort}: the kernel: ${got}; the model: ${verdict.action} ${verdict.endpoints.map(one => NAMES.get(one.ip))} (${verdict.reasons.join('; ')})`;
  try {
    const { server, client } = await from.ask(packet.destination, packet.destinationPort, { timeoutMs: 700 });
    const chosen = verdict.endpoints.find(one => NAMES.get(one.ip) === server);
    if (verdict.action !== 'endpoint' || !chosen) return say(server);
    const masked = client !== packet.source;
    // The node's own source is an address of the node whether it is masqueraded or not.
    if (!context.nodeAddresses.has(packet.source) && masked !== seesNodeAddress(verdict, packet, chosen))
      return say(`${server}, which sees ${client}`);
    return undefined;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (verdict.action === 'reject') return code === 'ECONNREFUSED' ? undefined : say(code);
    if (verdict.action === 'drop') return code === 'TIMEOUT' ? undefined : say(code);
    return verdict.action === 'pass' ? undefined : say(code);
  }
}

for (let n = 0; n < CLUSTERS; n++)
  test(`random cluster, seed ${SEED + n}`, limits, async () => {
    const { services, slices, targets } = buildCluster(sample(SEED + n));
    net.proxy.setServices(services);
    net.proxy.setEndpointSlices(slices);
    await net.proxy.settled();
    const context: VerdictContext = {
      nodeAddresses: new Set(net.node.rt.listAddresses().map(({ address }) => address.split('/')[0]!)),
      isLocalPod: source => cidrContains(PODS, parseIp(source)!),
      masqueradeAll: false,
      localhostNodePorts: true,
    };
    const differences: (string | undefined)[] = [];
    // ICMP errors to one peer are limited to six, then one a second: one origin's refusals must not starve.
    for (const { from, name, source } of origins()) {
      await net.node.run('sysctl', ['-qw', 'net.ipv4.icmp_ratelimit=0']);
      const compared = targets.map(({ address, port }) =>
        comparePacket(
          from,
          { protocol: 'TCP', source: source(address), destination: address, destinationPort: port },
          context,
          name,
        ),
      );
      differences.push(...(await Promise.all(compared)));
    }
    assert.deepEqual(
      differences.filter(one => one !== undefined),
      [],
    );
  });
