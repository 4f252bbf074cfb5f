import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServiceModel } from '../../../proxy/model/model.ts';
import { judgePacket, type ProxyPacket, type VerdictContext } from '../../../proxy/model/verdict.ts';
import { endpoint, service, slice } from './object-fixtures.ts';

const CONTEXT: VerdictContext = {
  nodeAddresses: new Set(['192.168.1.1', '127.0.0.1', '10.1.0.1']),
  isLocalPod: source => source.startsWith('10.1.'),
  masqueradeAll: false,
  localhostNodePorts: true,
};

function model(): ServiceModel {
  const made = new ServiceModel({ name: 'here' }, [4]);
  made.upsertService(
    service('a/web', {
      type: 'LoadBalancer',
      clusterIP: '10.96.0.1',
      ports: [{ name: 'http', port: 80, nodePort: 30080 }],
      externalTrafficPolicy: 'Local',
      sessionAffinity: 'ClientIP',
      loadBalancer: [{ ip: '198.51.100.1' }],
      loadBalancerSourceRanges: ['203.0.113.0/24'],
    }),
  );
  made.upsertSlice(slice('a/web', [endpoint('10.1.9.1', { node: 'there' })], [{ name: 'http', port: 8080 }]));
  made.upsertService(service('a/empty', { clusterIP: '10.96.0.2', ports: [{ port: 80 }] }));
  made.update();
  return made;
}

function judge(source: string, destination: string, destinationPort = 80, context = CONTEXT) {
  const packet: ProxyPacket = { protocol: 'TCP', source, destination, destinationPort };
  return judgePacket(packet, model().ports(), context);
}

test('each verdict says why', () => {
  const cases: [source: string, destination: string, port: number, action: string, reason: RegExp][] = [
    ['10.1.0.5', '10.96.0.1', 80, 'endpoint', /every endpoint may get it/],
    ['203.0.113.5', '10.96.0.1', 80, 'endpoint', /is no pod, so the answer must come back this way/],
    ['10.1.0.5', '10.96.0.2', 80, 'reject', /no endpoint that is ready/],
    ['10.1.0.5', '10.96.0.1', 81, 'pass', /no Service answers on 10\.96\.0\.1:81/],
    ['203.0.113.5', '198.51.100.1', 80, 'drop', /Local and this node has none/],
    ['8.8.8.8', '198.51.100.1', 80, 'drop', /in none of loadBalancerSourceRanges/],
    ['8.8.8.8', '192.168.1.1', 30080, 'drop', /Local and this node has none/],
    ['10.1.0.5', '192.168.1.1', 30080, 'endpoint', /a pod of the cluster is not external/],
    ['192.168.1.1', '192.168.1.1', 30080, 'endpoint', /the node itself is not external/],
    ['8.8.8.8', '192.168.1.2', 30080, 'pass', /no Service/],
  ];
  for (const [source, destination, port, action, reason] of cases) {
    const verdict = judge(source, destination, port);
    assert.equal(verdict.action, action, `${source} → ${destination}:${port}`);
    assert.match(verdict.reasons.join('; '), reason);
  }
});

test('masquerade, affinity and localhost', () => {
  assert.equal(judge('10.1.0.5', '10.96.0.1').masquerade, false);
  assert.equal(judge('203.0.113.5', '10.96.0.1').masquerade, true);
  assert.equal(judge('10.1.0.5', '10.96.0.1', 80, { ...CONTEXT, masqueradeAll: true }).masquerade, true);
  assert.equal(judge('10.1.0.5', '10.96.0.1').affinitySeconds, 10_800);
  assert.equal(judge('127.0.0.1', '127.0.0.1', 30080).action, 'endpoint');
  const strict = { ...CONTEXT, localhostNodePorts: false };
  assert.equal(judge('127.0.0.1', '127.0.0.1', 30080, strict).action, 'pass');
});
