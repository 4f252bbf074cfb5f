// What is taken from a peer and what is told to one, rule by rule: RFC 4271 sections 5 and 9, RFC 4456, RFC 1997.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PathAttributes } from '../../../routing/bgp/packet/path-attributes.ts';
import {
  ACCEPT_ALL,
  GRACEFUL_SHUTDOWN,
  NO_ADVERTISE,
  NO_EXPORT,
  NO_EXPORT_SUBCONFED,
} from '../../../routing/bgp/policy/policy.ts';
import { AttributeStore } from '../../../routing/bgp/rib/attribute-store.ts';
import type { PathSource } from '../../../routing/bgp/rib/path-source.ts';
import { type ExportContext, exportRoute } from '../../../routing/bgp/speaker/export.ts';
import { type ImportContext, importRoute } from '../../../routing/bgp/speaker/import.ts';
import { requireCidr } from '../../../src/lib/cidr.ts';

const OURS = 65001;
const PREFIX = { family: 4 as const, words: Uint32Array.of(0x0a010000), at: 0, length: 24 };
const LOCAL: PathSource = {
  ...{ index: 0, kind: 'local', name: 'local', address: '', asn: 0, routerId: 0, reflectorClient: false },
};
const EXTERNAL: PathSource = {
  ...{ index: 1, kind: 'external', name: 'e', address: '10.0.0.2', asn: 65002, routerId: 2 },
  reflectorClient: false,
};
const INTERNAL: PathSource = {
  ...{ index: 2, kind: 'internal', name: 'i', address: '10.0.0.3', asn: OURS, routerId: 3 },
  reflectorClient: false,
};

const toPeer = (changes: Partial<ExportContext> = {}): ExportContext => ({
  external: false,
  localAsn: OURS,
  routerId: 1,
  clusterId: 99,
  reflectorClient: false,
  nextHopMode: 'auto',
  nextHops: { 4: '10.0.0.1', 6: 'fd00::1' },
  extendedNextHop: false,
  policy: ACCEPT_ALL,
  policyDependsOnPrefix: false,
  ...changes,
});
const EBGP = toPeer({ external: true });
const IBGP = toPeer();

const via = (...asns: number[]): PathAttributes['asPath'] => [{ type: 2, asns }];
const sequence = (attributes: PathAttributes): number[] => attributes.asPath.flatMap(({ asns }) => [...asns]);

const LEARNED: Partial<PathAttributes> = {
  ...{ nextHop: '10.0.0.2', asPath: via(65002), med: 7, localPref: 300 },
};

/** The attributes as they are sent, or why nothing is. */
function exported(
  context: ExportContext,
  source: PathSource,
  fields: Partial<PathAttributes>,
): PathAttributes | string {
  const store = new AttributeStore();
  const entry = store.canonical(new PathAttributes().with(fields));
  const result = exportRoute(context, entry, source, store, PREFIX);
  return typeof result === 'string' ? result : result.attributes;
}

function sent(context: ExportContext, source: PathSource, fields: Partial<PathAttributes>): PathAttributes {
  const result = exported(context, source, fields);
  if (typeof result === 'string') throw new Error(`not sent: ${result}`);
  return result;
}

test('RFC 4271 5.1.3: an external peer is told the router in its own subnet, and us for the rest', () => {
  const shared = toPeer({ external: true, sharedSubnets: [requireCidr('10.0.0.0/24')] });
  assert.equal(sent(shared, INTERNAL, { ...LEARNED, nextHop: '10.0.0.3' }).nextHop, '10.0.0.3');
  assert.equal(sent(shared, INTERNAL, { ...LEARNED, nextHop: '10.0.1.3' }).nextHop, '10.0.0.1');
  assert.equal(sent(shared, LOCAL, {}).nextHop, '10.0.0.1');
  assert.equal(sent(EBGP, INTERNAL, { ...LEARNED, nextHop: '10.0.0.3' }).nextHop, '10.0.0.1');
  const self = toPeer({ external: true, sharedSubnets: shared.sharedSubnets!, nextHopMode: 'self' });
  assert.equal(sent(self, INTERNAL, { ...LEARNED, nextHop: '10.0.0.3' }).nextHop, '10.0.0.1');
});

