// What a field selector may name, kind by kind: metadata.name and metadata.namespace everywhere, and the fields that
// Kubernetes registers for some kinds (pkg/apis/*/conversion.go, AddFieldLabelConversionFunc).
import type { CoreEvent, KubeObject, Namespace, Node, Pod, ReplicaSet, Secret, Service } from './types.ts';

type Fields = Record<string, string>;

const FIELDS: Record<string, (object: KubeObject) => Fields> = {
  'core.v1.Pod': object => {
    const { spec, status } = object as Pod;
    return {
      'spec.nodeName': spec?.nodeName ?? '',
      'spec.restartPolicy': spec?.restartPolicy ?? '',
      'spec.schedulerName': spec?.schedulerName ?? '',
      'spec.serviceAccountName': spec?.serviceAccountName ?? '',
      'spec.hostNetwork': String(spec?.hostNetwork === true),
      'status.phase': status?.phase ?? '',
      'status.podIP': status?.podIP ?? '',
      'status.nominatedNodeName': status?.nominatedNodeName ?? '',
    };
  },
  'core.v1.Node': object => ({ 'spec.unschedulable': String((object as Node).spec?.unschedulable === true) }),
  'core.v1.Namespace': object => ({
    'status.phase': (object as Namespace).status?.phase ?? '',
    name: object.metadata?.name ?? '',
  }),
  'core.v1.Secret': object => ({ type: (object as Secret).type ?? '' }),
  'core.v1.Service': object => ({
    'spec.clusterIP': (object as Service).spec?.clusterIP ?? '',
    'spec.type': (object as Service).spec?.type ?? '',
  }),
  'core.v1.Event': object => eventFields(object as CoreEvent),
  'core.v1.ReplicationController': replicas,
  'apps.v1.ReplicaSet': replicas,
  'batch.v1.Job': object => {
    const status = (object as { status?: { succeeded?: number } }).status;
    return { 'status.successful': String(status?.succeeded ?? 0) };
  },
};

function replicas(object: KubeObject): Fields {
  return { 'status.replicas': String((object as ReplicaSet).status?.replicas ?? 0) };
}

function eventFields(event: CoreEvent): Fields {
  const about = event.involvedObject ?? {};
  const source = (event.source?.component ?? '') || (event.reportingComponent ?? '');
  return {
    'involvedObject.kind': about.kind ?? '',
    'involvedObject.namespace': about.namespace ?? '',
    'involvedObject.name': about.name ?? '',
    'involvedObject.uid': about.uid ?? '',
    'involvedObject.apiVersion': about.apiVersion ?? '',
    'involvedObject.resourceVersion': about.resourceVersion ?? '',
    'involvedObject.fieldPath': about.fieldPath ?? '',
    reason: event.reason ?? '',
    reportingComponent: event.reportingComponent ?? '',
    source,
    type: event.type ?? '',
  };
}

/** events.k8s.io names the same fields after its own form. */
const EVENT_NAMES: Record<string, string> = {
  involvedObject: 'regarding',
  reportingComponent: 'reportingController',
};

interface EventsV1Event extends KubeObject {
  regarding?: CoreEvent['involvedObject'];
  reportingController?: string;
  reason?: string;
  type?: string;
}

FIELDS['events.v1.Event'] = object => {
  const event = object as EventsV1Event;
  const fields = eventFields({
    metadata: {},
    involvedObject: event.regarding ?? {},
    reportingComponent: event.reportingController,
    reason: event.reason,
    type: event.type,
  } as CoreEvent);
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      const [first = '', ...rest] = name.split('.');
      return [[EVENT_NAMES[first] ?? first, ...rest].join('.'), value];
    }),
  );
};

export function selectableFieldsOf(type: string, namespaced: boolean, object: KubeObject): Fields {
  return {
    'metadata.name': object.metadata?.name ?? '',
    ...(namespaced ? { 'metadata.namespace': object.metadata?.namespace ?? '' } : {}),
    ...FIELDS[type]?.(object),
  };
}
