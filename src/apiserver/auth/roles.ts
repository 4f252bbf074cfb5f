// The built-in roles as a table of rules in RBAC's terms (rbac/v1 PolicyRule): least privilege for each component.
// Who a node is allowed to be depends on the objects, so nodes are judged by node-authorizer.ts instead.

export interface PolicyRule {
  verbs: readonly string[];
  /** `*` is every group. */
  groups?: readonly string[];
  /** RESOURCE or RESOURCE/SUBRESOURCE; either part may be a star, and a star alone covers no subresource. */
  resources?: readonly string[];
  names?: readonly string[];
  namespaces?: readonly string[];
  /** Non-resource paths; a trailing `*` stands for any rest. */
  paths?: readonly string[];
}

export interface Binding {
  users?: readonly string[];
  groups?: readonly string[];
  rules: readonly PolicyRule[];
}

const READ = ['get', 'list', 'watch'];
const EVENTS: PolicyRule = {
  verbs: ['create', 'patch', 'update'],
  groups: ['', 'events.k8s.io'],
  resources: ['events'],
};
const LEASES: PolicyRule = {
  verbs: ['create', 'get', 'update', 'patch', 'list', 'watch'],
  groups: ['coordination.k8s.io'],
  resources: ['leases'],
  namespaces: ['kube-system'],
};

/** Requests anybody may make, even without credentials: is the server there, is it well, what is it. */
const PUBLIC_PATHS = [
  '/healthz',
  '/healthz/*',
  '/livez',
  '/livez/*',
  '/readyz',
  '/readyz/*',
  '/version',
  '/version/',
];
const DISCOVERY_PATHS = ['/api', '/api/*', '/apis', '/apis/*', '/openapi', '/openapi/*'];

export const BINDINGS: readonly Binding[] = [
  {
    groups: ['system:masters'],
    rules: [
      { verbs: ['*'], groups: ['*'], resources: ['*', '*/*'] },
      { verbs: ['*'], paths: ['*'] },
    ],
  },
  {
    groups: ['system:authenticated', 'system:unauthenticated'],
    rules: [{ verbs: ['get', 'head'], paths: PUBLIC_PATHS }],
  },
  {
    groups: ['system:authenticated'],
    rules: [
      { verbs: ['get', 'head'], paths: DISCOVERY_PATHS },
      {
        verbs: ['create'],
        groups: ['authorization.k8s.io'],
        resources: ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'],
      },
      { verbs: ['create'], groups: ['authentication.k8s.io'], resources: ['selfsubjectreviews'] },
    ],
  },
  {
    groups: ['system:monitoring'],
    rules: [{ verbs: ['get'], paths: ['/metrics'] }],
  },
  {
    users: ['system:kube-proxy'],
    rules: [
      { verbs: READ, groups: [''], resources: ['nodes', 'services', 'endpoints'] },
      { verbs: READ, groups: ['discovery.k8s.io'], resources: ['endpointslices'] },
      { verbs: READ, groups: ['networking.k8s.io'], resources: ['servicecidrs'] },
      EVENTS,
    ],
  },
  {
    users: ['system:kube-scheduler'],
    rules: [
      { verbs: [...READ, 'delete'], groups: [''], resources: ['pods'] },
      { verbs: ['create'], groups: [''], resources: ['pods/binding', 'bindings'] },
      { verbs: ['patch', 'update'], groups: [''], resources: ['pods/status'] },
      {
        verbs: READ,
        groups: [''],
        resources: [
          'nodes',
          'namespaces',
          'services',
          'replicationcontrollers',
          'persistentvolumes',
          'persistentvolumeclaims',
        ],
      },
      { verbs: READ, groups: ['apps'], resources: ['replicasets', 'statefulsets'] },
      { verbs: READ, groups: ['policy'], resources: ['poddisruptionbudgets'] },
      { verbs: READ, groups: ['storage.k8s.io', 'scheduling.k8s.io', 'resource.k8s.io'], resources: ['*'] },
      LEASES,
      EVENTS,
    ],
  },
  {
    users: ['system:kube-controller-manager'],
    rules: [
      // The garbage collector and the namespace controller must see and remove objects of every kind.
      {
        verbs: [...READ, 'update', 'patch', 'delete', 'deletecollection'],
        groups: ['*'],
        resources: ['*', '*/status', '*/scale', '*/finalizers', '*/finalize'],
      },
      {
        verbs: ['create'],
        groups: [''],
        resources: [
          'pods',
          'endpoints',
          'configmaps',
          'serviceaccounts',
          'persistentvolumes',
          'pods/eviction',
        ],
      },
      { verbs: ['create'], groups: ['apps'], resources: ['replicasets', 'controllerrevisions'] },
      { verbs: ['create'], groups: ['batch'], resources: ['jobs'] },
      { verbs: ['create'], groups: ['discovery.k8s.io'], resources: ['endpointslices'] },
      LEASES,
      EVENTS,
    ],
  },
];

export interface ResourceAttributes {
  verb: string;
  group: string;
  /** With the subresource after a slash. */
  resource: string;
  namespace: string;
  name: string;
}

export function ruleAllowsResource(rule: PolicyRule, asked: ResourceAttributes): boolean {
  if (!rule.resources || !rule.groups) return false;
  if (!has(rule.verbs, asked.verb) || !has(rule.groups, asked.group)) return false;
  if (rule.names && !rule.names.includes(asked.name)) return false;
  if (rule.namespaces && !rule.namespaces.includes(asked.namespace)) return false;
  const [resource, subresource] = asked.resource.split('/');
  return rule.resources.some(pattern => {
    const [patternResource, patternSubresource] = pattern.split('/');
    if (patternResource !== '*' && patternResource !== resource) return false;
    return patternSubresource === subresource || (patternSubresource === '*' && subresource !== undefined);
  });
}

export function ruleAllowsPath(rule: PolicyRule, verb: string, path: string): boolean {
  if (!rule.paths || !has(rule.verbs, verb)) return false;
  return rule.paths.some(pattern =>
    pattern.endsWith('*') ? path.startsWith(pattern.slice(0, -1)) : path === pattern,
  );
}

function has(list: readonly string[], value: string): boolean {
  return list.includes('*') || list.includes(value);
}
