// The iptables mode at 10,000 Services with 5 endpoints each, legacy backend: from nothing, and one Service's endpoints
// changed. Peers: bare iptables-restore of the same rules; the real kube-proxy 1.20.2 where built
// (test/interop/kubernetes/build-peers.sh), else kube-proxy 1.36 as measured on a machine like this one.
import { setTimeout as sleep } from 'node:timers/promises';
import { DEFAULT_IPTABLES_CONFIG, type IptablesConfig } from '../../proxy/backend/iptables/plan/config.ts';
import { planIptables } from '../../proxy/backend/iptables/plan/plan.ts';
import { ServiceModel } from '../../proxy/model/model.ts';
import { ServiceProxy } from '../../proxy/proxy.ts';
import type { EndpointSlice, Service } from '../../src/api/types.ts';
import { KernelReconciler } from '../../src/kernel/reconciler.ts';
import type { KernelState } from '../../src/kernel/state.ts';
import { silentLogger } from '../../src/observe/log.ts';
import { NetnsLab } from '../harness/netns-lab.ts';
import { endpoint, service, slice } from '../unit/proxy/object-fixtures.ts';
import { realFigures } from './kubernetes/real-kube-proxy.ts';
import type { Report } from './main.ts';

const SERVICES = Number(process.env.PODWIRE_BENCH_SERVICES ?? 10_000);
const ENDPOINTS = 5;
const CHANGES = 11;
/** facts of kube-proxy 1.36, iptables legacy, 10,000 Services: a change in milliseconds. */
const KUBE_PROXY_136_CHANGE_MS = 1358;
const CONFIG: IptablesConfig = {
  ...DEFAULT_IPTABLES_CONFIG,
  localDetector: { mode: 'cidr', v4: '10.128.0.0/9' },
};

function objects(n: number, generation = 0): [Service, EndpointSlice] {
  const key = `bench/service-${String(n).padStart(6, '0')}`;
  const ports = [{ port: 80 }];
  const endpoints = Array.from({ length: ENDPOINTS }, (_, i) => {
    const address = n * ENDPOINTS + i + (i === 0 ? generation * 1_000_000 : 0);
    return endpoint(`10.${128 + ((address >> 16) & 127)}.${(address >> 8) & 255}.${address & 255}`);
  });
  return [
    service(key, { clusterIP: `10.${96 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`, ports }),
    slice(key, endpoints, ports),
  ];
}

function restoreText(state: KernelState): string {
  return (state.xtables ?? [])
    .map(table => [
      `*${table.table}`,
      ...table.chains.map(chain => `:${chain.name} - [0:0]`),
      ...table.chains.flatMap(chain => chain.rules.map(rule => `-A ${chain.name} ${rule}`)),
      ...table.jumps.map(jump => `-A ${jump.chain} ${jump.rule}`),
      'COMMIT\n',
    ])
    .map(lines => lines.join('\n'))
    .join('');
}

async function bareRestore(lab: NetnsLab, all: [Service, EndpointSlice][]): Promise<number> {
  const host = lab.namespace('bare');
  const model = new ServiceModel({ name: 'node' }, [4]);
  for (const [svc, eps] of all) {
    model.upsertService(svc);
    model.upsertSlice(eps);
  }
  model.update();
  const text = restoreText(planIptables(model.ports(), CONFIG, [4]));
  const from = performance.now();
  const result = await host.run('iptables-legacy-restore', ['--noflush'], text);
  const took = performance.now() - from;
  if (result.code !== 0) throw new Error(result.stderr);
  return took;
}

async function ours(
  lab: NetnsLab,
  all: [Service, EndpointSlice][],
): Promise<{ cold: number; changes: number[]; processorMs: number }> {
  const host = lab.namespace('ours');
  const reconciler = new KernelReconciler({
    netns: host.netns,
    lockDirectory: lab.directory,
    log: silentLogger(),
    iptablesBackend: 'legacy',
    verifyIntervalMs: 3_600_000,
  });
  const proxy = new ServiceProxy({
    nodeName: 'node',
    families: [4],
    iptables: CONFIG,
    setDesired: state => reconciler.setDesired('proxy', state),
    settled: () => reconciler.settled(),
  });
  await reconciler.start();
  const from = performance.now();
  proxy.setServices(all.map(([svc]) => svc));
  proxy.setEndpointSlices(all.map(([, eps]) => eps));
  await proxy.settled();
  const cold = performance.now() - from;
  const changes: number[] = [];
  const processor: number[] = [];
  for (let n = 0; n < CHANGES; n++) {
    // Longer than the pause after the sync before.
    await sleep(1500);
    const at = performance.now();
    const used = process.cpuUsage();
    proxy.upsertEndpointSlice(objects(Math.trunc((n * SERVICES) / CHANGES), 1)[1]);
    await proxy.settled();
    changes.push(performance.now() - at);
    const { user, system } = process.cpuUsage(used);
    processor.push((user + system) / 1000);
  }
  proxy.stop();
  await reconciler.stop();
  const processorMs = processor.sort((a, b) => a - b)[processor.length >> 1]!;
  return { cold, changes: changes.sort((a, b) => a - b), processorMs };
}

export async function bench(report: Report): Promise<void> {
  const lab = new NetnsLab('bpi');
  try {
    const all = Array.from({ length: SERVICES }, (_, n) => objects(n));
    const bare = await bareRestore(lab, all);
    const { cold, changes, processorMs } = await ours(lab, all);
    report({
      name: `proxy/iptables-cold-${SERVICES}`,
      ours: cold / 1000,
      peer: bare / 1000,
      unit: 's',
      note: 'peer: iptables-legacy-restore of the same rules',
    });
    const fewer = [0, 1, 2].map(n => {
      const [, whole] = objects(Math.trunc((n * SERVICES) / CHANGES));
      return { ...whole, endpoints: whole.endpoints.slice(1) };
    });
    const real = await realFigures(
      {
        namespace: lab.namespace('real'),
        directory: lab.directory,
        objects: all,
        nodeAddress: '192.0.2.1',
        clusterCidr: '10.128.0.0/9',
      },
      fewer,
    );
    const peer = real?.note ?? 'kube-proxy 1.36 legacy at 10,000 as recorded';
    report({
      name: `proxy/iptables-change-${SERVICES}`,
      ours: changes[changes.length >> 1]!,
      peer: real?.changeMs ?? KUBE_PROXY_136_CHANGE_MS,
      unit: 'ms',
      note: `peer: ${peer}; worst of ${CHANGES} ${Math.round(changes.at(-1)!)} ms; processor time, the kernel's included, ${Math.round(processorMs)} ms`,
    });
  } finally {
    lab.close();
  }
}
