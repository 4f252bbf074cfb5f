// The nftables mode at 10,000 Services with 5 endpoints each: from nothing, one Service's endpoints changed, and the whole
// table compared with the kernel. Peers: bare `nft -f` of the same rules; the real kube-proxy 1.20.2 (iptables) where built, else
// kube-proxy 1.36 as measured on a machine like this one; for the comparison `nft list table`, since nobody else verifies.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TableKeeper } from '../../proxy/backend/nftables/apply/keeper.ts';
import { DEFAULT_NFTABLES_CONFIG, type NftablesConfig } from '../../proxy/backend/nftables/plan/config.ts';
import { TablePlanner } from '../../proxy/backend/nftables/plan/planner.ts';
import { formatTable } from '../../proxy/backend/nftables/plan/text.ts';
import { ServiceModel } from '../../proxy/model/model.ts';
import { ServiceProxy } from '../../proxy/proxy.ts';
import type { EndpointSlice, Service } from '../../src/api/types.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { type LabNamespace, NetnsLab } from '../harness/netns-lab.ts';
import { endpoint, type ServiceOptions, service, slice } from '../unit/proxy/object-fixtures.ts';
import { realFigures } from './kubernetes/real-kube-proxy.ts';
import type { Report } from './main.ts';

const SERVICES = Number(process.env.PODWIRE_BENCH_SERVICES ?? 10_000);
const ENDPOINTS = 5;
const ROUNDS = 3;
const CHANGES = 100;
/** kube-proxy 1.36, nftables mode, 10,000 Services: the median change in milliseconds. */
const KUBE_PROXY_136_CHANGE_MS = 10_685;
const CONFIG: NftablesConfig = {
  ...DEFAULT_NFTABLES_CONFIG,
  localDetector: { mode: 'cidr', v4: '10.128.0.0/9' },
  nodeIps: ['192.0.2.1'],
};

const STICKY = 1000;

type Objects = [Service, EndpointSlice];

function objects(n: number, generation = 0, endpoints = ENDPOINTS, options: ServiceOptions = {}): Objects {
  const key = `bench/service-${String(n).padStart(6, '0')}`;
  const ports = [{ port: 80 }];
  const list = Array.from({ length: endpoints }, (_, i) => {
    const address = n * ENDPOINTS + i + (i === 0 ? generation * 1_000_000 : 0);
    return endpoint(`10.${128 + ((address >> 16) & 127)}.${(address >> 8) & 255}.${address & 255}`);
  });
  return [
    service(key, { clusterIP: `10.${96 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`, ports, ...options }),
    slice(key, list, ports),
  ];
}

const best = (times: readonly number[]): number => Math.min(...times);
const sorted = (times: readonly number[]): number[] => times.toSorted((a, b) => a - b);
const median = (times: readonly number[]): number => sorted(times)[times.length >> 1]!;

async function timed(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return performance.now() - from;
}

/** The rules as nft's own text, made as the proxy makes them. */
function ruleText(all: readonly Objects[]): string {
  const model = new ServiceModel({ name: 'node' }, [4]);
  for (const [svc, eps] of all) {
    model.upsertService(svc);
    model.upsertSlice(eps);
  }
  const planner = new TablePlanner(4, CONFIG);
  planner.update(model.update().ports);
  return formatTable(planner);
}

interface Change {
  ms: number;
  cpuMs: number;
}

async function measureChanges(proxy: ServiceProxy, endpoints: number): Promise<Change[]> {
  const changes: Change[] = [];
  for (let n = 0; n < CHANGES; n++) {
    await sleep(50);
    const [, changed] = objects(Math.trunc((n * SERVICES) / CHANGES), endpoints, endpoints);
    const cpu = process.cpuUsage();
    const ms = await timed(() => {
      proxy.upsertEndpointSlice(changed);
      return proxy.settled();
    });
    const { user, system } = process.cpuUsage(cpu);
    changes.push({ ms, cpuMs: (user + system) / 1000 });
  }
  return changes;
}

async function ours(host: LabNamespace, all: readonly Objects[], changes: boolean) {
  const proxy = new ServiceProxy({
    nodeName: 'node',
    families: [4],
    mode: 'nftables',
    nftables: CONFIG,
    netns: host.netns,
    setDesired: () => {},
  });
  const cold = await timed(() => {
    proxy.setServices(all.map(([svc]) => svc));
    proxy.setEndpointSlices(all.map(([, eps]) => eps));
    return proxy.settled();
  });
  await sleep(1500);
  const same = changes ? await measureChanges(proxy, ENDPOINTS) : [];
  const fewer = changes ? await measureChanges(proxy, ENDPOINTS - 1) : [];
  proxy.stop();
  return { cold, same, fewer };
}

