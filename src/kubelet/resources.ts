// Requests and limits as cgroup values, and the quality-of-service class that follows from them. Pure.

import { parseQuantity } from '../api/quantity.ts';
import type { Container, Pod, ResourceRequirements } from '../api/types.ts';
import type { LinuxContainerResources } from './gen/cri.ts';

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

/** The kernel's bounds for cpu.shares and CFS (Documentation/scheduler/sched-bwc.rst). */
const MIN_SHARES = 2;
const MAX_SHARES = 262_144;
const SHARES_PER_CPU = 1024;
const QUOTA_PERIOD_US = 100_000;
const MIN_QUOTA_US = 1_000;

const NANO = 1e9;

const GUARANTEED_OOM_SCORE = -997;
const BEST_EFFORT_OOM_SCORE = 1000;

function quantityOf(list: { [name: string]: string } | undefined, name: string, scale: number): number {
  const text = list?.[name];
  if (text === undefined) return 0;
  return Math.ceil(quantityNumber(text) * scale);
}

function quantityNumber(text: string): number {
  return Number(parseQuantity(String(text)).nano) / NANO;
}

const milliCpu = (list: ResourceRequirements['requests']) => quantityOf(list, 'cpu', 1000);
const memoryBytes = (list: ResourceRequirements['requests']) => quantityOf(list, 'memory', 1);

/** Kubernetes' rule: Guaranteed if every container has equal requests and limits for both, BestEffort if none has any. */
export function qosClass(pod: Pod): QosClass {
  const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
  let any = false;
  let guaranteed = containers.length > 0;
  for (const { resources = {} } of containers) {
    for (const value of [milliCpu, memoryBytes]) {
      const limit = value(resources.limits);
      const request = value(resources.requests) || limit;
      if (request > 0 || limit > 0) any = true;
      if (limit === 0 || request !== limit) guaranteed = false;
    }
  }
  if (!any) return 'BestEffort';
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

export function cpuShares(milli: number): number {
  return Math.min(MAX_SHARES, Math.max(MIN_SHARES, Math.floor((milli * SHARES_PER_CPU) / 1000)));
}

/** 0: no limit. */
export function cpuQuotaUs(milli: number): number {
  return milli === 0 ? 0 : Math.max(MIN_QUOTA_US, Math.floor((milli * QUOTA_PERIOD_US) / 1000));
}

/** Who dies first when memory runs out: the kubelet's policy of oom_score_adj by class and share of the node. */
export function oomScoreAdj(pod: Pod, container: Container, nodeMemoryBytes: number): number {
  const qos = qosClass(pod);
  if (qos === 'Guaranteed') return GUARANTEED_OOM_SCORE;
  if (qos === 'BestEffort') return BEST_EFFORT_OOM_SCORE;
  const requested = memoryBytes(container.resources?.requests);
  const score = 1000 - Math.floor((1000 * requested) / nodeMemoryBytes);
  return Math.min(BEST_EFFORT_OOM_SCORE - 1, Math.max(1000 + GUARANTEED_OOM_SCORE, score));
}

export function linuxResources(
  pod: Pod,
  container: Container,
  nodeMemoryBytes: number,
): LinuxContainerResources {
  const { requests, limits } = container.resources ?? {};
  const cpuLimit = milliCpu(limits);
  // A limit without a request is also the request (API defaulting does the same).
  const cpuRequest = milliCpu(requests) || cpuLimit;
  return {
    cpuPeriod: BigInt(cpuLimit > 0 ? QUOTA_PERIOD_US : 0),
    cpuQuota: BigInt(cpuQuotaUs(cpuLimit)),
    cpuShares: BigInt(cpuShares(cpuRequest)),
    memoryLimitInBytes: BigInt(memoryBytes(limits)),
    oomScoreAdj: BigInt(oomScoreAdj(pod, container, nodeMemoryBytes)),
    cpusetCpus: '',
    cpusetMems: '',
    unified: {},
    memorySwapLimitInBytes: 0n,
  };
}

/** The value a resourceFieldRef asks for, divided and rounded up; undefined for an unknown resource. */
export function resourceFieldValue(
  container: Container,
  resource: string,
  divisor: string | undefined,
  node: { cpus: number; memoryBytes: number },
): string | undefined {
  const [kind, name] = resource.split('.', 2) as [string, string | undefined];
  if ((kind !== 'limits' && kind !== 'requests') || !name) return undefined;
  const list = container.resources?.[kind] as { [name: string]: string } | undefined;
  const by = divisor === undefined || divisor === '' || divisor === '0' ? 1 : quantityNumber(divisor);
  let value = list?.[name] === undefined ? 0 : quantityNumber(list[name]);
  // A container without a limit may use the whole node.
  if (value === 0 && kind === 'limits' && name === 'cpu') value = node.cpus;
  if (value === 0 && kind === 'limits' && name === 'memory') value = node.memoryBytes;
  return String(Math.ceil(value / by));
}
