// Prefix numbers, stored attribute sets, the table, and the decision process (RFC 4271 section 9.1.2.2).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Candidate, type DecisionStep, decide } from '../../../routing/bgp/decision/decide.ts';
import { PathAttributes } from '../../../routing/bgp/packet/path-attributes.ts';
import { type AttributeEntry, AttributeStore } from '../../../routing/bgp/rib/attribute-store.ts';
import type { PathSource } from '../../../routing/bgp/rib/path-source.ts';
import { PrefixTable } from '../../../routing/bgp/rib/prefix-table.ts';
import { Rib } from '../../../routing/bgp/rib/rib.ts';
import { makeCidr, requireCidr } from '../../../src/lib/cidr.ts';

const cidr4 = fc
  .tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.integer({ min: 0, max: 32 }))
  .map(([address, length]) => makeCidr(address, length));

test('prefix table: behaves as a Map under any sequence of intern and release', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), cidr4), { maxLength: 400 }), operations => {
      const table = new PrefixTable(4);
      const model = new Map<string, number>();
      for (const [add, cidr] of operations) {
        const key = `${cidr.network.join('.')}/${cidr.prefixLength}`;
        if (add) {
          const net = table.internCidr(cidr);
          assert.equal(model.get(key) ?? net, net);
          model.set(key, net);
        } else if (model.has(key)) {
          table.release(model.get(key)!);
          model.delete(key);
        }
        assert.equal(table.size, model.size);
        assert.equal(table.findCidr(cidr), model.get(key) ?? -1);
      }
      assert.equal(new Set(model.values()).size, model.size);
      for (const [key, net] of model) {
        const { network, prefixLength } = table.cidr(net);
        assert.equal(`${network.join('.')}/${prefixLength}`, key);
      }
    }),
    { numRuns: 60 },
  );
});

test('attribute store: equal sets are one entry; the last reference takes it away', () => {
  const store = new AttributeStore();
  const make = (med: number): AttributeEntry =>
    store.canonical(new PathAttributes().with({ med, nextHop: '10.0.0.1' }));
  const [a, b, c] = [make(1), make(1), make(2)];
  assert.equal(a, b);
  assert.notEqual(a, c);
  a.references = 2;
  store.release(a);
  assert.equal(make(1), a);
  store.release(a);
  assert.notEqual(make(1), a);
  store.collect();
  assert.equal(store.size, 0);
});

test('table: replace, withdraw, stale and sweep, reuse of rows and numbers', () => {
  const store = new AttributeStore();
  let dirty = 0;
  const rib = new Rib(4, store, () => dirty++);
  const entry = (med: number): AttributeEntry =>
    store.canonical(new PathAttributes().with({ med, nextHop: '10.0.0.1' }));
  const net = rib.netOfCidr(requireCidr('10.0.0.0/24'));
  const other = rib.netOfCidr(requireCidr('10.0.1.0/24'));
  assert.equal(rib.update(net, 1, 0, entry(1), entry(1)), true);
  assert.equal(rib.update(net, 1, 0, entry(1), entry(1)), false, 'the same again changes nothing');
  rib.update(net, 2, 0, entry(2), undefined);
  rib.update(net, 1, 7, entry(3), entry(3));
  rib.update(other, 1, 0, entry(1), entry(1));
  assert.deepEqual([rib.size, rib.counts[1], rib.counts[2]], [4, 3, 1]);
  assert.deepEqual([...rib.takeChanged()].sort(), [net, other].sort());
  assert.equal(dirty, 1);
  rib.markStale(1);
  rib.update(net, 1, 0, entry(1), entry(1));
  assert.equal(rib.sweepStale(1), 2);
  assert.deepEqual(
    rib
      .pathsOf(net)
      .map(path => rib.source[path])
      .sort(),
    [1, 2],
  );
  assert.equal(rib.withdraw(net, 9, 0), false);
  rib.removeSource(1);
  rib.removeSource(2);
  assert.equal(rib.size, 0);
  const changed = rib.takeChanged();
  rib.releaseEmpty(changed);
  assert.equal(rib.nets.size, 0);
  store.collect();
  assert.equal(store.size, 0, 'no attribute set is left behind');
});

