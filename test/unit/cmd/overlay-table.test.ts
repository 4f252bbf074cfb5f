import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import type { OverlayReport } from '../../../src/agent/overlay-report.ts';
import { formatAge, formatOverlay, isHealthy } from '../../../src/cmd/overlay-table.ts';

test('ages have at most two units', () => {
  const cases: [number, string][] = [
    [0, '0s'],
    [59.9, '59s'],
    [60, '1m'],
    [312, '5m12s'],
    [3_600, '1h'],
    [273_600, '3d4h'],
    [-5, '0s'],
  ];
  for (const [seconds, text] of cases) assert.equal(formatAge(seconds), text);
});

const REPORT: OverlayReport = {
  node: 'node1',
  ready: true,
  backend: 'vxlan',
  mtuBytes: 1430,
  underlay: { link: 'eth0', addresses: ['172.30.0.11/24'], mtuBytes: 1500 },
  self: [
    {
      family: 4,
      subnet: '10.244.0.0/24',
      publicIp: '203.0.113.1',
      localIp: '172.30.0.11',
      vtepMac: '0a:00:00:00:00:01',
    },
  ],
  peers: [
    {
      node: 'node2',
      family: 4,
      subnet: '10.244.1.0/24',
      publicIp: '172.30.0.12',
      vtepMac: '0a:00:00:00:00:02',
      lastChange: '2026-01-01T00:00:00.000Z',
      probe: { result: 'unreachable', address: '10.244.1.0', error: 'no answer within 1000 ms' },
    },
  ],
  problems: [
    { kind: 'Node', name: 'bad', reason: 'BadPublicIP', message: 'annotation public-ip is missing' },
  ],
};

test('a node, its peers and whom it left out', () => {
  const text = stripVTControlCharacters(formatOverlay(REPORT, Date.parse('2026-01-01T00:05:12Z')));
  assert.match(text, /^node1: vxlan over eth0 \(MTU 1500\), pods' MTU 1430, ready\n/);
  assert.match(text, /10\.244\.0\.0\/24 at 203\.0\.113\.1 \(here 172\.30\.0\.11\), VTEP 0a:00:00:00:00:01/);
  assert.match(text, /node2.*10\.244\.1\.0\/24.*172\.30\.0\.12.*0a:00:00:00:00:02.*5m12s.*unreachable/);
  assert.match(text, /bad: BadPublicIP: annotation public-ip is missing/);
  assert.equal(isHealthy(REPORT), false);
  assert.equal(isHealthy({ ...REPORT, peers: [] }), true);
});
