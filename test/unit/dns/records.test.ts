// Names of the Kubernetes DNS specification (kubernetes/dns docs/specification.md 1.1.0), section by section.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseReverseName, type RecordType, ServiceRecords } from '../../../src/dns/records.ts';

const records = new ServiceRecords('cluster.local');
records.setService({
  metadata: { namespace: 'default', name: 'hello' },
  spec: {
    clusterIP: '10.96.0.9',
    clusterIPs: ['10.96.0.9', 'fd00:10:96::9'],
    ports: [{ name: 'http', port: 80 }],
  },
});
records.setService({
  metadata: { namespace: 'db', name: 'mysql' },
  spec: { clusterIP: 'None', clusterIPs: ['None'], ports: [{ name: 'sql', port: 3306 }] },
});
records.setService({
  metadata: { namespace: 'default', name: 'outside' },
  spec: { type: 'ExternalName', externalName: 'db.example.com' },
});
records.setSlice({
  addressType: 'IPv4',
  metadata: { namespace: 'db', name: 'mysql-1', labels: { 'kubernetes.io/service-name': 'mysql' } },
  ports: [{ name: 'sql', port: 3306 }],
  endpoints: [
    { addresses: ['10.244.1.2'], hostname: 'mysql-0', conditions: { ready: true } },
    { addresses: ['10.244.2.2'], hostname: 'mysql-1', conditions: { ready: false } },
  ],
});

function data(name: string, type: RecordType): unknown[] | string {
  const result = records.resolve(name, type);
  if (!result) return 'not ours';
  if (!result.exists) return 'NXDOMAIN';
  return result.answers.map(answer => answer.data);
}

describe('2.3 services with a cluster IP', () => {
  test('A and AAAA give the cluster IPs of their family', () => {
    assert.deepEqual(data('hello.default.svc.cluster.local', 'A'), ['10.96.0.9']);
    assert.deepEqual(data('hello.default.svc.cluster.local', 'AAAA'), ['fd00:10:96::9']);
  });
  test('names are compared without regard to case', () => {
    assert.deepEqual(data('Hello.DEFAULT.svc.Cluster.Local', 'A'), ['10.96.0.9']);
  });
  test('SRV names the service as target', () => {
    assert.deepEqual(data('_http._tcp.hello.default.svc.cluster.local', 'SRV'), [
      { port: 80, priority: 0, weight: 100, target: 'hello.default.svc.cluster.local' },
    ]);
    assert.equal(data('_http._udp.hello.default.svc.cluster.local', 'SRV'), 'NXDOMAIN');
  });
  test('PTR', () => {
    assert.deepEqual(data('9.0.96.10.in-addr.arpa', 'PTR'), ['hello.default.svc.cluster.local']);
    assert.equal(data('1.2.3.4.in-addr.arpa', 'PTR'), 'not ours');
  });
});

describe('2.4 headless services', () => {
  test('only ready endpoints, by service and by hostname', () => {
    assert.deepEqual(data('mysql.db.svc.cluster.local', 'A'), ['10.244.1.2']);
    assert.deepEqual(data('mysql-0.mysql.db.svc.cluster.local', 'A'), ['10.244.1.2']);
    assert.equal(data('mysql-1.mysql.db.svc.cluster.local', 'A'), 'NXDOMAIN');
  });
  test('a family without endpoints is NODATA, not NXDOMAIN', () => {
    assert.deepEqual(data('mysql.db.svc.cluster.local', 'AAAA'), []);
  });
  test('SRV names each endpoint', () => {
    assert.deepEqual(data('_sql._tcp.mysql.db.svc.cluster.local', 'SRV'), [
      { port: 3306, priority: 0, weight: 100, target: 'mysql-0.mysql.db.svc.cluster.local' },
    ]);
  });
});

test('2.5 external names are CNAMEs', () => {
  assert.deepEqual(data('outside.default.svc.cluster.local', 'A'), ['db.example.com']);
});

test('what is not there, and what is not ours', () => {
  assert.equal(data('nothing.default.svc.cluster.local', 'A'), 'NXDOMAIN');
  assert.equal(data('example.com', 'A'), 'not ours');
  assert.deepEqual(data('svc.cluster.local', 'A'), []);
  assert.deepEqual(data('10-244-1-7.default.pod.cluster.local', 'A'), ['10.244.1.7']);
});

test('a deleted service and slice leave nothing', () => {
  const own = new ServiceRecords('cluster.local');
  const service = { metadata: { namespace: 'a', name: 'b' }, spec: { clusterIPs: ['10.96.0.1'] } };
  own.setService(service);
  own.deleteService(service);
  assert.equal(own.resolve('b.a.svc.cluster.local', 'A')?.exists, false);
  assert.equal(own.resolve('1.0.96.10.in-addr.arpa', 'PTR'), undefined);
});

test('reverse names', () => {
  assert.equal(parseReverseName('4.3.2.1.in-addr.arpa'), '1.2.3.4');
  const v6 = '9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa';
  assert.equal(parseReverseName(v6), 'fd00:10:96::9');
  assert.equal(parseReverseName('example.com'), undefined);
});
