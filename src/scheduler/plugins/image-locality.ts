// Prefers nodes that already hold the pod's images, by size; an image that only one of many nodes has counts less, so
// that this does not gather all pods on one node. Source: kube-scheduler plugins/imagelocality.
import { MAX_SCORE, type ScorePlugin } from '../framework.ts';

const MIB = 1024 * 1024;
const MIN_BYTES = 23 * MIB;
const MAX_BYTES_PER_CONTAINER = 1000 * MIB;

/** `busybox` → `busybox:latest`, as the container runtime lists it. */
export function normalizedImage(name: string): string {
  return name.lastIndexOf(':') <= name.lastIndexOf('/') ? `${name}:latest` : name;
}

export const imageLocality: ScorePlugin = {
  name: 'ImageLocality',
  weight: 1,
  score(view, state, cycle) {
    const containers = view.pod.spec?.containers ?? [];
    let bytes = 0;
    for (const container of containers) {
      const image = normalizedImage(container.image ?? '');
      const size = state.images.get(image);
      if (size === undefined) continue;
      const memoKey = `imageNodes ${image}`;
      let holders = cycle.memo.get(memoKey) as number | undefined;
      if (holders === undefined) {
        holders = cycle.nodes.filter(other => other.images.has(image)).length;
        cycle.memo.set(memoKey, holders);
      }
      bytes += size * (holders / cycle.nodes.length);
    }
    const max = MAX_BYTES_PER_CONTAINER * containers.length;
    const clamped = Math.min(Math.max(bytes, MIN_BYTES), max);
    return max <= MIN_BYTES ? 0 : Math.floor((MAX_SCORE * (clamped - MIN_BYTES)) / (max - MIN_BYTES));
  },
};
