// What is said of a flow, on the model that the proxy itself uses.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServiceModel } from '../../../proxy/model/model.ts';
import { explainFlow, type Flow, formatExplanation } from '../../../src/explain/service.ts';
import { type EndpointOptions, endpoint, service, slice } from '../proxy/object-fixtures.ts';

function explain(
  spec: Parameters<typeof service>[1],
  endpoints: Parameters<typeof slice>[1],
  flow: Partial<Flow> & Pick<Flow, 'destination' | 'port'>,
) {
  const model = new ServiceModel({ name: 'node' });
  model.upsertService(service('default/web', spec));
  model.upsertSlice(slice('default/web', endpoints, [{ port: 80 }]));
  model.update();
  return explainFlow(
    { source: '10.244.1.9', protocol: 'TCP', ...flow },
    {
      ports: model.ports(),
      candidates: port => model.candidates(port),
      nodeIps: ['192.0.2.1'],
      clusterCidrs: ['10.244.0.0/16'],
    },
  );
}

const web = { clusterIP: '10.96.0.9', ports: [{ port: 80 }] };
const here = (ip: string, conditions: EndpointOptions = {}) => endpoint(ip, { node: 'node', ...conditions });
const there = (ip: string, conditions: EndpointOptions = {}) =>
  endpoint(ip, { node: 'other', ...conditions });
const why = (result: ReturnType<typeof explain>) =>
  result.endpoints.map(each => `${each.endpoint} ${each.why}`);

test('a ready endpoint each gets its share; the caller itself is a hairpin', () => {
  const result = explain(web, [here('10.244.1.9'), there('10.244.2.2')], {
    destination: '10.96.0.9',
    port: 80,
  });
  assert.equal(result.verdict, 'forwarded');
  assert.deepEqual(
    result.endpoints.map(each => [each.share, each.masqueraded]),
    [
      [0.5, true],
      [0.5, false],
    ],
  );
  assert.match(
    formatExplanation(result),
    /50 % {2}10\.244\.1\.9:80 \(this node\): ready; it is the caller itself/,
  );
});

test('not ready, terminating, local only: each refusal has its reason', () => {
  const gone = { ready: false, serving: false, terminating: true };
  const serving = { ready: false, serving: true, terminating: true };
  const result = explain(
    { ...web, internalTrafficPolicy: 'Local' },
    [
      here('10.244.1.2'),
      here('10.244.1.3', { ready: false }),
      here('10.244.1.4', gone),
      here('10.244.1.5', serving),
      there('10.244.2.2'),
    ],
    { destination: '10.96.0.9', port: 80 },
  );
  assert.deepEqual(why(result), [
    '10.244.1.2:80 ready',
    '10.244.1.3:80 not ready',
    '10.244.1.4:80 terminating and no longer serving',
    '10.244.1.5:80 terminating, and others are ready',
    '10.244.2.2:80 on another node, and the policy is Local',
  ]);
});

test('no endpoint: rejected; local policy without a local one: dropped; another port: untouched', () => {
  const to = { destination: '10.96.0.9', port: 80 };
  assert.equal(explain(web, [], to).verdict, 'rejected');
  assert.equal(
    explain({ ...web, internalTrafficPolicy: 'Local' }, [there('10.244.2.2')], to).verdict,
    'dropped',
  );
  assert.equal(explain(web, [there('10.244.2.2')], { ...to, port: 81 }).verdict, 'untouched');
});

test('source ranges of a load balancer', () => {
  const balanced = {
    ...web,
    type: 'LoadBalancer',
    loadBalancerSourceRanges: ['203.0.113.0/24'],
    loadBalancer: [{ ip: '198.51.100.1' }],
  };
  const model = new ServiceModel({ name: 'node' });
  model.upsertService(service('default/web', balanced));
  model.upsertSlice(slice('default/web', [there('10.244.2.2')], [{ port: 80 }]));
  model.update();
  const verdict = (source: string) =>
    explainFlow(
      { source, destination: '198.51.100.1', port: 80, protocol: 'TCP' },
      {
        ports: model.ports(),
        candidates: port => model.candidates(port),
        nodeIps: ['192.0.2.1'],
        clusterCidrs: ['10.244.0.0/16'],
      },
    ).verdict;
  assert.equal(verdict('203.0.113.7'), 'forwarded');
  assert.equal(verdict('192.0.2.77'), 'dropped');
});
