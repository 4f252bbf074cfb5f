// What an API server serves: every resource with its kind and verbs, by plain discovery (any server has it).
// Source: meta/v1 APIGroupList, APIResourceList.
import type { KubeObject } from '../api/types.ts';
import type { KubeClient } from './client.ts';
import type { TypedRef } from './resources.ts';

export interface DiscoveredResource {
  ref: TypedRef<KubeObject>;
  kind: string;
  verbs: readonly string[];
}

interface ApiResourceList {
  resources?: { name: string; namespaced: boolean; kind: string; verbs?: string[] }[];
}
interface ApiGroupList {
  groups?: {
    name: string;
    preferredVersion?: { groupVersion: string };
    versions: { groupVersion: string }[];
  }[];
}

async function getJson<R>(client: KubeClient, path: string, signal?: AbortSignal): Promise<R> {
  const response = await client.request('GET', path, { signal });
  return JSON.parse(await response.text()) as R;
}

/**
 * All resources of the core group and of every group's preferred version, without subresources. A group whose server
 * does not answer (an aggregated one) is named in `failed`; the rest is good.
 */
export async function discoverResources(
  client: KubeClient,
  signal?: AbortSignal,
): Promise<{ resources: DiscoveredResource[]; failed: string[] }> {
  const { groups = [] } = await getJson<ApiGroupList>(client, '/apis', signal);
  const groupVersions = [
    'v1',
    ...groups.flatMap(group => group.preferredVersion?.groupVersion ?? group.versions[0]?.groupVersion ?? []),
  ];
  const failed: string[] = [];
  const lists = await Promise.all(
    groupVersions.map(async groupVersion => {
      const path = groupVersion.includes('/') ? `/apis/${groupVersion}` : `/api/${groupVersion}`;
      try {
        return resourcesOf(groupVersion, await getJson<ApiResourceList>(client, path, signal));
      } catch {
        failed.push(groupVersion);
        return [];
      }
    }),
  );
  return { resources: lists.flat(), failed };
}

function resourcesOf(groupVersion: string, list: ApiResourceList): DiscoveredResource[] {
  const slash = groupVersion.indexOf('/');
  const group = slash < 0 ? '' : groupVersion.slice(0, slash);
  const version = groupVersion.slice(slash + 1);
  return (list.resources ?? [])
    .filter(({ name }) => !name.includes('/'))
    .map(({ name, namespaced, kind, verbs = [] }) => ({
      ref: Object.freeze({ group, version, plural: name, namespaced, kind }),
      kind,
      verbs,
    }));
}
