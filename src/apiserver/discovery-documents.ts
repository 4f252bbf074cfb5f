// Discovery documents from the registry: the plain ones (/api, /apis, a list per group version) and the aggregated form of
// KEP-3352. Pure.
import type { ResourceDefinition } from '../api/resources.ts';

type Resources = readonly ResourceDefinition[];

/** Groups in the registry's order, each with its versions. */
function groupVersions(resources: Resources): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { group, version } of resources) {
    const versions = groups.get(group) ?? [];
    if (!versions.includes(version)) versions.push(version);
    groups.set(group, versions);
  }
  return groups;
}

const resourcesOf = (resources: Resources, group: string, version: string): ResourceDefinition[] =>
  resources.filter(resource => resource.group === group && resource.version === version);

export function apiVersions(resources: Resources): object {
  return {
    kind: 'APIVersions',
    versions: groupVersions(resources).get('') ?? [],
    serverAddressByClientCIDRs: [],
  };
}

export function apiGroupList(resources: Resources): object {
  const groups = [...groupVersions(resources).keys()]
    .filter(group => group !== '')
    .map(group => groupDocument(resources, group));
  return { kind: 'APIGroupList', apiVersion: 'v1', groups };
}

export function apiGroup(resources: Resources, group: string): object | undefined {
  if (group === '' || !groupVersions(resources).has(group)) return undefined;
  return { kind: 'APIGroup', apiVersion: 'v1', ...groupDocument(resources, group) };
}

function groupDocument(resources: Resources, group: string): object {
  const versions = (groupVersions(resources).get(group) ?? []).map(version => ({
    groupVersion: `${group}/${version}`,
    version,
  }));
  return { name: group, versions, preferredVersion: versions[0] };
}

export function apiResourceList(resources: Resources, group: string, version: string): object | undefined {
  const found = resourcesOf(resources, group, version);
  if (found.length === 0) return undefined;
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? version : `${group}/${version}`,
    resources: found.flatMap(resource => [
      {
        name: resource.plural,
        singularName: resource.singular,
        namespaced: resource.namespaced,
        kind: resource.kind,
        verbs: resource.verbs,
        ...(resource.shortNames.length > 0 ? { shortNames: resource.shortNames } : {}),
        ...(resource.categories.length > 0 ? { categories: resource.categories } : {}),
      },
      ...resource.subresources.map(subresource => ({
        name: `${resource.plural}/${subresource.name}`,
        singularName: '',
        namespaced: resource.namespaced,
        ...(subresource.group === undefined
          ? {}
          : { group: subresource.group, version: subresource.version }),
        kind: subresource.kind,
        verbs: subresource.verbs,
      })),
    ]),
  };
}

/** apidiscovery.k8s.io/v2 APIGroupDiscoveryList of the core group (`api`) or of all others (`apis`). */
export function aggregatedDiscovery(resources: Resources, root: 'api' | 'apis'): object {
  const items = [...groupVersions(resources)]
    .filter(([group]) => (group === '') === (root === 'api'))
    .map(([group, versions]) => ({
      metadata: group === '' ? { creationTimestamp: null } : { name: group, creationTimestamp: null },
      versions: versions.map(version => ({
        version,
        freshness: 'Current',
        resources: resourcesOf(resources, group, version).map(aggregatedResource),
      })),
    }));
  return { kind: 'APIGroupDiscoveryList', apiVersion: 'apidiscovery.k8s.io/v2', metadata: {}, items };
}

function aggregatedResource(resource: ResourceDefinition): object {
  const { group, version, kind } = resource;
  return {
    resource: resource.plural,
    responseKind: { group, version, kind },
    scope: resource.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: resource.singular,
    verbs: resource.verbs,
    ...(resource.shortNames.length > 0 ? { shortNames: resource.shortNames } : {}),
    ...(resource.categories.length > 0 ? { categories: resource.categories } : {}),
    ...(resource.subresources.length > 0
      ? {
          subresources: resource.subresources.map(subresource => ({
            subresource: subresource.name,
            responseKind: {
              group: subresource.group ?? group,
              version: subresource.version ?? version,
              kind: subresource.kind,
            },
            verbs: subresource.verbs,
          })),
        }
      : {}),
  };
}
