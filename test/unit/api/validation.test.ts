// Messages as kubectl shows them: the words are part of the API.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resourceOf } from '../../../src/api/resources.ts';
import { causeText, invalid } from '../../../src/api/status.ts';
import type { KubeObject } from '../../../src/api/types.ts';
import type { JsonObject } from '../../../src/lib/json.ts';

const META = { name: 'x', namespace: 'ns' };
const container = (more: JsonObject = {}): JsonObject => ({ name: 'c', image: 'nginx:1', ...more });
const pod = (spec: JsonObject): JsonObject => ({
  metadata: META,
  spec: { containers: [container()], ...spec },
});
const workload = (spec: JsonObject): JsonObject => ({
  metadata: META,
  spec: {
    selector: { matchLabels: { a: 'b' } },
    template: { metadata: { labels: { a: 'b' } }, spec: { containers: [container()] } },
    ...spec,
  },
});
const service = (spec: JsonObject): JsonObject => ({ metadata: META, spec });

function complaints(apiVersion: string, kind: string, object: JsonObject, old?: JsonObject): string[] {
  const definition = resourceOf(apiVersion, kind);
  const [now, before] = [structuredClone(object), old && structuredClone(old)] as unknown as (
    | KubeObject
    | undefined
  )[];
  definition.defaults(now as KubeObject);
  if (before) definition.defaults(before);
  return definition.validate(now as KubeObject, before).map(causeText);
}

const CASES: [title: string, apiVersion: string, kind: string, object: JsonObject, expected: string[]][] = [
  ['a good pod', 'v1', 'Pod', pod({}), []],
  ['a pod without containers', 'v1', 'Pod', pod({ containers: [] }), ['spec.containers: Required value']],
  [
    'a container name twice',
    'v1',
    'Pod',
    pod({ containers: [container(), container()] }),
    ['spec.containers[1].name: Duplicate value: "c"'],
  ],
  [
    'no image, a bad pull policy',
    'v1',
    'Pod',
    pod({ containers: [{ name: 'c', imagePullPolicy: 'Sometimes' }] }),
    [
      'spec.containers[0].image: Required value',
      'spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"',
    ],
  ],
  [
    'a mount of a volume that is not there',
    'v1',
    'Pod',
    pod({ containers: [container({ volumeMounts: [{ name: 'v', mountPath: '/v' }] })] }),
    ['spec.containers[0].volumeMounts[0].name: Not found: "v"'],
  ],
  [
    'two sources in a volume',
    'v1',
    'Pod',
    pod({ volumes: [{ name: 'v', emptyDir: {}, hostPath: { path: '/x' } }] }),
    ['spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type'],
  ],
  [
    'a request above its limit',
    'v1',
    'Pod',
    pod({ containers: [container({ resources: { requests: { cpu: '2' }, limits: { cpu: '1' } } })] }),
    [
      'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
    ],
  ],
  [
    'a probe without handler',
    'v1',
    'Pod',
    pod({ containers: [container({ livenessProbe: { periodSeconds: 3 } })] }),
    ['spec.containers[0].livenessProbe: Required value: must specify a handler type'],
  ],
  [
    'a port out of range',
    'v1',
    'Pod',
    pod({ containers: [container({ ports: [{ containerPort: 70000 }] })] }),
    [
      'spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive',
    ],
  ],
  ['a good service', 'v1', 'Service', service({ ports: [{ port: 80 }] }), []],
  ['a service without ports', 'v1', 'Service', service({}), ['spec.ports: Required value']],
  ['a headless service needs none', 'v1', 'Service', service({ clusterIP: 'None' }), []],
  [
    'a service port of 0, and a node port on a ClusterIP service',
    'v1',
    'Service',
    service({ ports: [{ port: 0, targetPort: 1, nodePort: 30000 }] }),
    [
      'spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive',
      "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
    ],
  ],
  [
    'several ports need names, and differ',
    'v1',
    'Service',
    service({ ports: [{ port: 80, name: 'a' }, { port: 80, name: 'a' }, { port: 81 }] }),
    [
      'spec.ports[1].name: Duplicate value: "a"',
      'spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}',
      'spec.ports[2].name: Required value',
    ],
  ],
  [
    'an unknown service type',
    'v1',
    'Service',
    service({ type: 'Magic', ports: [{ port: 1 }] }),
    [
      'spec.type: Unsupported value: "Magic": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
    ],
  ],
  [
    'an ExternalName without a name',
    'v1',
    'Service',
    service({ type: 'ExternalName' }),
    ['spec.externalName: Required value'],
  ],
  ['a good deployment', 'apps/v1', 'Deployment', workload({}), []],
  [
    'a template that its selector does not select',
    'apps/v1',
    'Deployment',
    workload({ selector: { matchLabels: { a: 'z' } } }),
    [
      'spec.template.metadata.labels: Invalid value: map[string]string{"a":"b"}: `selector` does not match template `labels`',
    ],
  ],
  [
    'negative replicas, no way to roll',
    'apps/v1',
    'Deployment',
    workload({ replicas: -1, strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 0 } } }),
    [
      'spec.replicas: Invalid value: -1: must be greater than or equal to 0',
      'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0',
    ],
  ],
  [
    'a deployment of pods that end',
    'apps/v1',
    'Deployment',
    workload({
      template: {
        metadata: { labels: { a: 'b' } },
        spec: { restartPolicy: 'Never', containers: [container()] },
      },
    }),
    ['spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'],
  ],
  [
    'a job must end',
    'batch/v1',
    'Job',
    { metadata: META, spec: { template: { spec: { containers: [container()] } } } },
    ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'],
  ],
  [
    'an endpoint slice of the wrong family',
    'discovery.k8s.io/v1',
    'EndpointSlice',
    { metadata: META, addressType: 'IPv4', endpoints: [{ addresses: ['fd00::1'] }], ports: [{ port: 0 }] },
    [
      'endpoints[0].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address',
      'ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive',
    ],
  ],
  [
    'a config key with a space',
    'v1',
    'ConfigMap',
    { metadata: META, data: { 'a b': '' } },
    [
      "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or 'KEY_NAME', or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    ],
  ],
  [
    'a TLS secret without its key',
    'v1',
    'Secret',
    { metadata: META, type: 'kubernetes.io/tls', data: { 'tls.crt': '' } },
    ['data[tls.key]: Required value'],
  ],
  [
    'a schedule of four fields',
    'batch/v1',
    'CronJob',
    {
      metadata: META,
      spec: {
        schedule: '* * * *',
        jobTemplate: { spec: { template: { spec: { restartPolicy: 'Never', containers: [container()] } } } },
      },
    },
    ['spec.schedule: Invalid value: "* * * *": expected exactly 5 fields, found 4: [* * * *]'],
  ],
];

