// Volumes of one pod on disk: prepared before its containers start, removed when it is gone. Kinds: emptyDir (disk or
// memory), hostPath, configMap, secret, downwardAPI, projected; others are refused with their name.
import { chmod, chown, lstat, mkdir, open, realpath, rm } from 'node:fs/promises';
import { join, sep } from 'node:path';
import type { Container, Pod, Volume } from '../api/types.ts';
import { errorMessage, hasCode, PodwireError } from '../lib/errors.ts';
import { writeAtomically } from './atomic-writer.ts';
import { mount } from './container-config.ts';
import type { PodFacts } from './downward.ts';
import { ContainerConfigError } from './env.ts';
import { expandReferences } from './expansion.ts';
import type { Mount } from './gen/cri.ts';
import { type ProjectionSources, projectVolume } from './projection.ts';
import type { EnvMap } from './service-env.ts';

/** Directory names below a pod's directory, as the kubelet's. */
const PLUGIN_DIRECTORY = {
  emptyDir: 'kubernetes.io~empty-dir',
  projection: 'kubernetes.io~projected',
} as const;

/** Host path by volume name. */
export type VolumePaths = ReadonlyMap<string, string>;

export async function prepareVolumes(
  podDirectory: string,
  facts: PodFacts,
  sources: ProjectionSources,
): Promise<VolumePaths> {
  const paths = new Map<string, string>();
  for (const volume of facts.pod.spec?.volumes ?? [])
    paths.set(volume.name, await prepareVolume(podDirectory, facts, volume, sources));
  return paths;
}

async function prepareVolume(
  podDirectory: string,
  facts: PodFacts,
  volume: Volume,
  sources: ProjectionSources,
): Promise<string> {
  const group = facts.pod.spec?.securityContext?.fsGroup;
  if (volume.hostPath) return prepareHostPath(volume.hostPath.path, volume.hostPath.type ?? '');
  if (volume.emptyDir) {
    const path = join(podDirectory, 'volumes', PLUGIN_DIRECTORY.emptyDir, volume.name);
    await mkdir(path, { recursive: true });
    if (group !== undefined) await chown(path, 0, group);
    await chmod(path, group === undefined ? 0o777 : 0o2777);
    return path;
  }
  const files = await projectVolume(facts, volume, sources);
  if (!files) {
    const kind = Object.keys(volume).find(key => key !== 'name') ?? 'no source';
    throw new ContainerConfigError(`volume "${volume.name}": ${kind} is not supported on this node`);
  }
  const path = join(podDirectory, 'volumes', PLUGIN_DIRECTORY.projection, volume.name);
  await writeAtomically(path, files, group);
  return path;
}

async function prepareHostPath(path: string, type: string): Promise<string> {
  if (type === 'DirectoryOrCreate') {
    await mkdir(path, { recursive: true, mode: 0o755 });
  } else if (type === 'FileOrCreate') {
    await (await open(path, 'a', 0o644)).close();
  } else if (type !== '') {
    const wanted = {
      Directory: 'isDirectory',
      File: 'isFile',
      Socket: 'isSocket',
      CharDevice: 'isCharacterDevice',
      BlockDevice: 'isBlockDevice',
    } as const;
    const check = wanted[type as keyof typeof wanted];
    const info = await statOrUndefined(path);
    if (!check || !info?.[check]())
      throw new ContainerConfigError(`hostPath type check failed: ${path} is not a ${type}`);
  } else if (!(await statOrUndefined(path))) {
    // Docker's old habit, kept by CRI runtimes' callers: a plain host path that is missing becomes a directory.
    await mkdir(path, { recursive: true, mode: 0o755 });
  }
  return path;
}

async function statOrUndefined(path: string) {
  try {
    return await lstat(await realpath(path));
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return undefined;
    throw thrown;
  }
}

/** CRI mounts of a container's volumeMounts. */
export async function volumeMounts(
  pod: Pod,
  container: Container,
  paths: VolumePaths,
  env: EnvMap,
): Promise<Mount[]> {
  const mounts: Mount[] = [];
  for (const wanted of container.volumeMounts ?? []) {
    const root = paths.get(wanted.name);
    if (root === undefined)
      throw new ContainerConfigError(`volume "${wanted.name}" is not in the pod ${pod.metadata?.name}`);
    const expanded = wanted.subPathExpr
      ? expandReferences(wanted.subPathExpr, name => env.get(name))
      : (wanted.subPath ?? '');
    const hostPath = expanded === '' ? root : await subPath(root, expanded);
    mounts.push(
      mount(hostPath, wanted.mountPath, { readonly: wanted.readOnly, propagation: wanted.mountPropagation }),
    );
  }
  return mounts;
}

/** A path inside a volume: made if missing, and never outside of it, whatever links a container has put there. */
async function subPath(root: string, path: string): Promise<string> {
  if (path.startsWith('/') || path.split('/').includes('..'))
    throw new ContainerConfigError(`subPath ${path}: must be relative and without '..'`);
  const target = join(root, path);
  if (!(await statOrUndefined(target))) await mkdir(target, { recursive: true, mode: 0o750 });
  const real = await realpath(target);
  const realRoot = await realpath(root);
  if (real !== realRoot && !real.startsWith(realRoot + sep))
    throw new ContainerConfigError(`subPath ${path}: leads out of the volume`);
  return real;
}

/** Removes the pod's directory. Something mounted in it stays and is reported rather than emptied. */
export async function removePodDirectory(podDirectory: string): Promise<void> {
  try {
    await rm(podDirectory, { recursive: true, force: true });
  } catch (thrown) {
    throw new PodwireError('VOLUME_BUSY', `remove ${podDirectory}: ${errorMessage(thrown)}`, {
      cause: thrown,
    });
  }
}