test('RFC 4271 5.1.2: our AS goes in front towards another AS and nothing is added inside', () => {
  assert.deepEqual(sequence(sent(EBGP, EXTERNAL, LEARNED)), [OURS, 65002]);
  assert.deepEqual(sequence(sent(EBGP, LOCAL, {})), [OURS]);
  assert.deepEqual(sequence(sent(IBGP, EXTERNAL, LEARNED)), [65002]);
  assert.deepEqual(sequence(sent(IBGP, LOCAL, {})), []);
  const full = { ...LEARNED, asPath: via(...Array.from({ length: 255 }, (_, i) => 1 + i)) };
  const { asPath } = sent(EBGP, EXTERNAL, full);
  assert.deepEqual([asPath.length, asPath[0]?.asns], [2, [OURS]], 'a full segment gets a new one before it');
});

test('RFC 4271 5.1.3: the next hop is ours towards another AS, and kept inside', () => {
  assert.equal(sent(EBGP, EXTERNAL, LEARNED).nextHop, '10.0.0.1');
  assert.equal(sent(IBGP, EXTERNAL, LEARNED).nextHop, '10.0.0.2');
  assert.equal(sent(toPeer({ nextHopMode: 'self' }), EXTERNAL, LEARNED).nextHop, '10.0.0.1');
  assert.equal(sent(toPeer({ external: true, nextHopMode: 'keep' }), EXTERNAL, LEARNED).nextHop, '10.0.0.2');
  assert.match(exported(toPeer({ nextHops: {} }), LOCAL, {}) as string, /no IPv4 next hop of ours/);
});

test('RFC 4271 5.1.4: a MED goes to internal peers, and to another AS only when it is our own', () => {
  assert.equal(sent(IBGP, EXTERNAL, LEARNED).med, 7);
  assert.equal(sent(EBGP, EXTERNAL, LEARNED).med, undefined);
  assert.equal(sent(EBGP, LOCAL, { med: 9 }).med, 9);
});

test('RFC 4271 5.1.5: LOCAL_PREF is always there inside, and never leaves', () => {
  assert.equal(sent(IBGP, EXTERNAL, LEARNED).localPref, 300);
  assert.equal(sent(IBGP, EXTERNAL, { ...LEARNED, localPref: undefined }).localPref, 100);
  assert.equal(sent(EBGP, EXTERNAL, LEARNED).localPref, undefined);
});

test('RFC 4271 9.2.1: what an internal peer told is not told to another; RFC 4456 6: a reflector does, from or to a client', () => {
  assert.match(exported(IBGP, INTERNAL, LEARNED) as string, /RFC 4271 9\.2\.1/);
  assert.equal(typeof exported(EBGP, INTERNAL, LEARNED), 'object');
  assert.equal(typeof exported(toPeer({ reflectorClient: true }), INTERNAL, LEARNED), 'object');
  assert.equal(typeof exported(IBGP, { ...INTERNAL, reflectorClient: true }, LEARNED), 'object');
});

test('RFC 4456 8: ORIGINATOR_ID is set once, CLUSTER_LIST grows at the front, and neither leaves the AS', () => {
  const client = toPeer({ reflectorClient: true });
  const once = sent(client, INTERNAL, LEARNED);
  assert.deepEqual([once.originatorId, once.clusterList], [3, [99]]);
  const twice = sent(client, INTERNAL, { ...LEARNED, originatorId: 8, clusterList: [77] });
  assert.deepEqual([twice.originatorId, twice.clusterList], [8, [99, 77]]);
  const out = sent(EBGP, INTERNAL, { ...LEARNED, originatorId: 8, clusterList: [77] });
  assert.deepEqual([out.originatorId, out.clusterList], [undefined, undefined]);
  // Section 10: a reflector should not change NEXT_HOP, AS_PATH, LOCAL_PREF and MED.
  assert.deepEqual([once.nextHop, sequence(once), once.localPref, once.med], ['10.0.0.2', [65002], 300, 7]);
});

test('RFC 1997 2: NO_EXPORT, NO_ADVERTISE and NO_EXPORT_SUBCONFED; all other communities travel on', () => {
  const tagged = (community: number): Partial<PathAttributes> => ({
    ...LEARNED,
    communities: [1, community],
  });
  for (const [community, inside, outside] of [
    [NO_EXPORT, true, false],
    [NO_EXPORT_SUBCONFED, true, false],
    [NO_ADVERTISE, false, false],
    [65002 * 65536 + 7, true, true],
  ] as const) {
    assert.equal(typeof exported(IBGP, EXTERNAL, tagged(community)) === 'object', inside);
    assert.equal(typeof exported(EBGP, EXTERNAL, tagged(community)) === 'object', outside);
  }
  assert.deepEqual(sent(EBGP, EXTERNAL, tagged(5)).communities, [1, 5]);
  const large = { ...LEARNED, largeCommunities: [4_200_000_001, 1, 2] };
  assert.deepEqual(sent(EBGP, EXTERNAL, large).largeCommunities, large.largeCommunities, 'RFC 8092 2');
});

