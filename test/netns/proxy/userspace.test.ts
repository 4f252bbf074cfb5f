// The userspace mode with real traffic, by the same acceptance list as the kernel modes as far as it goes for it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type LabNamespace, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, type ServiceOptions, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { NODE_IP, ProxyNode } from './node.ts';

const skip = SKIP_UNLESS_ROOT;
const LOCAL = ['10.244.1.2', '10.244.1.3', '10.244.1.4'];
const FAR = ['10.244.2.2', '10.244.2.3', '10.244.2.4'];
let net: ProxyNode;
let pod1: LabNamespace;

before(async () => {
  if (skip) return;
  net = new ProxyNode('usp', {
    mode: 'userspace',
    userspace: {
      listen: { v4: NODE_IP.v4, v6: NODE_IP.v6 },
      portRange: { first: 42_000, last: 42_099 },
      udpIdleMs: 250,
    },
  });
  pod1 = net.pods[0]!;
  await net.start();
});
after(() => net?.close());

let count = 0;
async function expose(
  endpoints: string[],
  options: ServiceOptions & { targetPort?: number } = {},
): Promise<{ ip: string; key: string }> {
  const { targetPort = 80, ...spec } = options;
  const n = ++count;
  const key = `test/s${n}`;
  const ip = spec.clusterIP ?? `10.96.0.${n}`;
  const ports = spec.ports ?? [{ port: 80 }];
  net.proxy.upsertService(service(key, { clusterIP: ip, ...spec, ports }));
  publish(key, endpoints, targetPort, ports[0]);
  await net.proxy.settled();
  return { ip, key };
}

function publish(
  key: string,
  endpoints: string[],
  targetPort = 80,
  port: { name?: string; protocol?: string } = {},
): void {
  const on = (address: string): string => (address.startsWith('10.244.1.') ? 'node' : 'far');
  net.proxy.upsertEndpointSlice(
    slice(
      key,
      endpoints.map(address => endpoint(address, { node: on(address) })),
      [{ name: port.name, port: targetPort, protocol: port.protocol }],
    ),
  );
}

async function shares(from: LabNamespace, ip: string, port: number, times: number): Promise<number[]> {
  const seen = new Map<string, number>();
  for (let n = 0; n < times; n++) {
    const { server } = await from.ask(ip, port);
    seen.set(server, (seen.get(server) ?? 0) + 1);
  }
  return [...seen.values()].sort();
}

test('cluster IP: from a pod, the node, outside; strict round robin', { skip }, async () => {
  const { ip } = await expose([...LOCAL, FAR[0]!]);
  for (const from of [pod1, net.node, net.client])
    assert.deepEqual(await shares(from, ip, 80, 12), [3, 3, 3, 3]);
});

test('a pod reaches itself through its own Service', { skip }, async () => {
  const { ip } = await expose([LOCAL[0]!]);
  assert.equal(await pod1.outcome(ip, 80), 'pod1');
});

test('IPv6', { skip }, async () => {
  const { ip } = await expose(['fd00:244:1::3'], { clusterIP: 'fd96::7' });
  for (const from of [pod1, net.node, net.client]) assert.equal(await from.outcome(ip, 80), 'pod2');
});

test('node port: every address of the node, localhost too', { skip }, async () => {
  await expose([LOCAL[0]!], { type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }] });
  assert.equal(await net.client.outcome(NODE_IP.v4, 30080), 'pod1');
  assert.equal(await net.node.outcome('127.0.0.1', 30080), 'pod1');
  assert.equal(await net.node.outcome(NODE_IP.v4, 30080), 'pod1');
  assert.equal(await pod1.outcome('10.244.1.1', 30080), 'pod1');
  assert.equal(await net.client.outcome(NODE_IP.v4, 30081), 'ECONNREFUSED');
});

test('UDP: cluster IP and node port, answers come from the address that was asked', { skip }, async () => {
  const { ip } = await expose([LOCAL[1]!], {
    type: 'NodePort',
    ports: [{ port: 5353, nodePort: 30053, protocol: 'UDP' }],
    targetPort: 53,
  });
  for (const from of [pod1, net.node, net.client])
    assert.equal(await from.outcome(ip, 5353, { protocol: 'udp' }), 'pod2');
  assert.equal(await net.client.outcome(NODE_IP.v4, 30053, { protocol: 'udp' }), 'pod2');
  assert.equal(await pod1.outcome('10.244.1.1', 30053, { protocol: 'udp' }), 'pod2');
});

