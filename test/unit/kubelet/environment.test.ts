// Variables of containers: Service links, references, the downward API, cgroup values, resolver and hosts files.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Pod, Service } from '../../../src/api/types.ts';
import { parseResolvConf, podDns, podHosts } from '../../../src/kubelet/dns.ts';
import type { PodFacts } from '../../../src/kubelet/downward.ts';
import { containerEnv } from '../../../src/kubelet/env.ts';
import { expandReferences } from '../../../src/kubelet/expansion.ts';
import { cpuQuotaUs, cpuShares, oomScoreAdj, qosClass } from '../../../src/kubelet/resources.ts';
import { serviceEnv, visibleServices } from '../../../src/kubelet/service-env.ts';

const service = (namespace: string, name: string, clusterIP: string, ports: object[]): Service =>
  ({ metadata: { namespace, name }, spec: { clusterIP, ports } }) as Service;

test('Service variables in Docker-link form', () => {
  const env = serviceEnv([
    service('d', 'redis-master', '10.0.0.11', [
      { name: 'main-port', port: 6379, protocol: 'TCP' },
      { port: 53, protocol: 'UDP' },
    ]),
  ]);
  assert.deepEqual(Object.fromEntries(env), {
    REDIS_MASTER_SERVICE_HOST: '10.0.0.11',
    REDIS_MASTER_SERVICE_PORT: '6379',
    REDIS_MASTER_SERVICE_PORT_MAIN_PORT: '6379',
    REDIS_MASTER_PORT: 'tcp://10.0.0.11:6379',
    REDIS_MASTER_PORT_6379_TCP: 'tcp://10.0.0.11:6379',
    REDIS_MASTER_PORT_6379_TCP_PROTO: 'tcp',
    REDIS_MASTER_PORT_6379_TCP_PORT: '6379',
    REDIS_MASTER_PORT_6379_TCP_ADDR: '10.0.0.11',
    REDIS_MASTER_PORT_53_UDP: 'udp://10.0.0.11:53',
    REDIS_MASTER_PORT_53_UDP_PROTO: 'udp',
    REDIS_MASTER_PORT_53_UDP_PORT: '53',
    REDIS_MASTER_PORT_53_UDP_ADDR: '10.0.0.11',
  });
});

test('a pod sees the Services of its namespace and the API server, headless ones not', () => {
  const all = [
    service('default', 'kubernetes', '10.0.0.1', [{ port: 443 }]),
    service('mine', 'a', '10.0.0.2', [{ port: 1 }]),
    service('mine', 'headless', 'None', [{ port: 1 }]),
    service('other', 'b', '10.0.0.3', [{ port: 1 }]),
  ];
  const names = (links: boolean) => visibleServices(all, 'mine', links).map(entry => entry.metadata?.name);
  assert.deepEqual(names(true), ['a', 'kubernetes']);
  assert.deepEqual(names(false), ['kubernetes']);
});

for (const [text, expanded] of [
  ['$(A)', '1'],
  ['x$(A)y$(B)z', 'x1y2z'],
  ['$$(A)', '$(A)'],
  ['$(NO)', '$(NO)'],
  ['$A $', '$A $'],
  ['$(A', '$(A'],
  ['$$$(A)', '$1'],
  ['$(A)$(A)', '11'],
] as const)
  test(`expansion of ${text}`, () => {
    const values = new Map([
      ['A', '1'],
      ['B', '2'],
    ]);
    assert.equal(
      expandReferences(text, name => values.get(name)),
      expanded,
    );
  });

test('text without dollars is never changed by expansion', () => {
  fc.assert(
    fc.property(fc.string(), text => {
      const plain = text.replaceAll('$', '');
      assert.equal(
        expandReferences(plain, () => 'x'),
        plain,
      );
    }),
  );
});

const pod: Pod = {
  metadata: { name: 'web', namespace: 'mine', uid: 'u', labels: { app: 'web' } },
  spec: { nodeName: 'n1', containers: [{ name: 'c' }] },
};
const facts: PodFacts = {
  pod,
  podIps: ['10.1.0.5'],
  node: { nodeName: 'n1', nodeIps: ['192.0.2.1'], cpus: 2, memoryBytes: 4 * 2 ** 30 },
};
const source = {
  configMap: async (_namespace: string, name: string) => (name === 'cm' ? { data: { K: 'v' } } : undefined),
  secret: async () => undefined,
};

