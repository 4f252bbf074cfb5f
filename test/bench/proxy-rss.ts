// The memory of the program kube-proxy with 40,000 Services of 5 endpoints each, nftables mode: resident set when all rules
// are in the kernel and compared with it, and its highest on the way. The API server is a stand-in that makes the objects
// as they are asked for, with everything in them that a real one sends. Peer: the 400 MB that we allow ourselves.
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnChild } from '../../src/linux/exec.ts';
import { listenTcp } from '../../src/linux/listen.ts';
import { NetnsLab } from '../harness/netns-lab.ts';
import type { Report } from './main.ts';

const SERVICES = Number(process.env.PODWIRE_BENCH_SERVICES ?? 40_000);
const ENDPOINTS = 5;
const ALLOWED_MB = 400;
const PROGRAM = join(import.meta.dirname, '../../dist/bin/kube-proxy');
const API_PORT = 6443;
const READY_MS = 300_000;

const CREATED = '2026-01-01T00:00:00Z';
const NAMESPACES = 200;

function place(n: number): { namespace: string; name: string } {
  return { namespace: `team-${n % NAMESPACES}`, name: `service-${String(n).padStart(6, '0')}` };
}

function managed(manager: string): object[] {
  return [
    {
      manager,
      operation: 'Update',
      apiVersion: 'v1',
      time: CREATED,
      fieldsType: 'FieldsV1',
      fieldsV1: { 'f:metadata': { 'f:labels': { '.': {}, 'f:app': {} } }, 'f:spec': { 'f:ports': {} } },
    },
  ];
}

function metadata(name: string, namespace: string, n: number, kind: string): Record<string, unknown> {
  return {
    name,
    namespace,
    uid: `${kind}-0000-4000-8000-${String(n).padStart(12, '0')}`,
    resourceVersion: String(1000 + n),
    creationTimestamp: CREATED,
    managedFields: managed('kube-controller-manager'),
  };
}

function serviceObject(n: number): object {
  const { namespace, name } = place(n);
  const ip = `10.${96 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
  return {
    metadata: { ...metadata(name, namespace, n, '00000001'), labels: { app: name } },
    spec: {
      type: 'ClusterIP',
      clusterIP: ip,
      clusterIPs: [ip],
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: 'Cluster',
      sessionAffinity: 'None',
      selector: { app: name },
      ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }],
    },
    status: { loadBalancer: {} },
  };
}

function sliceObject(n: number): object {
  const { namespace, name } = place(n);
  const endpoints = Array.from({ length: ENDPOINTS }, (_, i) => {
    const address = n * ENDPOINTS + i;
    return {
      addresses: [`10.${128 + ((address >> 16) & 127)}.${(address >> 8) & 255}.${address & 255}`],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${address % 1000}`,
      zone: `zone-${address % 3}`,
      targetRef: {
        kind: 'Pod',
        namespace,
        name: `${name}-7c75fbd4d5-${address.toString(36)}`,
        uid: `00000003-0000-4000-8000-${String(address).padStart(12, '0')}`,
      },
    };
  });
  return {
    metadata: {
      ...metadata(`${name}-abcde`, namespace, n, '00000002'),
      generateName: `${name}-`,
      labels: {
        app: name,
        'kubernetes.io/service-name': name,
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
      },
      annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': CREATED },
      ownerReferences: [{ apiVersion: 'v1', kind: 'Service', name, uid: `00000001-${n}`, controller: true }],
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints,
  };
}

const NODE = {
  metadata: { name: 'node', uid: 'node', resourceVersion: '1' },
  spec: { podCIDRs: ['10.128.0.0/24'] },
  status: { addresses: [{ type: 'InternalIP', address: '192.0.2.1' }] },
};

interface Collection {
  kind: string;
  apiVersion: string;
  count: number;
  make: (n: number) => object;
}

