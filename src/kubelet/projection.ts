// The files of configMap, secret, downwardAPI and projected volumes. Reads its objects through a ConfigSource; it
// writes nothing.
import type { Pod, Volume } from '../api/types.ts';
import type { ProjectedFile } from './atomic-writer.ts';
import { fieldValue, type PodFacts, resourceValue } from './downward.ts';
import { type ConfigSource, ContainerConfigError } from './env.ts';

type Files = Map<string, ProjectedFile>;
type KeyItems = { key: string; path: string; mode?: number }[] | undefined;

const DEFAULT_MODE = 0o644;

/** Asks the API server for a token of the pod's service account; undefined where it cannot. */
export type TokenSource = (
  pod: Pod,
  request: { audience?: string; expirationSeconds: number },
) => Promise<string | undefined>;

export interface ProjectionSources {
  config: ConfigSource;
  token?: TokenSource;
}

/** undefined: the volume is none of these kinds. Throws ContainerConfigError while something it needs is missing. */
export async function projectVolume(
  facts: PodFacts,
  volume: Volume,
  sources: ProjectionSources,
): Promise<Files | undefined> {
  const files: Files = new Map();
  if (volume.configMap) {
    await addConfigMap(files, facts, volume.configMap, volume.configMap.defaultMode, sources);
  } else if (volume.secret) {
    const { secretName: name, ...rest } = volume.secret;
    await addSecret(files, facts, { name, ...rest }, volume.secret.defaultMode, sources);
  } else if (volume.downwardAPI) {
    addDownward(files, facts, volume.downwardAPI.items, volume.downwardAPI.defaultMode);
  } else if (volume.projected) {
    const mode = volume.projected.defaultMode;
    for (const source of volume.projected.sources ?? []) {
      if (source.configMap) await addConfigMap(files, facts, source.configMap, mode, sources);
      if (source.secret) await addSecret(files, facts, source.secret, mode, sources);
      if (source.downwardAPI) addDownward(files, facts, source.downwardAPI.items, mode);
      if (source.serviceAccountToken) await addToken(files, facts, source.serviceAccountToken, mode, sources);
    }
  } else {
    return undefined;
  }
  return files;
}

async function addConfigMap(
  files: Files,
  facts: PodFacts,
  ref: { name?: string; items?: KeyItems; optional?: boolean },
  mode: number | undefined,
  sources: ProjectionSources,
): Promise<void> {
  const found = await sources.config.configMap(facts.pod.metadata?.namespace ?? 'default', ref.name ?? '');
  if (!found && !ref.optional) throw new ContainerConfigError(`configmap "${ref.name}" not found`);
  const data = new Map<string, Buffer>([
    ...Object.entries(found?.data ?? {}).map(([key, value]) => [key, Buffer.from(value)] as const),
    ...Object.entries(found?.binaryData ?? {}).map(
      ([key, value]) => [key, Buffer.from(value, 'base64')] as const,
    ),
  ]);
  addItems(files, `configmap "${ref.name}"`, data, ref, mode);
}

async function addSecret(
  files: Files,
  facts: PodFacts,
  ref: { name?: string; items?: KeyItems; optional?: boolean },
  mode: number | undefined,
  sources: ProjectionSources,
): Promise<void> {
  const found = await sources.config.secret(facts.pod.metadata?.namespace ?? 'default', ref.name ?? '');
  if (!found && !ref.optional) throw new ContainerConfigError(`secret "${ref.name}" not found`);
  const entries = Object.entries(found?.data ?? {});
  const data = new Map(entries.map(([key, value]) => [key, Buffer.from(value, 'base64')]));
  addItems(files, `secret "${ref.name}"`, data, ref, mode);
}

function addItems(
  files: Files,
  what: string,
  data: ReadonlyMap<string, Buffer>,
  ref: { items?: KeyItems; optional?: boolean },
  mode: number | undefined,
): void {
  const items = ref.items ?? [...data.keys()].map(key => ({ key, path: key, mode: undefined }));
  for (const item of items) {
    const content = data.get(item.key);
    if (content === undefined) {
      if (ref.optional) continue;
      throw new ContainerConfigError(`${what}: references non-existent key: ${item.key}`);
    }
    files.set(item.path, { content, mode: item.mode ?? mode ?? DEFAULT_MODE });
  }
}

type DownwardItems = NonNullable<Volume['downwardAPI']>['items'];

function addDownward(files: Files, facts: PodFacts, items: DownwardItems, mode: number | undefined): void {
  const container = facts.pod.spec?.containers?.[0];
  for (const item of items ?? []) {
    let text = '';
    if (item.fieldRef) text = fieldValue(facts, item.fieldRef.fieldPath);
    else if (item.resourceFieldRef && container) {
      const { resource, containerName, divisor } = item.resourceFieldRef;
      text = resourceValue(facts, container, {
        resource,
        containerName,
        divisor: divisor === undefined ? undefined : String(divisor),
      });
    }
    files.set(item.path, { content: Buffer.from(text), mode: item.mode ?? mode ?? DEFAULT_MODE });
  }
}

async function addToken(
  files: Files,
  facts: PodFacts,
  ref: { path: string; audience?: string; expirationSeconds?: number },
  mode: number | undefined,
  sources: ProjectionSources,
): Promise<void> {
  const request = { audience: ref.audience, expirationSeconds: ref.expirationSeconds ?? 3600 };
  const token = await sources.token?.(facts.pod, request);
  if (token === undefined) throw new ContainerConfigError('this cluster issues no service account tokens');
  files.set(ref.path, { content: Buffer.from(token), mode: mode ?? DEFAULT_MODE });
}
