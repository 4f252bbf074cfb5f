import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import type { ProxyStatus, ReportedPort } from '../../../src/agent/proxy-report.ts';
import { proxiesOf } from '../../../src/cmd/proxy-client.ts';
import {
  formatDifferences,
  formatProxyStatus,
  formatServices,
  isWell,
} from '../../../src/cmd/proxy-table.ts';

const STATUS: ProxyStatus = {
  node: 'node1',
  mode: 'nftables',
  backend: 'netlink, table podwire-proxy',
  families: [4, 6],
  ready: true,
  healthz: 200,
  lastSync: { at: '2026-01-01T00:00:00.000Z', full: false, durationMs: 3.2, changedPorts: 1 },
  lastVerified: '2026-01-01T00:00:30.000Z',
  services: 2,
  servicePorts: 4,
  endpoints: 9,
  withoutEndpoints: 1,
  repairs: { count: 3, last: { at: '2026-01-01T00:00:10.000Z', what: 'chain services missing' } },
  problems: ['Service default/bad: clusterIP 1.2.3.4 belongs to default/web'],
};
const NOW = Date.parse('2026-01-01T00:01:00Z');

test('status: a row a node, and what is remarkable below', () => {
  const text = stripVTControlCharacters(formatProxyStatus([{ node: 'node1', answer: STATUS }], NOW));
  assert.match(text, /node1 +│ nftables +│ ready +│ 1m ago, 3\.2 ms +│ 30s ago +│ 2 +│ 4 +│ 9 +│ 3/);
  assert.match(text, /node1: netlink, table podwire-proxy; IPv4 and IPv6/);
  assert.match(text, /1 ports without endpoints refuse traffic/);
  assert.match(text, /mended 50s ago: chain services missing/);
  assert.match(text, /Service default\/bad: clusterIP/);
});

test('a proxy that fails, is unhealthy or never synced is not well', () => {
  assert.equal(isWell(STATUS), true);
  assert.equal(isWell({ ...STATUS, ready: false }), false);
  assert.equal(isWell({ ...STATUS, healthz: 503 }), false);
  const failing = { ...STATUS, lastFailure: { at: '2026-01-01T00:00:50.000Z', message: 'EPERM' } };
  assert.equal(isWell(failing), false);
  const text = stripVTControlCharacters(formatProxyStatus([{ node: 'node1', answer: failing }], NOW));
  assert.match(text, /the last sync failed 10s ago: EPERM/);
});

const PORT: ReportedPort = {
  service: 'default/web',
  name: 'default/web:http',
  protocol: 'TCP',
  addresses: ['10.96.0.1:80', '*:30080'],
  internalPolicy: 'Cluster',
  externalPolicy: 'Local',
  affinitySeconds: 600,
  sourceRanges: ['192.0.2.0/24'],
  endpoints: [
    { address: '10.244.1.2:8080', state: 'ready', local: true, used: true },
    { address: '10.244.2.2:8080', state: 'not ready', local: false, used: false },
  ],
  externalRefusal: 'DROP',
  servedBy: Array.from({ length: 8 }, (_, n) => `chain KUBE-SEP-${n}`),
};

test('services: endpoints with their state, policies, and the rules', () => {
  const text = stripVTControlCharacters(formatServices('node1', [PORT], false));
  for (const part of [
    'node1: 1 service ports',
    'default/web:http',
    '10.96.0.1:80',
    '*:30080',
    '10.244.1.2:8080*',
    '(10.244.2.2:8080 not ready)',
    'from outside: DROP',
    'external Local',
    'ClientIP 10m',
    'sources 192.0.2.0/24',
    'chain KUBE-SEP-5',
    '… 2 more (--wide)',
  ])
    assert.ok(text.includes(part), `${part} in\n${text}`);
  assert.ok(!text.includes('KUBE-SEP-6'));
  assert.ok(formatServices('node1', [PORT], true).includes('KUBE-SEP-7'));
  assert.match(formatServices('node1', [], false), /no such Service/);
});

test('differences, or the sentence that there are none', () => {
  assert.match(formatDifferences('node1', []), /node1: the kernel has what the proxy means/);
  assert.match(
    formatDifferences('n', [{ what: 'set hairpin missing' }]),
    /1 differences\n.*set hairpin missing/,
  );
});

test('addresses that are none, and --node beside --address, are refused', () => {
  const lab = { dir: '/nonexistent', name: 'x' };
  for (const address of ['nowhere', '127.0.0.1', 'host:port', 'a/b:1', '1.2.3.4:99999'])
    assert.throws(() => proxiesOf({ ...lab, address }), { code: 'INVALID_OPTION' });
  assert.throws(() => proxiesOf({ ...lab, address: '127.0.0.1:1', node: 'node1' }), {
    code: 'INVALID_OPTION',
  });
  assert.equal(proxiesOf({ ...lab, address: 'localhost:10249' })[0]?.node, 'localhost:10249');
  assert.equal(proxiesOf(lab)[0]?.node, '127.0.0.1:10249');
});
