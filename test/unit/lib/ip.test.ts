import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  cidrContains,
  cidrContainsCidr,
  cidrSize,
  cidrsOverlap,
  formatAddressWithPrefix,
  formatCidr,
  lastAddress,
  netmask,
  nthAddress,
  nthSubnet,
  parseCidr,
  parseCidrOrIp,
  requireCidr,
} from '../../../src/lib/cidr.ts';
import {
  addToIp,
  bigIntToIp,
  canonicalIp,
  compareIp,
  formatIp,
  formatIpv4Number,
  ipToBigInt,
  parseIp,
  parseIpv4Number,
  requireIp,
} from '../../../src/lib/ip.ts';
import { formatMac, macFromSeed, parseMac, randomMac } from '../../../src/lib/mac.ts';

test('canonical text follows RFC 5952', () => {
  const cases: [string, string][] = [
    ['10.0.0.1', '10.0.0.1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['fe80::', 'fe80::'],
    ['::ffff:10.0.0.1', '::ffff:10.0.0.1'],
    ['64:ff9b::10.0.0.1', '64:ff9b::a00:1'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ['1:2:3:4:5:6:0:0', '1:2:3:4:5:6::'],
    ['0:0:3:4:5:6:7:8', '::3:4:5:6:7:8'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ];
  for (const [text, canonical] of cases) assert.equal(canonicalIp(text), canonical, text);
});

test('bad addresses are refused', () => {
  const bad = [
    '',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '256.1.1.1',
    '1.2.3.4 ',
    '0x7f.0.0.1',
    '1..2.3',
    ':',
    ':::',
  ];
  bad.push(
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '12345::',
    'g::',
    'fe80::1%eth0',
    '::1.2.3',
    '1:',
    ':1',
  );
  bad.push('1:2:3:4:5:6:7:1.2.3.4', '::1:2:3:4:5:6:7:8', '1.2.3.4::', '1:2:3:4:5:6:7:8::', '::01.2.3.4');
  for (const text of bad) assert.equal(parseIp(text), undefined, text);
  assert.throws(() => requireIp('x'), { code: 'INVALID_ADDRESS' });
});

test('every address survives text and number form', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.boolean(), (bytes, v4) => {
      const address = v4 ? bytes.slice(0, 4) : bytes;
      const text = formatIp(address);
      assert.deepEqual(parseIp(text), address);
      assert.equal(isIP(text), v4 ? 4 : 6);
      assert.deepEqual(bigIntToIp(ipToBigInt(address), v4 ? 4 : 6), address);
      if (v4) assert.equal(formatIpv4Number(parseIpv4Number(text)!), text);
    }),
  );
});

test('the parser agrees with node:net on arbitrary text', () => {
  const chars = fc.constantFrom(...'0123456789abcdefF:::..:g%'.split(''));
  fc.assert(
    fc.property(fc.string({ unit: chars, maxLength: 24 }), text => {
      if (!text.includes('%')) assert.equal(parseIp(text) !== undefined, isIP(text) !== 0, text);
    }),
    { numRuns: 2000 },
  );
});

test('zero groups of any pattern survive', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(0, 0, 1, 0xab), { minLength: 8, maxLength: 8 }), groups => {
      const bytes = Uint8Array.from(groups.flatMap(g => [0, g]));
      assert.deepEqual(parseIp(formatIp(bytes)), bytes);
    }),
  );
});

test('prefixes', () => {
  const cidr = requireCidr('10.1.2.3/22');
  assert.equal(formatCidr(cidr), '10.1.0.0/22');
  assert.equal(formatAddressWithPrefix(cidr), '10.1.2.3/22');
  assert.equal(formatIp(lastAddress(cidr)), '10.1.3.255');
  assert.equal(formatIp(nthAddress(cidr, 1)!), '10.1.0.1');
  assert.equal(formatIp(nthAddress(cidr, -2)!), '10.1.3.254');
  assert.equal(nthAddress(cidr, 1024), undefined);
  assert.equal(formatCidr(nthSubnet(cidr, 24, 3)!), '10.1.3.0/24');
  assert.equal(nthSubnet(cidr, 24, 4), undefined);
  assert.equal(formatCidr(nthSubnet(requireCidr('fd00::/48'), 64, 258)!), 'fd00:0:0:102::/64');
  assert.equal(cidrSize(requireCidr('::/0')), 1n << 128n);
  assert.equal(formatCidr(parseCidrOrIp('fd00::1')!), 'fd00::1/128');
  assert.equal(formatIp(netmask(20, 4)), '255.255.240.0');
  for (const bad of [
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/08',
    '10.0.0.0/+8',
    '::/129',
    '/8',
    '1.2.3.4/8/8',
  ])
    assert.equal(parseCidr(bad), undefined, bad);
  assert.throws(() => requireCidr('x'), { code: 'INVALID_CIDR' });
});

test('contains agrees with arithmetic', () => {
  const word = fc.integer({ min: 0, max: 0xffffffff });
  fc.assert(
    fc.property(
      word,
      word,
      fc.integer({ min: 0, max: 32 }),
      fc.integer({ min: 0, max: 32 }),
      (a, b, la, lb) => {
        const outer = requireCidr(`${formatIpv4Number(a)}/${la}`);
        const inner = requireCidr(`${formatIpv4Number((a & 0xffffff00) | (b & 255))}/${lb}`);
        const same = la === 0 || (BigInt(a) ^ ipToBigInt(inner.address)) >> BigInt(32 - la) === 0n;
        assert.equal(cidrContains(outer, inner.address), same);
        assert.equal(cidrsOverlap(outer, inner), cidrsOverlap(inner, outer));
        if (cidrContainsCidr(outer, inner)) assert.ok(cidrsOverlap(outer, inner));
      },
    ),
  );
  assert.equal(cidrContains(requireCidr('0.0.0.0/0'), requireIp('::1')), false);
});

test('arithmetic stops at the end of the range', () => {
  assert.equal(addToIp(requireIp('255.255.255.255'), 1), undefined);
  assert.equal(addToIp(requireIp('0.0.0.0'), -1), undefined);
  assert.equal(formatIp(addToIp(requireIp('fd00::ffff'), 1)!), 'fd00::1:0');
  assert.ok(compareIp(requireIp('9.0.0.0'), requireIp('10.0.0.0')) < 0);
});

test('MAC addresses', () => {
  assert.equal(formatMac(parseMac('AA:bb:0c:00:FF:01')!), 'aa:bb:0c:00:ff:01');
  assert.equal(formatMac(parseMac('aa-bb-0c-00-ff-01')!), 'aa:bb:0c:00:ff:01');
  for (const bad of ['', 'aa:bb:cc:dd:ee', 'aa:bb:cc:dd:ee:ff:00', 'aa-bb:cc:dd:ee:ff', 'gg:bb:cc:dd:ee:ff'])
    assert.equal(parseMac(bad), undefined, bad);
  assert.equal(macFromSeed('x'), macFromSeed('x'));
  for (const mac of [randomMac(), macFromSeed('y')]) assert.equal(parseMac(mac)![0]! & 3, 2);
});
