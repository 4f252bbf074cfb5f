// A pod's sandbox in CRI's words. Pure.
import type { Container, Pod } from '../api/types.ts';
import { podHostname } from './dns.ts';
import {
  type DNSConfig,
  NamespaceMode,
  type NamespaceOption,
  type PodSandboxConfig,
  type PortMapping,
  Protocol,
  type SecurityProfile,
  SecurityProfile_ProfileType,
} from './gen/cri.ts';
import { LABEL } from './names.ts';

export function podLabels(pod: Pod): Record<string, string> {
  return {
    ...pod.metadata?.labels,
    [LABEL.podName]: pod.metadata?.name ?? '',
    [LABEL.podNamespace]: pod.metadata?.namespace ?? '',
    [LABEL.podUid]: pod.metadata?.uid ?? '',
  };
}

export function namespaceOptions(pod: Pod): NamespaceOption {
  const spec = pod.spec;
  return {
    network: spec?.hostNetwork ? NamespaceMode.NODE : NamespaceMode.POD,
    ipc: spec?.hostIPC ? NamespaceMode.NODE : NamespaceMode.POD,
    pid: spec?.hostPID
      ? NamespaceMode.NODE
      : spec?.shareProcessNamespace
        ? NamespaceMode.POD
        : NamespaceMode.CONTAINER,
    targetId: '',
  };
}

type SeccompProfile = NonNullable<NonNullable<Pod['spec']>['securityContext']>['seccompProfile'];

/** Unconfined unless the pod asks for more, as the kubelet without --seccomp-default. */
export function seccompProfile(profile: SeccompProfile): SecurityProfile {
  switch (profile?.type) {
    case 'RuntimeDefault':
      return { profileType: SecurityProfile_ProfileType.RuntimeDefault, localhostRef: '' };
    case 'Localhost':
      return {
        profileType: SecurityProfile_ProfileType.Localhost,
        localhostRef: profile.localhostProfile ?? '',
      };
    default:
      return { profileType: SecurityProfile_ProfileType.Unconfined, localhostRef: '' };
  }
}

/** Host ports of all containers; the portmap plugin makes them. A host-network pod needs none. */
export function portMappings(pod: Pod): PortMapping[] {
  if (pod.spec?.hostNetwork) return [];
  const containers: Container[] = pod.spec?.containers ?? [];
  return containers.flatMap(container =>
    (container.ports ?? []).map(port => ({
      protocol: Protocol[(port.protocol ?? 'TCP') as keyof typeof Protocol] ?? Protocol.TCP,
      containerPort: port.containerPort,
      hostPort: port.hostPort ?? 0,
      hostIp: port.hostIP ?? '',
    })),
  );
}

export interface SandboxOptions {
  pod: Pod;
  attempt: number;
  logDirectory: string;
  dns: DNSConfig;
  /** Empty: the runtime's own default. */
  cgroupParent: string;
}

export function sandboxConfig(options: SandboxOptions): PodSandboxConfig {
  const { pod } = options;
  const context = pod.spec?.securityContext;
  const privileged = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])].some(
    container => container.securityContext?.privileged === true,
  );
  const groups = [
    ...(context?.supplementalGroups ?? []),
    ...(context?.fsGroup === undefined ? [] : [context.fsGroup]),
  ];
  return {
    metadata: {
      name: pod.metadata?.name ?? '',
      uid: pod.metadata?.uid ?? '',
      namespace: pod.metadata?.namespace ?? '',
      attempt: options.attempt,
    },
    hostname: pod.spec?.hostNetwork ? '' : podHostname(pod),
    logDirectory: options.logDirectory,
    dnsConfig: options.dns,
    portMappings: portMappings(pod),
    labels: podLabels(pod),
    annotations: { ...pod.metadata?.annotations },
    linux: {
      cgroupParent: options.cgroupParent,
      sysctls: Object.fromEntries((context?.sysctls ?? []).map(({ name, value }) => [name, value])),
      securityContext: {
        namespaceOptions: namespaceOptions(pod),
        ...(context?.runAsUser === undefined ? {} : { runAsUser: { value: BigInt(context.runAsUser) } }),
        ...(context?.runAsUser === undefined || context.runAsGroup === undefined
          ? {}
          : { runAsGroup: { value: BigInt(context.runAsGroup) } }),
        readonlyRootfs: false,
        supplementalGroups: groups.map(BigInt),
        privileged,
        // The pause process makes no interesting system call; a filter for it only costs its start.
        seccomp: { profileType: SecurityProfile_ProfileType.Unconfined, localhostRef: '' },
      },
    },
  };
}
