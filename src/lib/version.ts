// The versions podwire speaks for. One place, so that server, kubelet and documents agree.

/** podwire's own. */
export const PODWIRE_VERSION = '0.1.0';

/** The Kubernetes release whose API is served; kubectl compares its own version with it. */
export const KUBERNETES_VERSION = 'v1.32.0';

/** As `/version` and Node objects show it. */
export const KUBERNETES_BUILD = `${KUBERNETES_VERSION}+podwire`;
