// Results of every CNI version: read, written, and converted both ways.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Fields } from '../../../cni/runtime/fields.ts';
import type { Result } from '../../../cni/runtime/result.ts';
import { decodeResult, encodeResult } from '../../../cni/runtime/result-versions.ts';
import { CNI_VERSIONS, type CniVersion } from '../../../cni/runtime/versions.ts';
import { CniError } from '../../../src/lib/errors.ts';

const FULL: Result = {
  interfaces: [
    { name: 'cni0', mac: '00:11:22:33:44:55', mtu: 1500 },
    { name: 'eth0', mac: '99:88:77:66:55:44', mtu: 1450, sandbox: '/run/netns/x', pciID: '0000:00:1f.6' },
  ],
  ips: [
    { interface: 1, address: '10.1.0.5/16', gateway: '10.1.0.1' },
    { interface: 1, address: 'fd00::5/64', gateway: 'fd00::1' },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }, { dst: 'fd01::/64' }],
  dns: { nameservers: ['10.1.0.1'], search: ['a.test'] },
};

const encode = (result: Result, version: CniVersion) =>
  JSON.parse(JSON.stringify(encodeResult(result, version))) as Record<string, unknown>;

test('0.1.0 and 0.2.0 carry one address a family', () => {
  for (const version of ['0.1.0', '0.2.0'] as const)
    assert.deepEqual(encode(FULL, version), {
      cniVersion: version,
      ip4: { ip: '10.1.0.5/16', gateway: '10.1.0.1', routes: [{ dst: '0.0.0.0/0', gw: '10.1.0.1' }] },
      ip6: { ip: 'fd00::5/64', gateway: 'fd00::1', routes: [{ dst: 'fd01::/64' }] },
      dns: { nameservers: ['10.1.0.1'], search: ['a.test'] },
    });
});

test('0.3.0 to 0.4.0 name the family of each address and know no MTU', () => {
  const json = encode(FULL, '0.4.0');
  assert.deepEqual(json.interfaces, [
    { name: 'cni0', mac: '00:11:22:33:44:55' },
    { name: 'eth0', mac: '99:88:77:66:55:44', sandbox: '/run/netns/x' },
  ]);
  assert.deepEqual(json.ips, [
    { version: '4', interface: 1, address: '10.1.0.5/16', gateway: '10.1.0.1' },
    { version: '6', interface: 1, address: 'fd00::5/64', gateway: 'fd00::1' },
  ]);
});

test('dns is always there before 1.0.0, and only when it says something afterwards', () => {
  const bare = { ...FULL, dns: {} };
  assert.deepEqual(encode(bare, '0.3.1').dns, {});
  assert.equal('dns' in encode(bare, '1.0.0'), false);
});

test('1.1.0 has mtu and pciID, 1.0.0 has not', () => {
  assert.deepEqual(encode(FULL, '1.1.0').interfaces, FULL.interfaces);
  assert.equal(JSON.stringify(encode(FULL, '1.0.0')).includes('pciID'), false);
});

test('a result without addresses cannot go to 0.2.0', () => {
  assert.throws(() => encodeResult({ ...FULL, ips: [] }, '0.2.0'), /no valid IP addresses/);
});

test('keys match without regard to case, null is absent', () => {
  const decoded = decodeResult(
    new Fields({ CNIVersion: '1.0.0', Interfaces: null, IPs: [{ Address: '10.0.0.2/24', INTERFACE: 0 }] }),
    '1.0.0',
  );
  assert.deepEqual(decoded.ips, [{ interface: 0, address: '10.0.0.2/24' }]);
  assert.deepEqual(decoded.interfaces, []);
});

test('bad addresses, routes and versions are code 6', () => {
  for (const object of [
    { cniVersion: '1.0.0', ips: [{ address: '10.0.0.300/24' }] },
    { cniVersion: '1.0.0', routes: [{ dst: 'nowhere' }] },
    { cniVersion: '9.9.9' },
    { cniVersion: '1.0.0', ips: 'none' },
    { cniVersion: '0.2.0', ip4: { ip: 7 } },
  ])
    assert.throws(
      () => decodeResult(new Fields(object), '1.0.0'),
      (error: unknown) => error instanceof CniError && error.cniCode === 6,
    );
});

/** What survives a trip through `version`. */
function reduce(result: Result, version: CniVersion): Result {
  return decodeResult(new Fields(encode(result, version)), version);
}

const ip4 = fc.ipV4().map(ip => `${ip}/24`);
const ip6 = fc
  .tuple(fc.nat(0xffff), fc.nat(0xffff))
  .map(([a, b]) => `fd00:0:0:${(a || 1).toString(16)}::${(b || 1).toString(16)}/64`);
const results: fc.Arbitrary<Result> = fc.record({
  interfaces: fc.array(
    fc.record(
      { name: fc.constantFrom('eth0', 'veth1', 'lo'), mtu: fc.integer({ min: 1, max: 9000 }) },
      { noNullPrototype: true },
    ),
    { maxLength: 3 },
  ),
  ips: fc.array(fc.record({ interface: fc.nat(3), address: fc.oneof(ip4, ip6) }), {
    minLength: 1,
    maxLength: 4,
  }),
  routes: fc.array(fc.record({ dst: fc.constantFrom('0.0.0.0/0', '::/0', '10.0.0.0/8', 'fd01::/32') }), {
    maxLength: 3,
  }),
  dns: fc.constant({}),
});

test('every version can be converted to every other, and a second trip changes nothing more', () => {
  fc.assert(
    fc.property(
      results,
      fc.constantFrom(...CNI_VERSIONS),
      fc.constantFrom(...CNI_VERSIONS),
      (result, a, b) => {
        const once = reduce(result, a);
        const there = reduce(once, b);
        assert.deepEqual(reduce(there, b), there);
        assert.deepEqual(reduce(once, a), once);
        if (a === '1.1.0') assert.deepEqual(once.interfaces, result.interfaces);
      },
    ),
    { numRuns: 300 },
  );
});