test('RFC 8950 4: IPv4 with an IPv6 next hop only to a peer that said it takes one', () => {
  const v6 = { nextHops: { 6: 'fd00::1' } };
  assert.match(exported(toPeer(v6), LOCAL, {}) as string, /no IPv4 next hop/);
  assert.equal(sent(toPeer({ ...v6, extendedNextHop: true }), LOCAL, {}).nextHop, 'fd00::1');
  const keep = toPeer({ nextHopMode: 'keep' });
  assert.match(exported(keep, EXTERNAL, { ...LEARNED, nextHop: 'fd00::9' }) as string, /RFC 8950/);
});

const from = (source: PathSource, changes: Partial<ImportContext> = {}): ImportContext => ({
  source,
  localAsns: [OURS],
  routerId: 1,
  clusterId: 99,
  allowOwnAs: 0,
  enforceFirstAs: true,
  policy: ACCEPT_ALL,
  policyDependsOnPrefix: false,
  isOwnAddress: address => address === '10.0.0.1',
  ...changes,
});

/** `accepted`, or the reason why not. */
function verdict(context: ImportContext, fields: Partial<PathAttributes>): string {
  const store = new AttributeStore();
  const entry = store.canonical(new PathAttributes().with({ ...LEARNED, ...fields }));
  const result = importRoute(context, entry, store, PREFIX);
  return typeof result === 'string' ? result : 'accepted';
}

const REFUSED: [title: string, context: ImportContext, fields: Partial<PathAttributes>, reason: RegExp][] = [
  ['RFC 4271 9.1.2: our AS in the path', from(EXTERNAL), { asPath: via(65002, OURS) }, /our AS 65001 is in/],
  [
    'RFC 4271 9.1.2: our AS in an AS_SET',
    from(EXTERNAL),
    { asPath: [...via(65002), { type: 1, asns: [7, OURS] }] },
    /our AS 65001 is in/,
  ],
  ['RFC 4271 6.3: the first AS is not the peer', from(EXTERNAL), { asPath: via(65003) }, /begin with/],
  ['RFC 4271 5.1.3: the next hop is ourselves', from(EXTERNAL), { nextHop: '10.0.0.1' }, /our own address/],
  ['RFC 4271 6.3: the next hop is multicast', from(EXTERNAL), { nextHop: '224.0.0.5' }, /no unicast/],
  ['RFC 4271 6.3: the next hop is 0.0.0.0', from(EXTERNAL), { nextHop: '0.0.0.0' }, /no unicast/],
  ['RFC 4271 6.3: the next hop is loopback', from(EXTERNAL), { nextHop: '127.0.0.9' }, /no unicast/],
  ['RFC 4456 8: our ORIGINATOR_ID', from(INTERNAL), { originatorId: 1 }, /originator \(RFC 4456\)/],
  ['RFC 4456 8: our cluster', from(INTERNAL), { originatorId: 9, clusterList: [5, 99] }, /cluster list/],
];

for (const [title, context, fields, reason] of REFUSED)
  test(`import, ${title}`, () => {
    assert.equal(verdict(context, {}), 'accepted');
    assert.match(verdict(context, fields), reason);
  });

test('import, RFC 8326 4.2: GRACEFUL_SHUTDOWN from another AS makes it the last choice; inside the AS LOCAL_PREF says so', () => {
  const store = new AttributeStore();
  const entry = store.canonical(new PathAttributes().with({ ...LEARNED, communities: [GRACEFUL_SHUTDOWN] }));
  const localPref = (source: PathSource): number | undefined => {
    entry.verdictBy = undefined;
    const result = importRoute(from(source), entry, store, PREFIX);
    return typeof result === 'string' ? undefined : result.attributes.localPref;
  };
  assert.deepEqual([localPref(EXTERNAL), localPref(INTERNAL)], [0, 300]);
});

test('import: our AS is let in as often as configured, and the first AS is anybody with enforceFirstAs off', () => {
  const loop = { asPath: via(65002, OURS, OURS) };
  assert.equal(verdict(from(EXTERNAL, { allowOwnAs: 2 }), loop), 'accepted');
  assert.match(verdict(from(EXTERNAL, { allowOwnAs: 1 }), loop), /our AS/);
  assert.equal(verdict(from(EXTERNAL, { enforceFirstAs: false }), { asPath: via(65003) }), 'accepted');
});
