// The labels and annotations that tie a runtime's sandboxes and containers to pods. They are Kubernetes' own, so that
// crictl and other tools read them, and they are all a restarted kubelet needs to adopt what it started before.

export const LABEL = {
  podName: 'io.kubernetes.pod.name',
  podNamespace: 'io.kubernetes.pod.namespace',
  podUid: 'io.kubernetes.pod.uid',
  containerName: 'io.kubernetes.container.name',
} as const;

export const ANNOTATION = {
  hash: 'io.kubernetes.container.hash',
  restartCount: 'io.kubernetes.container.restartCount',
  terminationMessagePath: 'io.kubernetes.container.terminationMessagePath',
  terminationMessageHostPath: 'podwire.io/terminationMessageHostPath',
  gracePeriodSeconds: 'io.kubernetes.pod.terminationGracePeriod',
} as const;

/** The runtime's name in `containerID` (`containerd://<id>`) until the runtime has said its own. */
export const DEFAULT_RUNTIME_NAME = 'containerd';

export const DEFAULT_GRACE_PERIOD_SECONDS = 30;
