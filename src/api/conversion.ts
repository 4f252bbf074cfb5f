// Kinds served in two forms and stored in one: Event (v1 and events.k8s.io/v1) and HorizontalPodAutoscaler (v1 and v2).
// The other form is converted on the way in and out, so that every client sees every object.
import type { StorageConversion } from './resource-definition.ts';
import type { KubeObject } from './types.ts';

type Fields = Record<string, unknown>;

/** events.k8s.io/v1 field → v1 field (pkg/apis/events/v1/conversion.go). */
const EVENT_FIELDS: readonly (readonly [events: string, core: string])[] = [
  ['regarding', 'involvedObject'],
  ['note', 'message'],
  ['deprecatedSource', 'source'],
  ['deprecatedFirstTimestamp', 'firstTimestamp'],
  ['deprecatedLastTimestamp', 'lastTimestamp'],
  ['deprecatedCount', 'count'],
  ['reportingController', 'reportingComponent'],
];

function rename(
  object: KubeObject,
  pairs: readonly (readonly [string, string])[],
  apiVersion: string,
): Fields {
  const names = new Map(pairs);
  const result: Fields = {};
  for (const [name, value] of Object.entries(object)) result[names.get(name) ?? name] = value;
  result.apiVersion = apiVersion;
  return result;
}

const EVENTS: StorageConversion = {
  apiVersion: 'v1',
  kind: 'Event',
  toStorage: object => rename(object, EVENT_FIELDS, 'v1') as typeof object,
  fromStorage: object =>
    rename(
      object,
      EVENT_FIELDS.map(([events, core]) => [core, events] as const),
      'events.k8s.io/v1',
    ) as typeof object,
};

interface HpaMetric {
  type?: string;
  resource?: { name?: string; target?: { type?: string; averageUtilization?: number } };
  current?: { averageUtilization?: number };
}

function isCpu(metric: HpaMetric): boolean {
  return (
    metric.type === 'Resource' &&
    metric.resource?.name === 'cpu' &&
    metric.resource.target?.type === 'Utilization'
  );
}

/** v1 knows one metric, the CPU's utilization; the others travel in an annotation, as upstream has it. */
const HPA_METRICS_ANNOTATION = 'autoscaling.alpha.kubernetes.io/metrics';

const HPA: StorageConversion = {
  apiVersion: 'autoscaling/v2',
  kind: 'HorizontalPodAutoscaler',
  toStorage: object => {
    const { spec = {}, ...rest } = object as KubeObject & { spec?: Fields };
    const { targetCPUUtilizationPercentage: percentage, ...kept } = spec;
    const annotations = { ...object.metadata?.annotations };
    const others = parseMetrics(annotations[HPA_METRICS_ANNOTATION]);
    delete annotations[HPA_METRICS_ANNOTATION];
    const cpu = {
      type: 'Resource',
      resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: percentage } },
    };
    const metrics = [...others, ...(percentage === undefined ? [] : [cpu])];
    return {
      ...rest,
      apiVersion: 'autoscaling/v2',
      metadata: { ...object.metadata, annotations },
      spec: { ...kept, ...(metrics.length > 0 ? { metrics } : {}) },
    } as unknown as typeof object;
  },
  fromStorage: object => {
    const { spec = {}, status, ...rest } = object as KubeObject & { spec?: Fields; status?: Fields };
    const {
      metrics = [],
      behavior: _behaviour,
      ...kept
    } = spec as { metrics?: HpaMetric[]; behavior?: unknown };
    const {
      currentMetrics = [],
      conditions: _conditions,
      ...shownStatus
    } = (status ?? {}) as {
      currentMetrics?: (HpaMetric & { resource?: HpaMetric })[];
      conditions?: unknown;
    };
    const cpu = metrics.find(isCpu);
    const others = metrics.filter(metric => metric !== cpu);
    const now = currentMetrics.find(
      metric => metric.resource?.resource?.name === 'cpu' || metric.type === 'Resource',
    );
    const currentCpu = now?.resource?.current?.averageUtilization;
    return {
      ...rest,
      apiVersion: 'autoscaling/v1',
      metadata:
        others.length === 0
          ? object.metadata
          : {
              ...object.metadata,
              annotations: {
                ...object.metadata?.annotations,
                [HPA_METRICS_ANNOTATION]: JSON.stringify(others),
              },
            },
      spec: {
        ...kept,
        ...(cpu ? { targetCPUUtilizationPercentage: cpu.resource?.target?.averageUtilization } : {}),
      },
      ...(status
        ? {
            status: {
              ...shownStatus,
              ...(currentCpu === undefined ? {} : { currentCPUUtilizationPercentage: currentCpu }),
            },
          }
        : {}),
    } as unknown as typeof object;
  },
};

function parseMetrics(text: string | undefined): unknown[] {
  try {
    const metrics: unknown = JSON.parse(text ?? '[]');
    return Array.isArray(metrics) ? metrics : [];
  } catch {
    return [];
  }
}

const CONVERSIONS: Record<string, StorageConversion> = {
  'events.v1.Event': EVENTS,
  'autoscaling.v1.HorizontalPodAutoscaler': HPA,
};

export function conversionOf(type: string): StorageConversion | undefined {
  return CONVERSIONS[type];
}
