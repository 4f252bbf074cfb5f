import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProxyHealth } from '../../../proxy/health/proxy-health.ts';
import { ServiceHealthServer } from '../../../proxy/health/service-health.ts';
import { ServiceModel } from '../../../proxy/model/model.ts';
import { isStale, type UdpFlow, UdpFrontends } from '../../../proxy/model/stale-flows.ts';
import { sysClose } from '../../../src/linux/ffi.ts';
import { boundPort, listenTcp } from '../../../src/linux/listen.ts';
import { endpoint, service, slice } from './object-fixtures.ts';

test('healthy until a change waits twice the sync period; ready after the first sync', () => {
  let now = 1000;
  const health = new ProxyHealth(100, () => now);
  assert.deepEqual([health.healthz().status, health.livez().status, health.readyz().status], [200, 200, 503]);
  health.queued();
  now += 150;
  health.queued();
  assert.equal(health.livez().status, 200);
  now += 60;
  assert.equal(health.livez().status, 503);
  health.updated();
  assert.deepEqual([health.healthz().status, health.livez().status, health.readyz().status], [200, 200, 200]);
});

test('a node that is going away fails healthz, not livez', () => {
  const health = new ProxyHealth(100, () => 0);
  health.setNode({ spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }] } });
  assert.deepEqual([health.healthz().status, health.livez().status], [503, 200]);
  assert.equal(health.healthz().body.nodeEligible, false);
  health.setNode({ metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } });
  assert.equal(health.healthz().status, 503);
  health.setNode({});
  assert.equal(health.healthz().status, 200);
});

test('the health check port answers 200 with local endpoints, 503 without, and closes with its Service', async () => {
  const probe = listenTcp({ address: '127.0.0.1', port: 0 });
  const port = boundPort(probe);
  sysClose(probe);
  let healthy = true;
  const server = new ServiceHealthServer({ addresses: ['127.0.0.1'], proxyHealthy: () => healthy });
  const ask = async (): Promise<[number, unknown, string | null]> => {
    const response = await fetch(`http://127.0.0.1:${port}/`);
    return [response.status, await response.json(), response.headers.get('x-load-balancing-endpoint-weight')];
  };
  const body = (localEndpoints: number, serviceProxyHealthy = true) => ({
    service: { namespace: 'a', name: 's' },
    localEndpoints,
    serviceProxyHealthy,
  });
  const check = { namespace: 'a', name: 's', port };
  server.sync([{ ...check, localEndpoints: 2 }]);
  assert.deepEqual(await ask(), [200, body(2), '2']);
  server.sync([{ ...check, localEndpoints: 0 }]);
  assert.deepEqual(await ask(), [503, body(0), '0']);
  server.sync([{ ...check, localEndpoints: 1 }]);
  healthy = false;
  assert.equal((await ask())[0], 503);
  server.sync([]);
  await assert.rejects(ask());
  server.close();
});

test('stale UDP flows: by address and port, with none or other endpoints, and of deleted Services', () => {
  const model = new ServiceModel({ name: 'here' });
  const udp = (key: string, clusterIP: string, port: number, nodePort?: number) =>
    service(key, {
      type: 'NodePort',
      clusterIP,
      ports: [{ port, protocol: 'UDP', nodePort }],
      externalIPs: ['192.168.9.9'],
    });
  model.upsertService(udp('a/dns', '10.96.0.1', 53, 30053));
  model.upsertSlice(
    slice(
      'a/dns',
      [endpoint('10.1.0.1'), endpoint('10.1.0.2', { ready: false, serving: true, terminating: true })],
      [{ port: 5353, protocol: 'UDP' }],
    ),
  );
  model.upsertService(udp('a/other', '10.96.0.2', 54));
  model.upsertService(udp('a/gone', '10.96.0.3', 55));
  model.upsertSlice(slice('a/gone', [endpoint('10.1.0.9')], [{ port: 9, protocol: 'UDP' }]));
  model.update();
  const gone = new UdpFrontends();
  for (const resolved of model.portsOf('a/gone')) gone.add(resolved);
  model.deleteService('a', 'gone');
  model.update();
  const now = new UdpFrontends();
  for (const resolved of model.ports()) now.add(resolved);
  const flow = (
    destination: string,
    destinationPort: number,
    source: string,
    sourcePort: number,
  ): UdpFlow => ({
    original: { source: '10.1.7.7', sourcePort: 1234, destination, destinationPort },
    reply: { source, sourcePort },
  });
  const stale = (one: UdpFlow): boolean => isStale(one, now, gone, ip => ip === '172.16.0.1');
  assert.equal(stale(flow('10.96.0.1', 53, '10.1.0.1', 5353)), false);
  assert.equal(stale(flow('10.96.0.1', 53, '10.1.0.2', 5353)), false, 'still serving while it terminates');
  assert.equal(stale(flow('10.96.0.1', 53, '10.1.0.3', 5353)), true);
  assert.equal(stale(flow('10.96.0.1', 53, '10.1.0.1', 53)), true, 'target port changed');
  assert.equal(stale(flow('10.96.0.1', 53, '10.96.0.1', 53)), true, 'never translated');
  assert.equal(stale(flow('10.96.0.1', 99, '10.1.0.3', 99)), false, 'not a port of the Service');
  assert.equal(stale(flow('192.168.9.9', 53, '10.1.0.1', 5353)), false);
  assert.equal(
    stale(flow('192.168.9.9', 54, '10.1.0.1', 5353)),
    true,
    'the other Service on that address has no endpoints',
  );
  assert.equal(stale(flow('172.16.0.1', 30053, '10.1.0.3', 5353)), true);
  assert.equal(
    stale(flow('8.8.8.8', 30053, '8.8.8.8', 30053)),
    false,
    "somebody else's port of the same number",
  );
  assert.equal(stale(flow('10.96.0.3', 55, '10.1.0.9', 9)), true, 'deleted Service');
  assert.equal(stale(flow('10.96.0.3', 55, '10.96.0.3', 55)), false);
  // Deleted before this program ran: the Services' own network tells, or what was found in the kernel.
  const inNetwork = (one: UdpFlow): boolean =>
    isStale(
      one,
      now,
      gone,
      () => false,
      ip => ip.startsWith('10.96.'),
    );
  assert.equal(stale(flow('10.96.0.77', 53, '10.1.0.9', 53)), false);
  assert.equal(inNetwork(flow('10.96.0.77', 53, '10.1.0.9', 53)), true);
  assert.equal(inNetwork(flow('10.96.0.77', 53, '10.96.0.77', 53)), false, 'never translated');
  assert.equal(inNetwork(flow('10.97.0.77', 53, '10.1.0.9', 53)), false, "somebody else's DNAT");
  gone.addForgotten(4, '198.51.100.4', 53);
  gone.addForgotten(4, undefined, 30099);
  assert.equal(stale(flow('198.51.100.4', 53, '10.1.0.9', 53)), true);
  assert.equal(stale(flow('172.16.0.1', 30099, '10.1.0.9', 53)), true);
  assert.equal(stale(flow('172.16.0.2', 30099, '10.1.0.9', 53)), false);
});
