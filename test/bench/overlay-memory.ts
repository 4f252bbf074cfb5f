// What flanneld weighs in a large cluster: the built program, Node objects as kubelets of real clusters write them (12 KB
// each: images, conditions, managed fields), and their heartbeats.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Node } from '../../src/api/types.ts';
import { spawnChild } from '../../src/linux/exec.ts';
import { listenTcp } from '../../src/linux/listen.ts';
import { type LabNamespace, NetnsLab } from '../harness/netns-lab.ts';
import { makeNode, nthNode } from '../unit/routing/node-fixtures.ts';
import type { Report } from './main.ts';

const NODES = Number(process.env.PODWIRE_BENCH_PEERS ?? 5000);
const PORT = 6080;
const TARGET_MB = 150;
/** A node reports itself every five minutes (nodeStatusReportFrequency). */
const HEARTBEAT_MS = 300_000 / NODES;
const WATCH_SECONDS = 20;
const READY_MS = 60_000;
const FLANNELD = join(import.meta.dirname, '../../dist/bin/flanneld');

const IMAGES = Array.from({ length: 50 }, (_, n) => ({
  names: [
    `registry.example.com/team-${n}/service-${n}@sha256:${'0123456789abcdef'.repeat(4)}`,
    `registry.example.com/team-${n}/service-${n}:v1.${n}.0`,
  ],
  sizeBytes: 100_000_000 + n,
}));
const CONDITIONS = ['MemoryPressure', 'DiskPressure', 'PIDPressure', 'Ready'].map(type => ({
  type,
  status: type === 'Ready' ? 'True' : 'False',
  reason: `KubeletHas${type}`,
  message: 'kubelet has sufficient resources available and is posting ready status',
  lastHeartbeatTime: '2026-01-01T00:00:00Z',
  lastTransitionTime: '2026-01-01T00:00:00Z',
}));
const MANAGED_FIELDS = ['kubelet', 'kube-controller-manager', 'flanneld'].map(manager => ({
  manager,
  operation: 'Update',
  apiVersion: 'v1',
  time: '2026-01-01T00:00:00Z',
  fieldsType: 'FieldsV1',
  fieldsV1: Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`f:field-${manager}-${n}`, {}])),
}));

const NODE_INFO = {
  architecture: 'amd64',
  bootID: '0a6e3a3c-7a5f-4d0e-9f5e-0c8d3b1e2f4a',
  containerRuntimeVersion: 'containerd://1.7.0',
  kernelVersion: '6.1.0-18-amd64',
  kubeProxyVersion: 'v1.30.0',
  kubeletVersion: 'v1.30.0',
  machineID: '0123456789abcdef0123456789abcdef',
  operatingSystem: 'linux',
  osImage: 'Debian GNU/Linux 12 (bookworm)',
  systemUUID: '01234567-89ab-cdef-0123-456789abcdef',
};

/** `node` with what a kubelet adds to it. */
function dressed(node: Node, resourceVersion: number): Node {
  const { name } = node.metadata!;
  return {
    ...node,
    kind: 'Node',
    apiVersion: 'v1',
    metadata: {
      ...node.metadata,
      resourceVersion: String(resourceVersion),
      labels: { 'kubernetes.io/hostname': name!, 'kubernetes.io/os': 'linux', zone: 'zone-a' },
      managedFields: MANAGED_FIELDS,
    },
    status: {
      addresses: [
        { type: 'InternalIP', address: '172.16.0.1' },
        { type: 'Hostname', address: name! },
      ],
      conditions: [...CONDITIONS, { type: 'NetworkUnavailable', status: 'False' }],
      images: IMAGES,
      nodeInfo: NODE_INFO,
    },
  };
}

/** As much of an API server as flanneld asks for. */
class NodeServer {
  readonly #nodes: Node[];
  readonly #watches = new Set<ServerResponse>();
  readonly #server: Server;
  #version = 1_000_000;
  #beat = 0;

