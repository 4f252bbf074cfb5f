// What every mode of the proxy must do with real traffic: the acceptance list of Kubernetes' [sig-network] Services that
// one node can show. Run by a test file for each mode.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ServiceProxyOptions } from '../../../proxy/proxy.ts';
import { type LabNamespace, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, type ServiceOptions, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { NODE_IP, ProxyNode } from './node.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 60_000 };
const DROPPED = { timeoutMs: 400 };
const LOCAL = ['10.244.1.2', '10.244.1.3', '10.244.1.4'];
const FAR = ['10.244.2.2', '10.244.2.3', '10.244.2.4'];
/** What the modes do differently, on purpose. */
export interface ModeTraits {
  options: Partial<ServiceProxyOptions>;
  /** Node ports answer on localhost and on every address of the node; else on the node's own only. */
  nodePortsEverywhere: boolean;
  /** A port of a cluster IP that no Service has: refused at once, or passed on to nowhere. */
  refusesUnknownPorts: boolean;
  /** After a restart with one Service: what the first proxy left and the second does not want is gone. */
  afterRestart?: (net: ProxyNode) => Promise<void>;
}

/** The tests as far as they are the same for every mode; the function gives what they ran on, for a mode's own tests. */
export function describeServices(room: string, traits: ModeTraits): () => ProxyNode {
  let net: ProxyNode;
  let pod1: LabNamespace;

  before(async () => {
    if (limits.skip) return;
    net = new ProxyNode(room, traits.options);
    pod1 = net.pods[0]!;
    await net.start();
  });
  after(() => net?.close());

  let count = 0;
  /** A Service with a cluster IP of its own and these endpoints. */
  async function expose(
    endpoints: string[],
    options: ServiceOptions & { targetPort?: number } = {},
  ): Promise<{ ip: string; key: string }> {
    const { targetPort = 80, ...spec } = options;
    const n = ++count;
    const key = `test/s${n}`;
    const ip = `10.96.0.${n}`;
    const ports = spec.ports ?? [{ port: 80 }];
    net.proxy.upsertService(service(key, { clusterIP: ip, ...spec, ports }));
    const on = (address: string): string => (address.startsWith('10.244.1.') ? 'node' : 'far');
    const { protocol, name } = ports[0]!;
    net.proxy.upsertEndpointSlice(
      slice(
        key,
        endpoints.map(address => endpoint(address, { node: on(address) })),
        [{ name, port: targetPort, protocol }],
      ),
    );
    await net.proxy.settled();
    return { ip, key };
  }

  async function answers(from: LabNamespace, ip: string, port: number, times = 24): Promise<Set<string>> {
    const seen = new Set<string>();
    for (let n = 0; n < times; n++) seen.add((await from.ask(ip, port)).server);
    return seen;
  }

  test('cluster IP, TCP: from a pod, the node, outside; every endpoint gets its share', limits, async () => {
    const { ip } = await expose([...LOCAL, FAR[0]!]);
    for (const from of [pod1, net.node, net.client])
      assert.deepEqual(await answers(from, ip, 80, 60), new Set(['pod1', 'pod2', 'pod3', 'far1']));
  });

  test('cluster IP, UDP, target port differs', limits, async () => {
    const { ip } = await expose([LOCAL[1]!], { ports: [{ port: 5353, protocol: 'UDP' }], targetPort: 53 });
    for (const from of [pod1, net.node, net.client])
      assert.equal(await from.outcome(ip, 5353, { protocol: 'udp' }), 'pod2');
  });

  test(
    "a pod keeps its source address, an outsider gets the node's; a pod reaches itself",
    limits,
    async () => {
      const { ip } = await expose([LOCAL[1]!]);
      assert.equal((await pod1.ask(ip, 80)).client, '10.244.1.2');
      assert.equal((await net.client.ask(ip, 80)).client, '10.244.1.1');
      assert.deepEqual(await net.pods[1]!.ask(ip, 80), { server: 'pod2', client: '10.244.1.1' });
    },
  );

  test("node port: on the node's addresses; masqueraded", limits, async () => {
    await expose([LOCAL[0]!], { type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }] });
    assert.deepEqual(await net.client.ask(NODE_IP.v4, 30080), { server: 'pod1', client: '10.244.1.1' });
    assert.equal(await net.node.outcome(NODE_IP.v4, 30080), 'pod1');
    assert.equal(await pod1.outcome(NODE_IP.v4, 30080), 'pod1');
    const elsewhere = traits.nodePortsEverywhere ? 'pod1' : 'ECONNREFUSED';
    assert.equal(await net.node.outcome('127.0.0.1', 30080), elsewhere);
    assert.equal(await pod1.outcome('10.244.1.1', 30080), elsewhere);
    assert.equal(await net.client.outcome(NODE_IP.v4, 30081), 'ECONNREFUSED');
  });

  test('a node port for UDP and one for TCP share a number', limits, async () => {
    await expose([LOCAL[0]!], { type: 'NodePort', ports: [{ port: 80, nodePort: 30090 }] });
    await expose([LOCAL[1]!], {
      type: 'NodePort',
      ports: [{ port: 53, nodePort: 30090, protocol: 'UDP' }],
      targetPort: 53,
    });
    assert.equal(await net.client.outcome(NODE_IP.v4, 30090), 'pod1');
    assert.equal(await net.client.outcome(NODE_IP.v4, 30090, { protocol: 'udp' }), 'pod2');
  });

  test("externalTrafficPolicy Local: the client's address is kept", limits, async () => {
    await expose([LOCAL[0]!, FAR[0]!], {
      type: 'NodePort',
      externalTrafficPolicy: 'Local',
      ports: [{ port: 80, nodePort: 30100 }],
    });
    assert.deepEqual(await answers(net.client, NODE_IP.v4, 30100), new Set(['pod1']));
    assert.equal((await net.client.ask(NODE_IP.v4, 30100)).client, '10.9.0.9');
    // Pods and the node are not outside: they get all endpoints.
    assert.deepEqual(await answers(pod1, NODE_IP.v4, 30100), new Set(['pod1', 'far1']));
    assert.deepEqual(await answers(net.node, NODE_IP.v4, 30100), new Set(['pod1', 'far1']));
  });

  test(
    'externalTrafficPolicy Local without local endpoints: dropped for outsiders only',
    limits,
    async () => {
      const { ip } = await expose([FAR[0]!], {
        type: 'NodePort',
        externalTrafficPolicy: 'Local',
        ports: [{ port: 80, nodePort: 30110 }],
      });
      assert.equal(await net.client.outcome(NODE_IP.v4, 30110, DROPPED), 'TIMEOUT');
      assert.equal(await pod1.outcome(NODE_IP.v4, 30110), 'far1');
      assert.equal(await net.node.outcome(NODE_IP.v4, 30110), 'far1');
      assert.equal(await net.client.outcome(ip, 80), 'far1');
    },
  );

  test('internalTrafficPolicy Local: local endpoints, else dropped', limits, async () => {
    const some = await expose([LOCAL[2]!, FAR[0]!], { internalTrafficPolicy: 'Local' });
    assert.deepEqual(await answers(pod1, some.ip, 80), new Set(['pod3']));
    const none = await expose([FAR[0]!], { internalTrafficPolicy: 'Local' });
    assert.equal(await pod1.outcome(none.ip, 80, DROPPED), 'TIMEOUT');
  });

  test('no endpoints: refused at once, cluster IP, node port, external IP, TCP and UDP', limits, async () => {
    const { ip, key } = await expose([], {
      type: 'NodePort',
      ports: [{ port: 80, nodePort: 30120 }],
      externalIPs: ['198.51.100.7'],
    });
    for (const from of [pod1, net.node, net.client]) assert.equal(await from.outcome(ip, 80), 'ECONNREFUSED');
    assert.equal(await net.client.outcome(NODE_IP.v4, 30120), 'ECONNREFUSED');
    assert.equal(await net.client.outcome('198.51.100.7', 80), 'ECONNREFUSED');
    net.proxy.upsertEndpointSlice(slice(key, [endpoint(LOCAL[0]!)], [{ port: 80 }]));
    await net.proxy.settled();
    assert.equal(await net.client.outcome(NODE_IP.v4, 30120), 'pod1');
    assert.equal(await net.client.outcome('198.51.100.7', 80), 'pod1');
    const udp = await expose([], { ports: [{ port: 53, protocol: 'UDP' }] });
    assert.equal(await pod1.outcome(udp.ip, 53, { protocol: 'udp' }), 'ECONNREFUSED');
  });

  test('load balancer address, and who may use it', limits, async () => {
    const options = (loadBalancerSourceRanges?: string[]): ServiceOptions => ({
      type: 'LoadBalancer',
      ports: [{ port: 80 }],
      loadBalancer: [{ ip: '198.51.100.20' }],
      loadBalancerSourceRanges,
    });
    const { key, ip } = await expose([LOCAL[0]!], options());
    assert.equal(await net.client.outcome('198.51.100.20', 80), 'pod1');
    const restrict = async (ranges: string[]): Promise<void> => {
      net.proxy.upsertService(service(key, { clusterIP: ip, ...options(ranges) }));
      await net.proxy.settled();
    };
    await restrict(['10.9.0.9/32']);
    assert.equal(await net.client.outcome('198.51.100.20', 80), 'pod1');
    await restrict(['192.0.2.0/24']);
    assert.equal(await net.client.outcome('198.51.100.20', 80, DROPPED), 'TIMEOUT');
    assert.equal(await net.client.outcome(ip, 80), 'pod1');
  });

  test(
    'session affinity by client address, cluster IP and node port; it ends when switched off',
    limits,
    async () => {
      const options: ServiceOptions = {
        type: 'NodePort',
        sessionAffinity: 'ClientIP',
        sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
        ports: [{ port: 80, nodePort: 30130 }],
      };
      const { ip, key } = await expose(LOCAL, options);
      for (const [from, address, port] of [
        [pod1, ip, 80],
        [net.client, NODE_IP.v4, 30130],
      ] as const)
        assert.equal((await answers(from, address, port, 20)).size, 1);
      net.proxy.upsertService(service(key, { clusterIP: ip, ...options, sessionAffinity: 'None' }));
      await net.proxy.settled();
      assert.equal((await answers(pod1, ip, 80, 40)).size, 3);
    },
  );

  test('session affinity runs out', limits, async () => {
    const { ip } = await expose(LOCAL, {
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 1 } },
    });
    const seen = new Set<string>();
    for (let n = 0; n < 8 && seen.size < 2; n++) {
      seen.add((await pod1.ask(ip, 80)).server);
      await new Promise(resolve => setTimeout(resolve, 1200));
    }
    assert.ok(seen.size > 1);
  });

  test('IPv6: cluster IP, node port, no endpoints', limits, async () => {
    const make = (key: string, clusterIP: string, endpoints: string[], nodePort: number) => {
      net.proxy.upsertService(service(key, { type: 'NodePort', clusterIP, ports: [{ port: 80, nodePort }] }));
      net.proxy.upsertEndpointSlice({
        ...slice(
          key,
          endpoints.map(address => endpoint(address)),
          [{ port: 80 }],
        ),
        addressType: 'IPv6',
      });
    };
    make('six/a', 'fd96::1', ['fd00:244:1::2', 'fd00:244:1::3'], 30160);
    make('six/b', 'fd96::2', [], 30161);
    await net.proxy.settled();
    for (const from of [pod1, net.node, net.client])
      assert.deepEqual(await answers(from, 'fd96::1', 80), new Set(['pod1', 'pod2']));
    assert.equal((await net.client.ask(NODE_IP.v6, 30160)).client, 'fd00:244:1::1');
    assert.equal(await pod1.outcome('fd96::2', 80), 'ECONNREFUSED');
    assert.equal(await net.client.outcome(NODE_IP.v6, 30161), 'ECONNREFUSED');
  });

  test(
    'endpoints change: the next connection goes to the new one; a deleted Service is not there',
    limits,
    async () => {
      const { ip, key } = await expose([LOCAL[0]!]);
      assert.equal(await pod1.outcome(ip, 80), 'pod1');
      net.proxy.upsertEndpointSlice(slice(key, [endpoint(LOCAL[2]!)], [{ port: 80 }]));
      await net.proxy.settled();
      assert.equal(await pod1.outcome(ip, 80), 'pod3');
      const [namespace, name] = key.split('/');
      net.proxy.deleteService(namespace!, name!);
      await net.proxy.settled();
      assert.notEqual(await pod1.outcome(ip, 80, DROPPED), 'pod3');
    },
  );

  test(
    'a UDP client that keeps its port follows the endpoints: other pod, none, back, deleted',
    limits,
    async () => {
      const ask = { protocol: 'udp', sourcePort: 45_353, timeoutMs: 400 } as const;
      const ports = [{ port: 53, protocol: 'UDP', nodePort: 30_253 }];
      const { ip, key } = await expose([LOCAL[0]!], { type: 'NodePort', ports, targetPort: 53 });
      const point = async (...addresses: string[]): Promise<void> => {
        const endpoints = addresses.map(address => endpoint(address));
        net.proxy.upsertEndpointSlice({
          ...slice(key, endpoints, [{ port: 53, protocol: 'UDP' }]),
          addressType: 'IPv4',
        });
        await net.proxy.settled();
      };
      for (const [from, address, port] of [
        [pod1, ip, 53],
        [net.client, NODE_IP.v4, 30_253],
      ] as const) {
        await point(LOCAL[1]!);
        assert.equal(await from.outcome(address, port, ask), 'pod2');
        await point(LOCAL[2]!);
        assert.equal(await from.outcome(address, port, ask), 'pod3');
        await point();
        assert.equal(await from.outcome(address, port, ask), 'ECONNREFUSED');
        await point(LOCAL[1]!);
        assert.equal(await from.outcome(address, port, ask), 'pod2');
      }
      const [namespace, name] = key.split('/');
      net.proxy.deleteService(namespace!, name!);
      await net.proxy.settled();
      assert.notEqual(await pod1.outcome(ip, 53, ask), 'pod2');
    },
  );

  test(
    'a connection outlives a restart of the proxy, and new ones never fail meanwhile',
    limits,
    async () => {
      const { ip, key } = await expose(LOCAL);
      const open = net.node.connect(ip, 80);
      await new Promise((resolve, reject) => open.once('connect', resolve).once('error', reject));
      open.destroy();
      let running = true;
      let asked = 0;
      const failures: string[] = [];
      const asking = (async () => {
        while (running) {
          asked++;
          const outcome = await pod1.outcome(ip, 80);
          if (!outcome.startsWith('pod')) failures.push(outcome);
        }
      })();
      await net.restart(proxy => {
        proxy.setServices([service(key, { clusterIP: ip, ports: [{ port: 80 }] })]);
        proxy.setEndpointSlices([
          slice(
            key,
            LOCAL.map(address => endpoint(address)),
            [{ port: 80 }],
          ),
        ]);
      });
      running = false;
      await asking;
      assert.deepEqual(failures, []);
      assert.ok(asked > 3);
      await traits.afterRestart?.(net);
    },
  );

  test('a port that no Service has', limits, async () => {
    const { ip } = await expose([LOCAL[0]!]);
    const expected = traits.refusesUnknownPorts ? 'ECONNREFUSED' : 'TIMEOUT';
    for (const from of [pod1, net.node]) assert.equal(await from.outcome(ip, 81, DROPPED), expected);
  });

  test(
    'endpoints come and go: each change is served at once, every endpoint gets its share',
    limits,
    async () => {
      const { ip, key } = await expose([LOCAL[0]!]);
      const steps = [LOCAL, LOCAL.slice(1), [LOCAL[1]!, FAR[0]!, FAR[1]!, LOCAL[0]!], [FAR[1]!], [], LOCAL];
      for (const endpoints of steps) {
        net.proxy.upsertEndpointSlice({
          ...slice(
            key,
            endpoints.map(address => endpoint(address)),
            [{ port: 80 }],
          ),
          addressType: 'IPv4',
        });
        await net.proxy.settled();
        const names = endpoints.map(
          address => `${LOCAL.includes(address) ? 'pod' : 'far'}${Number(address.split('.')[3]) - 1}`,
        );
        if (names.length === 0) assert.equal(await pod1.outcome(ip, 80), 'ECONNREFUSED');
        else assert.deepEqual(await answers(pod1, ip, 80, 60), new Set(names));
      }
    },
  );

  test('a hundred endpoints', limits, async () => {
    const there = Array.from({ length: 100 }, (_, n) => (n < 3 ? LOCAL[n]! : `10.244.9.${n}`));
    const local = await expose(there, { internalTrafficPolicy: 'Local' });
    assert.deepEqual(await answers(pod1, local.ip, 80), new Set(['pod1', 'pod2', 'pod3']));
    // Ninety-seven ports of one pod, of which only 80 listens.
    const { ip, key } = await expose([LOCAL[0]!]);
    for (let n = 0; n < 70; n++)
      net.proxy.upsertEndpointSlice(slice(key, [endpoint(LOCAL[0]!)], [{ port: 1000 + n }], `more${n}`));
    await net.proxy.settled();
    let refused = 0;
    for (let n = 0; n < 10; n++) refused += (await pod1.outcome(ip, 80)) === 'ECONNREFUSED' ? 1 : 0;
    assert.ok(refused >= 5, `${refused} of 10 went to one of 70 closed ports`);
  });

  test('IPv6: affinity, source ranges, policy Local, hairpin', limits, async () => {
    const key = 'six/c';
    const options: ServiceOptions = {
      type: 'LoadBalancer',
      clusterIP: 'fd96::3',
      ports: [{ port: 80, nodePort: 30170 }],
      externalTrafficPolicy: 'Local',
      sessionAffinity: 'ClientIP',
      loadBalancer: [{ ip: 'fd96::1:20' }],
      loadBalancerSourceRanges: ['fd09::9/128'],
    };
    const six = (addresses: string[]) => ({
      ...slice(
        key,
        addresses.map(address =>
          endpoint(address, { node: address.startsWith('fd00:244:1:') ? 'node' : 'far' }),
        ),
        [{ port: 80 }],
      ),
      addressType: 'IPv6' as const,
    });
    net.far.route('fd96::/64', NODE_IP.v6);
    net.proxy.upsertService(service(key, options));
    net.proxy.upsertEndpointSlice(six(['fd00:244:1::2', 'fd00:244:1::3', 'fd00:244:2::2']));
    await net.proxy.settled();
    assert.equal((await answers(pod1, 'fd96::3', 80)).size, 1);
    const local = await answers(net.client, NODE_IP.v6, 30170);
    assert.equal(local.size, 1);
    assert.match([...local][0]!, /^pod[12]$/);
    assert.equal((await net.client.ask(NODE_IP.v6, 30170)).client, 'fd09::9');
    assert.match(await net.client.outcome('fd96::1:20', 80), /^pod[12]$/);
    assert.equal(await net.far.outcome('fd96::1:20', 80, DROPPED), 'TIMEOUT');
    net.proxy.upsertService(service(key, { ...options, sessionAffinity: 'None' }));
    net.proxy.upsertEndpointSlice(six(['fd00:244:1::2']));
    await net.proxy.settled();
    assert.deepEqual(await pod1.ask('fd96::3', 80), { server: 'pod1', client: 'fd00:244:1::1' });
    net.proxy.upsertEndpointSlice(six(['fd00:244:2::2']));
    await net.proxy.settled();
    assert.equal(await net.client.outcome(NODE_IP.v6, 30170, DROPPED), 'TIMEOUT');
    assert.equal(await pod1.outcome(NODE_IP.v6, 30170), 'far1');
  });

  return () => net;
}