test('variables: literal, reference, downward API, ConfigMap', async () => {
  const env = await containerEnv(
    facts,
    {
      name: 'c',
      resources: { limits: { cpu: '500m' } },
      envFrom: [{ prefix: 'P_', configMapRef: { name: 'cm' } }],
      env: [
        { name: 'A', value: 'a' },
        { name: 'B', value: '$(A)-$(P_K)-$(SVC)' },
        { name: 'NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
        { name: 'APP', valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } },
        { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
        { name: 'CPU', valueFrom: { resourceFieldRef: { resource: 'limits.cpu', divisor: '1m' } } },
        { name: 'MEM', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } } },
        { name: 'K', valueFrom: { configMapKeyRef: { name: 'cm', key: 'K' } } },
        { name: 'NO', valueFrom: { secretKeyRef: { name: 'x', key: 'y', optional: true } } },
      ],
    },
    new Map([['SVC', 's']]),
    source,
  );
  assert.deepEqual(Object.fromEntries(env), {
    P_K: 'v',
    A: 'a',
    B: 'a-v-s',
    NAME: 'web',
    APP: 'web',
    IP: '10.1.0.5',
    CPU: '500',
    MEM: '4096',
    K: 'v',
    SVC: 's',
  });
});

test('a reference to what is not there says what is missing', async () => {
  const env = [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'cm', key: 'NO' } } }];
  await assert.rejects(containerEnv(facts, { name: 'c', env }, new Map(), source), {
    code: 'CONTAINER_CONFIG',
    message: "couldn't find key NO in ConfigMap mine/cm",
  });
});

test('cgroup values', () => {
  assert.deepEqual([0, 1, 500, 2000, 10 ** 9].map(cpuShares), [2, 2, 512, 2048, 262_144]);
  assert.deepEqual([0, 1, 500].map(cpuQuotaUs), [0, 1000, 50_000]);
});

test('quality of service classes and who dies first', () => {
  const withResources = (resources: object): Pod => ({ spec: { containers: [{ name: 'c', resources }] } });
  const guaranteed = withResources({ limits: { cpu: '1', memory: '1Gi' } });
  const burstable = withResources({ requests: { memory: '1Gi' } });
  assert.equal(qosClass(withResources({})), 'BestEffort');
  assert.equal(qosClass(burstable), 'Burstable');
  assert.equal(qosClass(guaranteed), 'Guaranteed');
  const score = (pod: Pod) => oomScoreAdj(pod, pod.spec!.containers[0]!, 4 * 2 ** 30);
  assert.deepEqual([score(guaranteed), score(burstable), score(withResources({}))], [-997, 750, 1000]);
});

test('resolver configuration by dnsPolicy', () => {
  const host = parseResolvConf('# x\nnameserver 9.9.9.9\nsearch example.org\noptions edns0 timeout:1\n');
  const settings = { clusterDns: ['10.96.0.10'], clusterDomain: 'cluster.local', host };
  const dns = (change: object) => podDns({ ...pod, spec: { ...pod.spec!, ...change } }, settings);
  assert.deepEqual(dns({}), {
    servers: ['10.96.0.10'],
    searches: ['mine.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'example.org'],
    options: ['ndots:5'],
  });
  assert.deepEqual(dns({ dnsPolicy: 'Default' }), host);
  assert.deepEqual(dns({ hostNetwork: true }), host);
  const custom = { nameservers: ['1.1.1.1'], options: [{ name: 'ndots', value: '2' }] };
  assert.deepEqual(dns({ dnsPolicy: 'None', dnsConfig: custom }), {
    servers: ['1.1.1.1'],
    searches: [],
    options: ['ndots:2'],
  });
});

test('hosts file', () => {
  const text = podHosts(
    {
      ...pod,
      spec: { ...pod.spec!, subdomain: 'sub', hostAliases: [{ ip: '1.2.3.4', hostnames: ['x', 'y'] }] },
    },
    ['10.1.0.5'],
    'cluster.local',
  );
  assert.ok(text.includes('10.1.0.5\tweb.sub.mine.svc.cluster.local\tweb\n'));
  assert.ok(text.includes('1.2.3.4\tx\ty\n'));
});