  constructor(namespace: LabNamespace, nodes: Node[]) {
    this.#nodes = nodes;
    this.#server = createServer((request, response) => {
      const url = new URL(request.url ?? '/', 'http://server');
      response.setHeader('content-type', 'application/json');
      if (request.method !== 'GET') this.#answer(response, {});
      else if (url.searchParams.has('watch')) {
        response.flushHeaders();
        this.#watches.add(response);
        response.on('close', () => this.#watches.delete(response));
      } else this.#answer(response, this.#page(url.searchParams));
    });
    this.#server.listen({ fd: listenTcp({ netns: namespace.netns, address: '127.0.0.1', port: PORT }) });
  }

  #answer(response: ServerResponse, body: unknown): void {
    response.end(JSON.stringify(body));
  }

  #page(query: URLSearchParams): unknown {
    const from = Number(query.get('continue') ?? 0);
    const to = from + Number(query.get('limit') ?? this.#nodes.length);
    return {
      kind: 'NodeList',
      apiVersion: 'v1',
      metadata: {
        resourceVersion: String(this.#version),
        ...(to < this.#nodes.length && { continue: String(to) }),
      },
      items: this.#nodes.slice(from, to).map((node, n) => dressed(node, from + n + 1)),
    };
  }

  /** The next node says that it lives. */
  heartbeat(): void {
    const node = this.#nodes[++this.#beat % this.#nodes.length]!;
    const event = JSON.stringify({ type: 'MODIFIED', object: dressed(node, ++this.#version) });
    for (const watch of this.#watches) watch.write(`${event}\n`);
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

function memoryMb(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const [, kilobytes] =
    new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) / 1024;
}

async function untilProgrammed(host: LabNamespace, count: number): Promise<void> {
  const until = Date.now() + READY_MS;
  while (host.rt.listRoutes({ protocol: 213 }).length < count) {
    if (Date.now() > until) throw new Error(`not ${count} routes after ${READY_MS} ms`);
    await sleep(200);
  }
}

export async function bench(report: Report): Promise<void> {
  if (!existsSync(FLANNELD)) throw new Error('the built program is measured: npm run build comes first');
  const lab = new NetnsLab('bom');
  const directory = mkdtempSync(join(tmpdir(), 'podwire-bench-'));
  const host = lab.namespace('h');
  lab.wire(host, 'eth0', lab.namespace('o'), 'eth0');
  host.address('eth0', '172.31.0.1/16');
  const peers = Array.from({ length: NODES }, (_, n) => nthNode(n));
  const server = new NodeServer(host, [makeNode('self', { podCidrs: ['10.255.1.0/24'] }), ...peers]);
  const config = join(directory, 'net-conf.json');
  writeFileSync(config, '{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}');
  const child = spawnChild(
    FLANNELD,
    [
      ...['--kube-subnet-mgr', '--kube-api-url', `http://127.0.0.1:${PORT}`, '--net-config-path', config],
      ...['--subnet-file', join(directory, 'subnet.env'), '--admin-socket', join(directory, 'admin.sock')],
      ...['--iface=eth0', '--ip-masq'],
    ],
    {
      netns: host.netns,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: {
        NODE_NAME: 'self',
        XTABLES_LOCKFILE: join(directory, 'xtables.lock'),
        PODWIRE_LOG_LEVEL: 'error',
      },
    },
  );
  try {
    await untilProgrammed(host, NODES);
    const samples: number[] = [];
    const until = Date.now() + WATCH_SECONDS * 1000;
    while (Date.now() < until) {
      server.heartbeat();
      samples.push(memoryMb(child.pid, 'VmRSS'));
      await sleep(HEARTBEAT_MS);
    }
    const note = `peer: the target; with heartbeats for ${WATCH_SECONDS} s, at its peak ${memoryMb(child.pid, 'VmHWM').toFixed(0)} MB`;
    report({ name: `overlay/rss-${NODES}`, ours: Math.max(...samples), peer: TARGET_MB, unit: 'MB', note });
  } finally {
    child.kill('SIGKILL');
    await child.exited;
    server.close();
    lab.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