const source = (index: number, kind: PathSource['kind'], routerId: number, address: string): PathSource => ({
  index,
  kind,
  name: `peer-${index}`,
  address,
  asn: 65000 + index,
  routerId,
  reflectorClient: false,
});

function candidate(
  path: number,
  attributes: Partial<PathAttributes>,
  options: {
    kind?: PathSource['kind'];
    routerId?: number;
    address?: string;
    metric?: number | undefined;
  } = {},
): Candidate {
  const entry = new AttributeStore().canonical(
    new PathAttributes().with({ nextHop: '10.0.0.1', ...attributes }),
  );
  const { kind = 'external', routerId = path, address = `10.0.0.${path}` } = options;
  return {
    path,
    entry,
    source: source(path, kind, routerId, address),
    pathId: 0,
    metric: 'metric' in options ? options.metric : 0,
  };
}

const via = (...asns: number[]) => [{ type: 2, asns }];

const STEPS: [DecisionStep, Candidate, Candidate][] = [
  ['next hop reachable', candidate(2, {}), candidate(1, { localPref: 900 }, { metric: undefined })],
  ['local route', candidate(2, {}, { kind: 'local' }), candidate(1, { localPref: 900 })],
  [
    'local preference',
    candidate(2, { localPref: 200, asPath: via(1, 2, 3) }),
    candidate(1, { asPath: via(1) }),
  ],
  ['AS path length', candidate(2, { asPath: via(1), origin: 2 }), candidate(1, { asPath: via(1, 2) })],
  ['origin', candidate(2, { med: 9, asPath: via(1) }), candidate(1, { origin: 2, asPath: via(1) })],
  [
    'MED',
    candidate(2, { med: 1, asPath: via(1) }, { kind: 'internal' }),
    candidate(1, { med: 2, asPath: via(1) }),
  ],
  ['external over internal', candidate(2, {}, { metric: 9 }), candidate(1, {}, { kind: 'internal' })],
  ['metric to next hop', candidate(2, {}, { metric: 1 }), candidate(1, {}, { metric: 2 })],
  ['router id', candidate(1, {}), candidate(2, {})],
  [
    'cluster list length',
    candidate(2, { originatorId: 5, clusterList: [1] }),
    candidate(1, { originatorId: 5, clusterList: [1, 2] }),
  ],
  [
    'peer address',
    candidate(1, {}, { routerId: 7, address: '9.0.0.9' }),
    candidate(2, {}, { routerId: 7, address: '10.0.0.1' }),
  ],
];

for (const [step, winner, loser] of STEPS)
  test(`decision, RFC 4271 9.1.2.2 / 4456 9: ${step}`, () => {
    for (const order of [
      [winner, loser],
      [loser, winner],
    ]) {
      const decision = decide(order, true);
      assert.equal(decision.best, winner);
      assert.deepEqual(decision.lost, [{ candidate: loser, step }]);
    }
  });

test('decision: MED counts among paths of one neighbour AS only, and the order of arrival never matters', () => {
  const a = candidate(1, { asPath: via(1, 9), med: 10 }, { routerId: 1 });
  const b = candidate(2, { asPath: via(2, 9), med: 5 }, { routerId: 2 });
  const c = candidate(3, { asPath: via(1, 9), med: 5 }, { routerId: 3 });
  const orders = [
    [a, b, c],
    [a, c, b],
    [b, a, c],
    [b, c, a],
    [c, a, b],
    [c, b, a],
  ];
  for (const order of orders) assert.equal(decide(order).best, b);
  assert.deepEqual(new Set(decide([a, b, c]).multipath), new Set([b, c]), 'ECMP: equal down to the metric');
});
