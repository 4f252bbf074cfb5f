// Defaults, by type: what Kubernetes fills in when a field is left out (pkg/apis/*/v1/defaults.go).
import type { KubeObject } from './types.ts';

const DEFAULTS: Record<string, (object: KubeObject) => void> = {};

/** Fills in the object. */
export function applyDefaults(type: string, object: KubeObject): void {
  DEFAULTS[type]?.(object);
}