for (const [title, apiVersion, kind, object, expected] of CASES)
  test(title, () => assert.deepEqual(complaints(apiVersion, kind, object), expected));

test('what may not change: selector, cluster IP, pod spec, role', () => {
  assert.deepEqual(
    complaints(
      'apps/v1',
      'ReplicaSet',
      workload({
        template: { metadata: { labels: { a: 'c' } }, spec: { containers: [container()] } },
        selector: { matchLabels: { a: 'c' } },
      }),
      workload({}),
    ),
    ['spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable'],
  );
  assert.deepEqual(
    complaints(
      'v1',
      'Service',
      service({ clusterIP: '10.0.0.2', clusterIPs: ['10.0.0.2'], ports: [{ port: 1 }] }),
      service({ clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1'], ports: [{ port: 1 }] }),
    ),
    ['spec.clusterIPs[0]: Invalid value: []string{"10.0.0.2"}: may not change once set'],
  );
  const [complaint = ''] = complaints('v1', 'Pod', pod({ nodeName: 'b' }), pod({ nodeName: 'a' }));
  assert.match(
    complaint,
    /^spec: Forbidden: pod updates may not change fields other than `spec.containers\[\*\].image`/,
  );
  assert.deepEqual(
    complaints('v1', 'Pod', pod({ containers: [container({ image: 'nginx:2' })] }), pod({})),
    [],
  );
});

test('metadata: names, labels, namespaces', () => {
  assert.deepEqual(complaints('v1', 'ConfigMap', { metadata: { namespace: 'ns' } }), [
    'metadata.name: Required value: name or generateName is required',
  ]);
  assert.deepEqual(complaints('v1', 'Node', { metadata: { name: 'n', namespace: 'ns' } }), [
    'metadata.namespace: Forbidden: not allowed on this type',
  ]);
  const [complaint = ''] = complaints('v1', 'Service', {
    ...service({ ports: [{ port: 1 }] }),
    metadata: { name: '1x', namespace: 'ns' },
  });
  assert.match(complaint, /^metadata.name: Invalid value: "1x": a DNS-1035 label must consist of/);
  const [label = ''] = complaints('v1', 'ConfigMap', { metadata: { ...META, labels: { '-a': 'b' } } });
  assert.match(label, /^metadata.labels: Invalid value: "-a": name part must consist of/);
});

test('one cause reads plainly, several in brackets', () => {
  const subject = { group: 'apps', plural: 'deployments', kind: 'Deployment' };
  const cause = (field: string) => ({ field, reason: 'FieldValueRequired', message: 'Required value' });
  assert.equal(
    invalid(subject, 'x', [cause('a')]).message,
    'Deployment.apps "x" is invalid: a: Required value',
  );
  assert.equal(
    invalid(subject, 'x', [cause('a'), cause('b')]).message,
    'Deployment.apps "x" is invalid: [a: Required value, b: Required value]',
  );
});

test('defaults of a pod are those of Kubernetes', () => {
  const object = pod({
    containers: [
      container({
        image: 'nginx',
        ports: [{ containerPort: 80 }],
        readinessProbe: { httpGet: { port: 80 } },
      }),
    ],
    volumes: [{ name: 'v' }],
  });
  resourceOf('v1', 'Pod').defaults(object as unknown as KubeObject);
  assert.deepEqual(object.spec, {
    containers: [
      {
        name: 'c',
        image: 'nginx',
        imagePullPolicy: 'Always',
        ports: [{ containerPort: 80, protocol: 'TCP' }],
        readinessProbe: {
          httpGet: { port: 80, path: '/', scheme: 'HTTP' },
          timeoutSeconds: 1,
          periodSeconds: 10,
          successThreshold: 1,
          failureThreshold: 3,
        },
        resources: {},
        terminationMessagePath: '/dev/termination-log',
        terminationMessagePolicy: 'File',
      },
    ],
    volumes: [{ name: 'v', emptyDir: {} }],
    dnsPolicy: 'ClusterFirst',
    enableServiceLinks: true,
    restartPolicy: 'Always',
    schedulerName: 'default-scheduler',
    securityContext: {},
    terminationGracePeriodSeconds: 30,
  });
});