const COLLECTIONS: Record<string, Collection> = {
  '/api/v1/nodes': { kind: 'NodeList', apiVersion: 'v1', count: 1, make: () => NODE },
  '/api/v1/services': { kind: 'ServiceList', apiVersion: 'v1', count: SERVICES, make: serviceObject },
  '/apis/discovery.k8s.io/v1/endpointslices': {
    kind: 'EndpointSliceList',
    apiVersion: 'discovery.k8s.io/v1',
    count: SERVICES,
    make: sliceObject,
  },
};

function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'http://localhost');
  const collection = COLLECTIONS[url.pathname];
  response.setHeader('content-type', 'application/json');
  if (!collection) {
    response.statusCode = 404;
    response.end(JSON.stringify({ kind: 'Status', status: 'Failure', reason: 'NotFound', code: 404 }));
    return;
  }
  if (url.searchParams.has('watch')) {
    response.flushHeaders();
    return;
  }
  const from = Number(url.searchParams.get('continue') ?? 0);
  const limit = Number(url.searchParams.get('limit') ?? collection.count) || collection.count;
  const to = Math.min(collection.count, from + limit);
  const { kind, apiVersion, make } = collection;
  const more = to < collection.count ? { continue: String(to) } : {};
  response.write(
    `{"kind":"${kind}","apiVersion":"${apiVersion}","metadata":${JSON.stringify({ resourceVersion: '100000', ...more })},"items":[`,
  );
  for (let n = from; n < to; n++) response.write(`${n === from ? '' : ','}${JSON.stringify(make(n))}`);
  response.end(']}');
}

function memoryMb(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line?.[1]) / 1024;
}

export async function bench(report: Report): Promise<void> {
  const lab = new NetnsLab('bpr');
  const host = lab.namespace('node');
  const server = createServer(answer);
  server.listen({ fd: listenTcp({ netns: host.netns, address: '127.0.0.1', port: API_PORT }) });
  const config = join(lab.directory, 'config.json');
  const kubeconfig = join(lab.directory, 'kubeconfig');
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      clusters: [{ name: 'c', cluster: { server: `http://127.0.0.1:${API_PORT}` } }],
      contexts: [{ name: 'c', context: { cluster: 'c', user: '' } }],
      'current-context': 'c',
    }),
  );
  writeFileSync(
    config,
    JSON.stringify({
      apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
      kind: 'KubeProxyConfiguration',
      mode: 'nftables',
      hostnameOverride: 'node',
      clusterCIDR: '10.128.0.0/9',
      clientConnection: { kubeconfig },
    }),
  );
  const child = spawnChild(PROGRAM, ['--config', config], {
    netns: host.netns,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, PODWIRE_LOG_LEVEL: 'warn' },
  });
  try {
    const started = performance.now();
    for (;;) {
      const ready = await host.run('curl', ['-sf', 'http://127.0.0.1:10256/readyz']);
      if (ready.code === 0) break;
      if (performance.now() - started > READY_MS) throw new Error('kube-proxy is not ready');
      await sleep(100);
    }
    const seconds = (performance.now() - started) / 1000;
    // Until all of it has been compared with the kernel once.
    for (;;) {
      const status = await host.run('curl', ['-sf', 'http://127.0.0.1:10249/podwire/proxy']);
      if (status.stdout.includes('"lastVerified"')) break;
      if (performance.now() - started > READY_MS) throw new Error('kube-proxy has not verified');
      await sleep(500);
    }
    await sleep(2000);
    report({
      name: `proxy/rss-${SERVICES}`,
      ours: memoryMb(child.pid, 'VmRSS'),
      peer: ALLOWED_MB,
      unit: 'MB',
      note: `peer: what we allow; highest ${memoryMb(child.pid, 'VmHWM').toFixed(0)} MB; ready ${seconds.toFixed(1)} s after the start`,
    });
  } finally {
    child.kill('SIGKILL');
    await child.exited;
    server.closeAllConnections();
    server.close();
    lab.close();
  }
}
