import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { leaseRules } from '../../../routing/plan.ts';
import { readLease } from '../../../routing/subnet/annotations.ts';
import {
  chooseSubnets,
  fitsRanges,
  isFree,
  parseSubnetRanges,
} from '../../../routing/subnet/etcd/allocate.ts';
import { formatSubnetKey, parseSubnetKey, type SubnetPair } from '../../../routing/subnet/etcd/keys.ts';
import {
  annotationsOfLease,
  formatLease,
  leaseOfAnnotations,
  nodeOfLease,
  parseLease,
} from '../../../routing/subnet/etcd/lease.ts';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { renewalDelayMs } from '../../../src/agent/etcd-renewal.ts';
import { formatCidr, requireCidr } from '../../../src/lib/cidr.ts';

const pair = (v4: string, v6?: string): SubnetPair => ({
  v4: requireCidr(v4),
  ...(v6 === undefined ? {} : { v6: requireCidr(v6) }),
});
const ranges = (text: string) => parseSubnetRanges(text, parseNetConf(text));

test("keys are flannel's", () => {
  for (const [key, subnets] of [
    ['10.5.52.0-24', pair('10.5.52.0/24')],
    ['10.5.52.0-24&fc00::-64', pair('10.5.52.0/24', 'fc00::/64')],
  ] as const) {
    assert.equal(formatSubnetKey(subnets), key);
    assert.deepEqual(parseSubnetKey(key), subnets);
  }
  for (const bad of [
    '',
    'config',
    '10.5.52.0',
    '10.5.52.1-24',
    '10.5.52.0-33',
    'fc00::-64',
    '10.5.52.0-24&x',
    'a&b&c',
  ])
    assert.equal(parseSubnetKey(bad), undefined, bad);
});

test('any text is a key or none, and a key is written as it was read', () => {
  fc.assert(
    fc.property(fc.string(), text => {
      const subnets = parseSubnetKey(text);
      if (subnets) assert.deepEqual(parseSubnetKey(formatSubnetKey(subnets)), subnets);
    }),
  );
});

test('leases are written as flannel writes them', () => {
  const text =
    '{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}}';
  const lease = parseLease(text);
  assert.ok(typeof lease === 'object');
  assert.equal(formatLease(lease), text);
  assert.equal(formatLease(leaseOfAnnotations(annotationsOfLease(lease))), text);
});

test('a hostile lease is refused where annotations are, and never throws', () => {
  const rules = leaseRules(
    parseNetConf('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'),
    'flannel.alpha.coreos.com',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc
          .jsonValue()
          .map(value => JSON.stringify({ PublicIP: '192.0.2.1', BackendType: 'vxlan', BackendData: value })),
      ),
      text => {
        const lease = parseLease(text);
        if (typeof lease === 'string') return;
        const node = nodeOfLease({ name: 'x', subnets: pair('10.5.1.0/24'), lease, createRevision: 7n });
        assert.equal(readLease(node, rules).lease, undefined);
      },
    ),
  );
});

test('subnets lie between SubnetMin and SubnetMax; the first of the network is left out', () => {
  const all = ranges('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}').v4;
  assert.deepEqual([all.prefixLength, [...all.min], [...all.max]], [24, [10, 5, 1, 0], [10, 5, 255, 0]]);
  const small = ranges('{"Network":"10.5.0.0/24","Backend":{"Type":"vxlan"}}').v4;
  assert.equal(small.prefixLength, 26);
  const given = ranges(
    '{"Network":"10.0.0.0/8","subnetlen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0","Backend":{"Type":"vxlan"}}',
  );
  assert.equal(formatCidr(chooseSubnets(given, [], () => 0).v4), '10.10.0.0/20');
  assert.ok(fitsRanges(given, pair('10.99.0.0/20')));
  for (const other of ['10.99.16.0/20', '10.9.240.0/20', '10.10.0.0/21'])
    assert.ok(!fitsRanges(given, pair(other)), other);
});

test('every mistake in the ranges is named', () => {
  assert.throws(
    () =>
      ranges(
        '{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0","SubnetMax":"10.5.3.7","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetLen":49,"Backend":{"Type":"vxlan"}}',
      ),
    (error: Error) => ['SubnetMin', 'SubnetMax', 'IPv6SubnetLen'].every(part => error.message.includes(part)),
  );
});

test('IPv6 alone is refused with the way out', () => {
  assert.throws(
    () =>
      ranges('{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}'),
    /IPv6 alone needs --kube-subnet-mgr/,
  );
});

test('a chosen subnet is free, until none is left', () => {
  const few = ranges('{"Network":"10.5.0.0/22","SubnetLen":25,"Backend":{"Type":"vxlan"}}');
  const taken: SubnetPair[] = [];
  for (let n = 0; n < 7; n++) {
    const chosen = chooseSubnets(few, taken);
    assert.ok(isFree(chosen, taken) && fitsRanges(few, chosen));
    taken.push(chosen);
  }
  assert.throws(() => chooseSubnets(few, taken), { code: 'OUT_OF_SUBNETS' });
});

test('leases are renewed before the margin, not all at once', () => {
  const day = 86_400;
  for (const random of [0, 0.5, 0.999]) {
    const ms = renewalDelayMs(day, 60, random);
    assert.ok(ms >= (day / 3) * 1000 && ms <= (day / 2) * 1000);
    assert.ok(renewalDelayMs(day, 23 * 60, random) <= 3600 * 1000);
  }
  assert.ok(renewalDelayMs(3, 60, 0) > 0);
});