/** Full comparison of a loaded table, as after a restart; nothing is to be mended. */
async function verify(host: LabNamespace, all: readonly Objects[]): Promise<number> {
  using nft = Nftables.open(host.netns);
  const keeper = new TableKeeper(4, CONFIG, nft, host.netns);
  const model = new ServiceModel({ name: 'node' }, [4]);
  for (const [svc, eps] of all) {
    model.upsertService(svc);
    model.upsertSlice(eps);
  }
  keeper.update(model.update().ports);
  const pause = () => new Promise<boolean>(resolve => setImmediate(() => resolve(true)));
  return await timed(async () => {
    const repairs = await keeper.replace(pause);
    if (repairs.length > 0) throw new Error(`differs: ${repairs.map(({ what }) => what).join(', ')}`);
  });
}

async function nft(host: LabNamespace, ...args: string[]): Promise<number> {
  return timed(async () => {
    const result = await host.run('nft', args);
    if (result.code !== 0) throw new Error(result.stderr.slice(0, 1000));
  });
}

export async function bench(report: Report): Promise<void> {
  const lab = new NetnsLab('bpn');
  const directory = mkdtempSync(join(tmpdir(), 'podwire-bench-'));
  try {
    const all = Array.from({ length: SERVICES }, (_, n) => objects(n));
    const file = join(directory, 'rules.nft');
    writeFileSync(file, ruleText(all));
    const cold: number[] = [];
    const bare: number[] = [];
    let changes: Awaited<ReturnType<typeof ours>> | undefined;
    let verified = 0;
    let listed = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const theirs = lab.namespace(`bare${round}`);
      bare.push(await nft(theirs, '-f', file));
      if (round === 0) {
        verified = await verify(theirs, all);
        listed = await nft(theirs, 'list', 'table', 'ip', 'podwire-proxy');
      }
      const run = await ours(lab.namespace(`ours${round}`), all, round === 0);
      cold.push(run.cold);
      changes ??= run;
    }
    report({
      name: `proxy/nftables-cold-${SERVICES}`,
      ours: best(cold) / 1000,
      peer: best(bare) / 1000,
      unit: 's',
      note: 'from API objects; peer: nft -f of the same rules',
    });
    const sticky: number[] = [];
    const plain: number[] = [];
    for (let round = 0; round < ROUNDS; round++)
      for (const [times, sessionAffinity] of [
        [plain, 'None'],
        [sticky, 'ClientIP'],
      ] as const) {
        const some = Array.from({ length: STICKY }, (_, n) => objects(n, 0, ENDPOINTS, { sessionAffinity }));
        times.push((await ours(lab.namespace(`${sessionAffinity}${round}`), some, false)).cold);
      }
    report({
      name: `proxy/nftables-sticky-cold-${STICKY}`,
      ours: best(sticky),
      peer: best(plain),
      unit: 'ms',
      note: 'Services with session affinity; peer: our own time for as many without',
    });
    const { same, fewer } = changes!;
    const ms = same.map(change => change.ms);
    const p99 = sorted(ms)[Math.trunc(ms.length * 0.99)]!;
    const cpu = median(same.map(change => change.cpuMs));
    const real = await realFigures(
      {
        namespace: lab.namespace('real'),
        directory: lab.directory,
        objects: all,
        nodeAddress: '192.0.2.1',
        clusterCidr: '10.128.0.0/9',
      },
      [0, 1, 2].map(n => objects(n, 0, ENDPOINTS - 1)[1]),
    );
    const peer = real?.changeMs ?? KUBE_PROXY_136_CHANGE_MS;
    const whose = real?.note ?? 'kube-proxy 1.36 nftables at 10,000 as recorded';
    report({
      name: `proxy/nftables-change-${SERVICES}`,
      ours: median(ms),
      peer,
      unit: 'ms',
      note: `peer: ${whose}; p99 ${p99.toFixed(1)} ms, CPU ${cpu.toFixed(1)} ms`,
    });
    report({
      name: `proxy/nftables-change-count-${SERVICES}`,
      ours: median(fewer.map(change => change.ms)),
      peer,
      unit: 'ms',
      note: `one endpoint less; peer as before; CPU ${median(fewer.map(change => change.cpuMs)).toFixed(1)} ms`,
    });
    report({
      name: `proxy/nftables-verify-${SERVICES}`,
      ours: verified / 1000,
      peer: listed / 1000,
      unit: 's',
      note: 'peer: nft list table, which only prints',
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
    lab.close();
  }
}
