// kube-proxy, the program, under changes of Services and endpoints for as long as one likes, in a namespace of its own per
// mode. Nobody tampers with the kernel, so nothing may be mended, no sync may fail, every change must reach packets, and
// memory must not grow.
//
//   sh scripts/run.sh test/scenario/proxy/soak.ts [SECONDS=600] [SERVICES=500] [CHANGES_PER_SECOND=1] [SEED]
import { readFileSync } from 'node:fs';
import { randomSource } from '../../harness/bgp/route-blob.ts';
import { DaemonNode, waitFor } from '../../netns/proxy/daemon-node.ts';
import { allowedAnswers, SoakCluster, type SoakService } from './soak-cluster.ts';

/** A change must have reached the packets after so long, on a machine that has much else to do. */
const ARRIVE_MS = 120_000;
const ANSWER_MS = 3_000;
const SAMPLE_MS = 10_000;
/** More often than the 30 s of a default configuration: each is a chance of a false alarm. */
const SYNC_PERIOD = '10s';

/** `iptables-legacy` is the iptables mode on a node that has rules of that backend already. */
export const SOAK_MODES = ['nftables', 'iptables', 'iptables-legacy'] as const;
export type SoakMode = (typeof SOAK_MODES)[number];

export interface SoakSample {
  readonly mode: SoakMode;
  readonly seconds: number;
  readonly changes: number;
  /** podwire_kernel_repairs_total: each is a false alarm here. */
  readonly repairs: number;
  readonly failures: number;
  /** Changes whose packets were asked for. */
  readonly asked: number;
  readonly slowestMs: number;
  readonly residentMb: number;
}

export interface SoakOptions {
  readonly seconds: number;
  readonly services: number;
  readonly changesPerSecond: number;
  readonly seed: number;
  readonly modes?: readonly SoakMode[];
  readonly report?: (sample: SoakSample) => void;
}

const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));

