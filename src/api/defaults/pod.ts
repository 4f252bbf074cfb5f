// Defaults of pods and of everything that has a pod template (pkg/apis/core/v1/defaults.go). What depends on other
// objects (service account, tolerations, priority) is admission's.
import type { Container, Pod, PodSpec, PodTemplateSpec, Probe, Volume } from '../types.ts';

type Lifecycle = NonNullable<Container['lifecycle']>;
type HttpGet = NonNullable<Probe['httpGet']>;
type FieldRef = { apiVersion?: string };

const DEFAULT_MODE = 0o644;

export function defaultPod(pod: Pod): void {
  const { spec } = pod;
  if (!spec) return;
  spec.enableServiceLinks ??= true;
  // A limit without a request asks for as much as the limit.
  for (const { resources } of [...(spec.containers ?? []), ...(spec.initContainers ?? [])]) {
    if (!resources?.limits) continue;
    resources.requests = { ...resources.requests };
    for (const [name, limit] of Object.entries(resources.limits)) resources.requests[name] ??= limit;
  }
  defaultPodSpec(spec);
}

export function defaultPodTemplate(template: PodTemplateSpec | undefined): void {
  if (!template) return;
  template.metadata ??= {};
  if (template.spec) defaultPodSpec(template.spec);
}

export function defaultPodSpec(spec: PodSpec): void {
  spec.dnsPolicy ||= 'ClusterFirst';
  spec.restartPolicy ||= 'Always';
  spec.terminationGracePeriodSeconds ??= 30;
  spec.securityContext ??= {};
  spec.schedulerName ||= 'default-scheduler';
  spec.serviceAccountName ||= spec.serviceAccount;
  if (spec.serviceAccountName) spec.serviceAccount = spec.serviceAccountName;
  else delete spec.serviceAccountName;
  const containers = [
    ...(spec.containers ?? []),
    ...(spec.initContainers ?? []),
    ...((spec.ephemeralContainers ?? []) as Container[]),
  ];
  for (const container of containers) defaultContainer(container, spec.hostNetwork === true);
  for (const volume of spec.volumes ?? []) defaultVolume(volume);
}

function defaultContainer(container: Container, hostNetwork: boolean): void {
  container.imagePullPolicy ||= pullPolicyFor(container.image ?? '');
  container.terminationMessagePath ||= '/dev/termination-log';
  container.terminationMessagePolicy ||= 'File';
  container.resources ??= {};
  for (const port of container.ports ?? []) {
    port.protocol ||= 'TCP';
    if (hostNetwork) port.hostPort ||= port.containerPort;
  }
  for (const probe of [container.livenessProbe, container.readinessProbe, container.startupProbe])
    if (probe) defaultProbe(probe);
  const { postStart, preStop }: Lifecycle = container.lifecycle ?? {};
  for (const handler of [postStart, preStop]) if (handler?.httpGet) defaultHttpGet(handler.httpGet);
  for (const { valueFrom } of container.env ?? [])
    if (valueFrom?.fieldRef) defaultFieldRef(valueFrom.fieldRef);
}

/** `name`, `name:latest` are pulled always; a tag or a digest names something that stays. */
export function pullPolicyFor(image: string): 'Always' | 'IfNotPresent' {
  if (image.includes('@')) return 'IfNotPresent';
  const tag = /:([^/:]+)$/.exec(image)?.[1] ?? 'latest';
  return tag === 'latest' ? 'Always' : 'IfNotPresent';
}

function defaultProbe(probe: Probe): void {
  probe.timeoutSeconds ||= 1;
  probe.periodSeconds ||= 10;
  probe.successThreshold ||= 1;
  probe.failureThreshold ||= 3;
  if (probe.httpGet) defaultHttpGet(probe.httpGet);
  if (probe.grpc) probe.grpc.service ??= '';
}

function defaultHttpGet(get: HttpGet): void {
  get.path ||= '/';
  get.scheme ||= 'HTTP';
}

function defaultFieldRef(ref: FieldRef): void {
  ref.apiVersion ||= 'v1';
}

function defaultVolume(volume: Volume): void {
  const { secret, configMap, downwardAPI, projected, hostPath } = volume;
  if (Object.keys(volume).every(key => key === 'name')) volume.emptyDir = {};
  if (secret) secret.defaultMode ??= DEFAULT_MODE;
  if (configMap) configMap.defaultMode ??= DEFAULT_MODE;
  if (hostPath) hostPath.type ??= '';
  if (downwardAPI) {
    downwardAPI.defaultMode ??= DEFAULT_MODE;
    for (const { fieldRef } of downwardAPI.items ?? []) if (fieldRef) defaultFieldRef(fieldRef);
  }
  if (!projected) return;
  projected.defaultMode ??= DEFAULT_MODE;
  for (const source of projected.sources ?? []) {
    if (source.serviceAccountToken) source.serviceAccountToken.expirationSeconds ??= 3600;
    for (const { fieldRef } of source.downwardAPI?.items ?? []) if (fieldRef) defaultFieldRef(fieldRef);
  }
}