test('UDP: a client that keeps its port follows the endpoints, and a Service made again', {
  skip,
}, async () => {
  const ports = [{ port: 53, protocol: 'UDP' as const }];
  const options = { clusterIP: '10.96.7.7', ports, targetPort: 53 };
  const ask = (): Promise<string> =>
    net.client.outcome('10.96.7.7', 53, { protocol: 'udp', sourcePort: 5533, timeoutMs: 500 });
  const { key } = await expose([LOCAL[0]!], options);
  assert.equal(await ask(), 'pod1');
  publish(key, [LOCAL[1]!], 53, ports[0]);
  await net.proxy.settled();
  assert.equal(await ask(), 'pod2');
  net.proxy.deleteService('test', key.split('/')[1]!);
  await net.proxy.settled();
  await ask();
  await expose([LOCAL[2]!], options);
  assert.equal(await ask(), 'pod3');
});

test('no endpoints: refused like a closed port; policy Local without local ones: silence', {
  skip,
}, async () => {
  const { ip } = await expose([], { type: 'NodePort', ports: [{ port: 80, nodePort: 30081 }] });
  for (const from of [pod1, net.node, net.client])
    assert.equal(await from.outcome(ip, 80, { timeoutMs: 800 }), 'ECONNREFUSED', from.name);
  assert.equal(await net.client.outcome(NODE_IP.v4, 30081), 'ECONNREFUSED');
  const udp = await expose([], { ports: [{ port: 53, protocol: 'UDP' }] });
  assert.equal(await net.client.outcome(udp.ip, 53, { protocol: 'udp', timeoutMs: 800 }), 'ECONNREFUSED');
  const local = await expose([FAR[0]!], { internalTrafficPolicy: 'Local' });
  assert.equal(await net.client.outcome(local.ip, 80, { timeoutMs: 400 }), 'TIMEOUT');
});

test('an endpoint that is not there any more is passed over before anybody says so', { skip }, async () => {
  const { ip } = await expose(['10.244.1.200', LOCAL[2]!]);
  for (let n = 0; n < 4; n++) assert.equal(await net.client.outcome(ip, 80), 'pod3');
});

test('session affinity', { skip }, async () => {
  const { ip } = await expose(LOCAL, { sessionAffinity: 'ClientIP' });
  for (const from of [net.client, net.node]) {
    const first = await from.outcome(ip, 80);
    for (let n = 0; n < 6; n++) assert.equal(await from.outcome(ip, 80), first);
  }
});

test('load balancer: sources out of range are dropped before the relay, and only there', {
  skip,
}, async () => {
  const options = (range: string): ServiceOptions => ({
    type: 'LoadBalancer',
    ports: [{ port: 80, nodePort: 30250 }],
    loadBalancer: [{ ip: '198.51.100.25' }],
    loadBalancerSourceRanges: [range],
  });
  const { ip, key } = await expose(LOCAL, options('10.9.0.9/32'));
  assert.match(await net.client.outcome('198.51.100.25', 80), /^pod/);
  net.proxy.upsertService(service(key, { clusterIP: ip, ...options('192.0.2.0/24') }));
  await net.proxy.settled();
  assert.equal(await net.client.outcome('198.51.100.25', 80, { timeoutMs: 400 }), 'TIMEOUT');
  const { stdout } = await net.node.run('iptables-nft', ['-nvL', 'KUBE-PORTALS-FIREWALL']);
  assert.match(stdout, /^ *[1-9]\d* .* DROP .* 198\.51\.100\.25 /m);
  assert.match(await net.client.outcome(ip, 80), /^pod/);
  assert.match(await net.client.outcome(NODE_IP.v4, 30250), /^pod/);
});

test('changes: endpoints, the last one, the Service', { skip }, async () => {
  const { ip, key } = await expose([LOCAL[0]!]);
  assert.equal(await net.client.outcome(ip, 80), 'pod1');
  publish(key, [LOCAL[1]!]);
  await net.proxy.settled();
  assert.equal(await net.client.outcome(ip, 80), 'pod2');
  publish(key, []);
  await net.proxy.settled();
  assert.equal(await net.client.outcome(ip, 80, { timeoutMs: 800 }), 'ECONNREFUSED');
  publish(key, [LOCAL[2]!]);
  await net.proxy.settled();
  assert.equal(await net.client.outcome(ip, 80), 'pod3');
});

test('the rules stand in the chains of kube-proxy, their ports in the given range', { skip }, async () => {
  const { stdout } = await net.node.run('iptables-nft-save', ['-t', 'nat']);
  for (const line of [
    /^-A PREROUTING .*-j KUBE-PORTALS-CONTAINER$/m,
    /^-A OUTPUT .*-j KUBE-PORTALS-HOST$/m,
    /^-A PREROUTING .*--dst-type LOCAL.* -j KUBE-NODEPORT-CONTAINER$/m,
    /^-A KUBE-NODEPORT-HOST .*--dport 30080 -j DNAT --to-destination 10\.9\.0\.1:420\d\d$/m,
  ])
    assert.match(stdout, line);
  assert.deepEqual(await net.reconciler.diff(), []);
});