/** The sum of all series of these names. */
function total(metrics: string, names: RegExp): number {
  return metrics
    .split('\n')
    .filter(line => !line.startsWith('#') && names.test(line))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

class SoakRun {
  readonly samples: SoakSample[] = [];
  readonly #mode: SoakMode;
  readonly #options: SoakOptions;
  readonly #daemon: DaemonNode;
  #pid = 0;
  #changes = 0;
  #asked = 0;
  #slowestMs = 0;

  constructor(mode: SoakMode, options: SoakOptions) {
    this.#mode = mode;
    this.#options = options;
    this.#daemon = new DaemonNode(`soak${SOAK_MODES.indexOf(mode)}`);
  }

  async run(): Promise<SoakSample[]> {
    const { seconds, services, changesPerSecond, seed } = this.#options;
    try {
      await this.#daemon.start();
      const cluster = new SoakCluster(
        this.#daemon.admin,
        randomSource(seed + SOAK_MODES.indexOf(this.#mode)),
      );
      await cluster.fill(services);
      await this.#start();
      const from = Date.now();
      let sampled = 0;
      for (let n = 1; Date.now() < from + seconds * 1000; n++) {
        const { action, service } = await cluster.change();
        this.#changes++;
        await this.#arrived(service, action);
        if (Date.now() - sampled > SAMPLE_MS) {
          sampled = Date.now();
          await this.#sample((sampled - from) / 1000);
        }
        await sleep(Math.max(0, from + (n * 1000) / changesPerSecond - Date.now()));
      }
      await this.#sample((Date.now() - from) / 1000);
      return this.samples;
    } finally {
      await this.#daemon.close();
    }
  }

  async #start(): Promise<void> {
    const { net } = this.#daemon;
    if (this.#mode === 'iptables-legacy')
      for (const command of ['iptables-legacy', 'ip6tables-legacy'])
        await net.node.run(command, [
          '-t',
          'nat',
          '-A',
          'PREROUTING',
          '-m',
          'comment',
          '--comment',
          'a rule of the host',
        ]);
    const mode = this.#mode === 'nftables' ? 'nftables' : 'iptables';
    const config = this.#daemon.writeConfig({ mode, [mode]: { syncPeriod: SYNC_PERIOD } });
    const child = this.#daemon.spawn('--config', config);
    this.#pid = child.pid ?? 0;
    const ready = async () => ((await this.#daemon.get(10256, '/readyz'))?.status === 200 ? true : undefined);
    await waitFor(`${this.#mode} is ready`, ready, 60_000);
  }

  /** Asks from outside until an answer fits what the Service is now. */
  async #arrived(service: SoakService, action: string): Promise<void> {
    const from = Date.now();
    const allowed = allowedAnswers(service);
    const got: string[] = [];
    const look = async (): Promise<true | undefined> => {
      const answer = await this.#daemon.net.client.outcome(service.clusterIP, 80, { timeoutMs: ANSWER_MS });
      if (answer !== got.at(-1)) got.push(answer);
      return allowed.includes(answer) ? true : undefined;
    };
    try {
      await waitFor('a change in the packets', look, ARRIVE_MS);
    } catch {
      const said = this.#daemon.log.slice(-2000);
      const metrics = (await this.#daemon.get(10249, '/metrics'))?.body ?? '';
      const syncs = metrics
        .split('\n')
        .filter(line => /^kubeproxy_sync.*(timestamp|pending|count)/.test(line));
      throw new Error(
        `${this.#mode}: ${service.name} (${service.clusterIP}) after "${action}": ${got.join(', ')}, not one of ${allowed}\n${syncs.join('\n')}\n${said}`,
      );
    }
    this.#asked++;
    this.#slowestMs = Math.max(this.#slowestMs, Date.now() - from);
  }

  async #sample(seconds: number): Promise<void> {
    const metrics = (await this.#daemon.get(10249, '/metrics'))?.body;
    if (!metrics) throw new Error(`${this.#mode}: kube-proxy is gone\n${this.#daemon.log.slice(-2000)}`);
    const status = readFileSync(`/proc/${this.#pid}/status`, 'utf8');
    const sample: SoakSample = {
      mode: this.#mode,
      seconds,
      changes: this.#changes,
      repairs: total(metrics, /^podwire_kernel_repairs_total/),
      failures: total(metrics, /_failures_total/),
      asked: this.#asked,
      slowestMs: this.#slowestMs,
      residentMb: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024,
    };
    this.samples.push(sample);
    this.#options.report?.(sample);
    if (sample.repairs > 0 || sample.failures > 0)
      throw new Error(
        `${this.#mode}: ${sample.repairs} repairs and ${sample.failures} failed syncs although nobody tampered\n${this.#daemon.log.slice(-4000)}`,
      );
  }
}

/** Throws on a false alarm, a failed sync, a change that does not arrive, or a program that dies. */
export async function soak(options: SoakOptions): Promise<Map<SoakMode, SoakSample[]>> {
  const modes = options.modes ?? SOAK_MODES;
  // All of them end before the first failure is told: each has namespaces and a program to take away.
  const runs = await Promise.allSettled(
    modes.map(async mode => [mode, await new SoakRun(mode, options).run()] as const),
  );
  const failed = runs.find(run => run.status === 'rejected');
  if (failed) throw failed.reason;
  return new Map(runs.flatMap(run => (run.status === 'fulfilled' ? [run.value] : [])));
}

/** Resident memory of the second quarter of a run against that of the last, megabytes: medians. */
export function growth(samples: readonly SoakSample[]): { early: number; late: number } {
  const median = (part: readonly SoakSample[]): number =>
    part.map(({ residentMb }) => residentMb).toSorted((a, b) => a - b)[part.length >> 1] ?? 0;
  const quarter = samples.length >> 2;
  return {
    early: median(samples.slice(quarter, 2 * quarter + 1)),
    late: median(samples.slice(-quarter - 1)),
  };
}

if (import.meta.main) {
  const [seconds = 600, services = 500, changesPerSecond = 1, seed = Date.now() % 2147483646] = process.argv
    .slice(2)
    .map(Number);
  console.log(`seed ${seed}`);
  const report = (sample: SoakSample): void =>
    console.log(
      `${sample.mode} ${sample.seconds.toFixed(0)} s: ${sample.changes} changes, ${sample.asked} asked, slowest ${sample.slowestMs} ms, repairs ${sample.repairs}, failures ${sample.failures}, RSS ${sample.residentMb.toFixed(1)} MB`,
    );
  for (const [mode, samples] of await soak({ seconds, services, changesPerSecond, seed, report })) {
    const { early, late } = growth(samples);
    console.log(
      `${mode}: RSS ${early.toFixed(1)} → ${late.toFixed(1)} MB, ${samples.at(-1)?.changes} changes, no repair`,
    );
    if (late > early * 1.1 + 10) process.exitCode = 1;
  }
}
