// What a connection's first packet costs at 0 to 30,000 Services: connect() of a client on another machine, through the node's
// rules, to endpoints whose kernel answers the SYN. Services are asked all along the list, since rules that are read one
// after the other cost by their place. Modes: ours, and the real kube-proxy 1.20 (iptables-legacy) where built.
//
// PODWIRE_BENCH_CSV=FILE also writes the figures as a table; test/bench/pictures/latency-picture.ts draws it.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_IPTABLES_CONFIG } from '../../proxy/backend/iptables/plan/config.ts';
import { ServiceProxy } from '../../proxy/proxy.ts';
import type { EndpointSlice, Service } from '../../src/api/types.ts';
import { KernelReconciler } from '../../src/kernel/reconciler.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { type LabNamespace, NetnsLab } from '../harness/netns-lab.ts';
import { endpoint, service, slice } from '../unit/proxy/object-fixtures.ts';
import { RealKubeProxy, WITHOUT_REAL_KUBE_PROXY } from './kubernetes/real-kube-proxy.ts';
import type { Report } from './main.ts';

const SIZES = (process.env.PODWIRE_BENCH_SIZES ?? '1,100,1000,3000,10000,30000').split(',').map(Number);
const MODES = ['direct', 'nftables', 'iptables', 'userspace', 'kube-proxy-1.20'] as const;
type Mode = (typeof MODES)[number];
/** One listening socket a Service: more than this needs more descriptors than a process usually may have. */
const USERSPACE_MOST = 10_000;
const CONNECTIONS = 1000;
const WARM_UP = 50;
const BACKENDS = ['10.8.0.2', '10.8.0.3'];
const NODE = { client: '10.7.0.1', backends: '10.8.0.1' };
const PORT = [{ name: 'web', port: 80, protocol: 'TCP' }];
const CLIENT = join(import.meta.dirname, 'kubernetes/first-packet.ts');

type Objects = [Service, EndpointSlice];

