// A container in CRI's words: command, environment, mounts, security, limits. Pure.
import type { Container, Pod } from '../api/types.ts';
import { ContainerConfigError } from './env.ts';
import { expandReferences } from './expansion.ts';
import {
  type ContainerConfig,
  type Image,
  type LinuxContainerSecurityContext,
  type Mount,
  MountPropagation,
} from './gen/cri.ts';
import { ANNOTATION, DEFAULT_GRACE_PERIOD_SECONDS, LABEL } from './names.ts';
import { containerHash } from './plan.ts';
import { linuxResources } from './resources.ts';
import { namespaceOptions, podLabels, seccompProfile } from './sandbox-config.ts';
import type { EnvMap } from './service-env.ts';

export interface ContainerOptions {
  pod: Pod;
  container: Container;
  image: Image;
  restartCount: number;
  env: EnvMap;
  mounts: Mount[];
  terminationMessageHostPath: string;
  nodeMemoryBytes: number;
}

export const DEFAULT_TERMINATION_MESSAGE_PATH = '/dev/termination-log';

/** The runtime's defaults for unprivileged containers (OCI runtime-spec, config-linux.md). */
const MASKED_PATHS = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** Log file of one run, relative to the pod's log directory. */
export function containerLogPath(name: string, restartCount: number): string {
  return `${name}/${restartCount}.log`;
}

export function containerConfig(options: ContainerOptions): ContainerConfig {
  const { pod, container, env, restartCount } = options;
  const expand = (text: string) => expandReferences(text, name => env.get(name));
  return {
    metadata: { name: container.name, attempt: restartCount },
    image: { image: options.image.id, annotations: {} },
    command: (container.command ?? []).map(expand),
    args: (container.args ?? []).map(expand),
    workingDir: container.workingDir ?? '',
    envs: [...env].map(([key, value]) => ({ key, value })),
    mounts: options.mounts,
    devices: [],
    labels: {
      ...podLabels({ metadata: { ...pod.metadata, labels: {} } }),
      [LABEL.containerName]: container.name,
    },
    annotations: {
      [ANNOTATION.hash]: containerHash(container),
      [ANNOTATION.restartCount]: String(restartCount),
      [ANNOTATION.terminationMessagePath]:
        container.terminationMessagePath ?? DEFAULT_TERMINATION_MESSAGE_PATH,
      [ANNOTATION.terminationMessageHostPath]: options.terminationMessageHostPath,
      [ANNOTATION.gracePeriodSeconds]: String(
        pod.spec?.terminationGracePeriodSeconds ?? DEFAULT_GRACE_PERIOD_SECONDS,
      ),
    },
    logPath: containerLogPath(container.name, restartCount),
    stdin: container.stdin === true,
    stdinOnce: container.stdinOnce === true,
    tty: container.tty === true,
    linux: {
      resources: linuxResources(pod, container, options.nodeMemoryBytes),
      securityContext: securityContext(pod, container, options.image),
    },
  };
}

function securityContext(pod: Pod, container: Container, image: Image): LinuxContainerSecurityContext {
  const podContext = pod.spec?.securityContext;
  const context = container.securityContext;
  const runAsUser = context?.runAsUser ?? podContext?.runAsUser;
  const runAsGroup = context?.runAsGroup ?? podContext?.runAsGroup;
  const privileged = context?.privileged === true;
  if ((context?.runAsNonRoot ?? podContext?.runAsNonRoot) === true)
    verifyNonRoot(container, image, runAsUser);
  const groups = [
    ...(podContext?.supplementalGroups ?? []),
    ...(podContext?.fsGroup === undefined ? [] : [podContext.fsGroup]),
  ];
  // An image user given as a number and nothing else in the pod: the runtime takes it from the image by itself.
  return {
    capabilities: {
      addCapabilities: context?.capabilities?.add ?? [],
      dropCapabilities: context?.capabilities?.drop ?? [],
    },
    privileged,
    namespaceOptions: namespaceOptions(pod),
    ...(runAsUser === undefined ? {} : { runAsUser: { value: BigInt(runAsUser) } }),
    ...(runAsGroup === undefined || runAsUser === undefined
      ? {}
      : { runAsGroup: { value: BigInt(runAsGroup) } }),
    runAsUsername: '',
    readonlyRootfs: context?.readOnlyRootFilesystem === true,
    supplementalGroups: groups.map(BigInt),
    noNewPrivs: context?.allowPrivilegeEscalation === false && !privileged,
    maskedPaths: privileged || context?.procMount === 'Unmasked' ? [] : MASKED_PATHS,
    readonlyPaths: privileged || context?.procMount === 'Unmasked' ? [] : READONLY_PATHS,
    seccomp: seccompProfile(context?.seccompProfile ?? podContext?.seccompProfile),
  };
}

function verifyNonRoot(container: Container, image: Image, runAsUser: number | undefined): void {
  const imageUid = image.uid === undefined ? undefined : Number(image.uid.value);
  const uid = runAsUser ?? imageUid;
  if (uid === 0 || (uid === undefined && image.username === ''))
    throw new ContainerConfigError(`container ${container.name} has runAsNonRoot and would run as root`);
  if (uid === undefined)
    throw new ContainerConfigError(
      `container ${container.name} has runAsNonRoot and the image has non-numeric user (${image.username})`,
    );
}

const PROPAGATION: Record<string, MountPropagation> = {
  HostToContainer: MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
  Bidirectional: MountPropagation.PROPAGATION_BIDIRECTIONAL,
};

export function mount(
  hostPath: string,
  containerPath: string,
  options: { readonly?: boolean; propagation?: string } = {},
): Mount {
  return {
    hostPath,
    containerPath,
    readonly: options.readonly === true,
    selinuxRelabel: false,
    propagation: PROPAGATION[options.propagation ?? ''] ?? MountPropagation.PROPAGATION_PRIVATE,
  };
}