function addressOf(n: number): string {
  return `10.${96 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
}

function objects(n: number): Objects {
  const key = `bench/service-${String(n).padStart(6, '0')}`;
  return [
    service(key, { clusterIP: addressOf(n), ports: PORT }),
    slice(
      key,
      BACKENDS.map(ip => endpoint(ip)),
      PORT,
    ),
  ];
}

export interface LatencyRow {
  mode: Mode;
  services: number;
  p50Us: number;
  p90Us: number;
  p99Us: number;
}

class Field {
  readonly lab = new NetnsLab('bpl');
  readonly #client: LabNamespace;
  #nodes = 0;

  constructor() {
    this.#client = this.lab.namespace('client');
  }

  /** A node with a client on one side and the endpoints on the other. */
  node(): { node: LabNamespace; client: LabNamespace } {
    const n = this.#nodes++;
    const node = this.lab.namespace(`node${n}`);
    const client = n === 0 ? this.#client : this.lab.namespace(`client${n}`);
    const backends = this.lab.namespace(`backends${n}`);
    node.forwarding();
    this.lab.wire(client, 'eth0', node, 'outside');
    this.lab.wire(backends, 'eth0', node, 'inside');
    node.address('outside', `${NODE.client}/24`);
    node.address('inside', `${NODE.backends}/24`);
    client.address('eth0', '10.7.0.2/24');
    client.route('0.0.0.0/0', NODE.client);
    backends.address('eth0', ...BACKENDS.map(ip => `${ip}/24`));
    backends.route('0.0.0.0/0', NODE.backends);
    backends.tcpServer(80);
    return { node, client };
  }
}

/** Microseconds of connect(), sorted. In a process of its own: signals of our netlink sockets would interrupt the call. */
async function measure(client: LabNamespace, addresses: readonly string[]): Promise<number[]> {
  const asked = Array.from({ length: WARM_UP + CONNECTIONS }, (_, n) => {
    const place = ((n * 7919) % CONNECTIONS) / CONNECTIONS;
    return addresses[Math.trunc(place * addresses.length)]!;
  });
  const { code, stdout, stderr } = await client.run(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', CLIENT],
    JSON.stringify(asked),
  );
  if (code !== 0) throw new Error(stderr.slice(-2000));
  const times = JSON.parse(stdout) as number[];
  return times.slice(WARM_UP).sort((x, y) => x - y);
}

function row(mode: Mode, services: number, times: readonly number[]): LatencyRow {
  const at = (share: number): number => times[Math.min(times.length - 1, Math.trunc(times.length * share))]!;
  return { mode, services, p50Us: at(0.5), p90Us: at(0.9), p99Us: at(0.99) };
}

async function ours(field: Field, mode: 'nftables' | 'iptables' | 'userspace'): Promise<LatencyRow[]> {
  const { node, client } = field.node();
  const reconciler = new KernelReconciler({
    netns: node.netns,
    lockDirectory: field.lab.directory,
    log: silentLogger(),
    iptablesBackend: 'legacy',
    verifyIntervalMs: 3_600_000,
  });
  const proxy = new ServiceProxy({
    nodeName: 'node',
    families: [4],
    mode,
    iptables: {
      ...DEFAULT_IPTABLES_CONFIG,
      localDetector: { mode: 'cidr', v4: '10.128.0.0/9' },
      nodeIps: [NODE.client],
    },
    netns: node.netns,
    setDesired: state => reconciler.setDesired('proxy', state),
    settled: () => reconciler.settled(),
  });
  await reconciler.start();
  const rows: LatencyRow[] = [];
  try {
    for (const size of SIZES.filter(one => mode !== 'userspace' || one <= USERSPACE_MOST)) {
      const all = Array.from({ length: size }, (_, n) => objects(n));
      proxy.setServices(all.map(([made]) => made));
      proxy.setEndpointSlices(all.map(([, made]) => made));
      await proxy.settled();
      rows.push(
        row(
          mode,
          size,
          await measure(
            client,
            all.map((_, n) => addressOf(n)),
          ),
        ),
      );
    }
  } finally {
    proxy.stop();
    await reconciler.stop();
  }
  return rows;
}

async function theirs(field: Field): Promise<LatencyRow[]> {
  const rows: LatencyRow[] = [];
  for (const size of SIZES) {
    const { node, client } = field.node();
    const all = Array.from({ length: size }, (_, n) => objects(n));
    const real = await RealKubeProxy.start({
      namespace: node,
      directory: field.lab.directory,
      objects: all,
      nodeAddress: NODE.client,
      clusterCidr: '10.128.0.0/9',
      timeoutMs: 300_000,
    });
    try {
      rows.push(
        row(
          'kube-proxy-1.20',
          size,
          await measure(
            client,
            all.map((_, n) => addressOf(n)),
          ),
        ),
      );
    } finally {
      await real.stop();
    }
  }
  return rows;
}

export async function latencyRows(): Promise<LatencyRow[]> {
  const field = new Field();
  try {
    const { client } = field.node();
    const rows = [row('direct', 0, await measure(client, BACKENDS))];
    for (const mode of ['nftables', 'iptables', 'userspace'] as const)
      rows.push(...(await ours(field, mode)));
    if (!WITHOUT_REAL_KUBE_PROXY) rows.push(...(await theirs(field)));
    return rows;
  } finally {
    field.lab.close();
  }
}

export async function bench(report: Report): Promise<void> {
  const rows = await latencyRows();
  const direct = rows[0]!;
  for (const { mode, services, p50Us, p99Us } of rows.slice(1)) {
    if (mode === 'kube-proxy-1.20') continue;
    const real = rows.find(other => other.mode === 'kube-proxy-1.20' && other.services === services);
    const peer = real
      ? `kube-proxy 1.20, p99 ${Math.round(real.p99Us)} us`
      : 'a connection without any proxy';
    report({
      name: `proxy/first-packet-${mode}-${services}`,
      ours: p50Us,
      peer: (real ?? direct).p50Us,
      unit: 'us',
      note: `median connect(), p99 ${Math.round(p99Us)} us; peer: ${peer}; no proxy at all ${Math.round(direct.p50Us)} us`,
    });
  }
  const file = process.env.PODWIRE_BENCH_CSV;
  if (!file) return;
  const lines = rows.map(({ mode, services, p50Us, p90Us, p99Us }) =>
    [mode, services, ...[p50Us, p90Us, p99Us].map(us => us.toFixed(1))].join(','),
  );
  writeFileSync(file, `mode,services,p50_us,p90_us,p99_us\n${lines.join('\n')}\n`);
}
