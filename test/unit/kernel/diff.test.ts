import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DesiredIndex } from '../../../src/kernel/desired.ts';
import { describeOperation, diffState, type Operation, type Ownership } from '../../../src/kernel/diff.ts';
import { emptyMaps, indexState, KINDS, type ObjectMaps } from '../../../src/kernel/objects.ts';
import type { KernelState, RouteState } from '../../../src/kernel/state.ts';

const OWNED: Ownership = {
  alias: alias => alias.startsWith('podwire:overlay'),
  protocols: new Set([213]),
  chain: (_family, _table, name) => name.startsWith('OURS-'),
};

const vxlan = (port = 8472) => ({
  name: 'vx0',
  kind: 'vxlan' as const,
  up: true,
  alias: 'podwire:overlay',
  vxlan: { vni: 1, port, local: '10.0.0.1', dev: 'eth0', learning: false },
});

const text = (operations: Operation[]): string[] => operations.map(describeOperation);

test('operations come in an order in which they can be done', () => {
  const desired: KernelState = {
    links: [vxlan()],
    addresses: [{ link: 'vx0', address: '10.244.0.0/32' }],
    routes: [
      { destination: '10.244.1.0/24', gateway: '10.244.1.0', link: 'vx0', onlink: true, protocol: 213 },
      { destination: '10.9.0.0/16', link: 'eth0', protocol: 213 },
    ],
    neighbours: [{ link: 'vx0', address: '10.244.1.0', mac: '02:00:00:00:00:02', state: 'permanent' }],
    fdb: [{ link: 'vx0', mac: '02:00:00:00:00:02', destination: '10.0.0.2' }],
    sysctls: [{ path: 'net/ipv4/ip_forward', value: '1' }],
  };
  const up = diffState(desired, {}, OWNED);
  assert.deepEqual(
    up.map(op => `${op.action} ${op.kind}`),
    ['add link', 'add sysctl', 'add address', 'add neighbour', 'add fdb', 'add route', 'add route'],
  );
  assert.equal(up[5]!.key, '10.9.0.0/16 254 0');
  const down = diffState({}, desired, OWNED);
  assert.deepEqual(
    down.map(op => `${op.action} ${op.kind}`),
    ['delete route', 'delete route', 'delete fdb', 'delete neighbour', 'delete address', 'delete link'],
  );
});

test('what is not ours is never deleted', () => {
  const observed: KernelState = {
    links: [
      { name: 'br9', kind: 'bridge', up: true },
      { ...vxlan(), name: 'vx9', alias: 'podwire:other' },
    ],
    addresses: [{ link: 'eth0', address: '10.0.0.1/24' }],
    routes: [{ destination: '10.5.0.0/16', gateway: '10.0.0.2', protocol: 4 }],
    neighbours: [{ link: 'eth0', address: '10.0.0.9', mac: '02:00:00:00:00:09', state: 'permanent' }],
    sysctls: [{ path: 'net/ipv4/ip_forward', value: '1' }],
    xtables: [{ family: 4, table: 'nat', chains: [{ name: 'DOCKER', rules: [] }], jumps: [] }],
  };
  assert.deepEqual(diffState({}, observed, OWNED), []);
});

test('a device made anew takes along what hangs on it', () => {
  const on = (port: number): KernelState => ({
    links: [vxlan(port)],
    addresses: [{ link: 'vx0', address: '10.244.0.0/32' }],
    fdb: [{ link: 'vx0', mac: '02:00:00:00:00:02', destination: '10.0.0.2' }],
  });
  assert.deepEqual(text(diffState(on(4789), on(8472), OWNED)), [
    'change link vx0 type vxlan up vni 1 port 4789 local 10.0.0.1 dev eth0',
    'add address 10.244.0.0/32 dev vx0',
    'add fdb entry 02:00:00:00:00:02 dst 10.0.0.2 dev vx0',
  ]);
});

test('a moved VTEP is one change; flooding entries are told apart by destination', () => {
  const fdb = (mac: string, ...destinations: string[]): KernelState => ({
    links: [vxlan()],
    fdb: destinations.map(destination => ({ link: 'vx0', mac, destination })),
  });
  assert.deepEqual(
    text(diffState(fdb('02:00:00:00:00:02', '10.0.0.3'), fdb('02:00:00:00:00:02', '10.0.0.2'), OWNED)),
    ['change fdb entry 02:00:00:00:00:02 dst 10.0.0.3 dev vx0'],
  );
  const zero = '00:00:00:00:00:00';
  assert.deepEqual(
    text(diffState(fdb(zero, '10.0.0.2', '10.0.0.3'), fdb(zero, '10.0.0.2', '10.0.0.4'), OWNED)),
    [`delete fdb entry ${zero} dst 10.0.0.4 dev vx0`, `add fdb entry ${zero} dst 10.0.0.3 dev vx0`],
  );
});

test('what a wish leaves open may be anything; kernel defaults are no difference', () => {
  const observed: KernelState = {
    links: [{ ...vxlan(), mtuBytes: 1450, mac: '02:00:00:00:00:01' }],
    routes: [
      { destination: 'fd00::/64', gateway: 'fd01::1', link: 'eth0', metric: 1024, protocol: 213 },
      { destination: '10.9.0.0/16', link: 'eth0', scope: 'link', protocol: 213 },
      { destination: '10.8.0.0/16', gateway: '10.0.0.7', link: 'eth0', scope: 'global', protocol: 213 },
    ],
    sysctls: [{ path: 'net/ipv4/ip_local_port_range', value: '1024\t65535' }],
  };
  const desired: KernelState = {
    links: [vxlan()],
    routes: [
      { destination: 'fd00::/64', gateway: 'fd01::1', protocol: 213 },
      { destination: '10.9.0.0/16', link: 'eth0', protocol: 213 },
      { destination: '10.8.0.0/16', gateway: '10.0.0.7', protocol: 213 },
    ],
    sysctls: [{ path: 'net/ipv4/ip_local_port_range', value: '1024 65535' }],
  };
  assert.deepEqual(text(diffState(desired, observed, OWNED)), []);
});

const route: fc.Arbitrary<RouteState> = fc.record({
  destination: fc.constantFrom('10.1.0.0/24', '10.2.0.0/24', '10.3.0.0/24', 'fd00::/64'),
  gateway: fc.constantFrom('10.0.0.1', '10.0.0.2'),
  protocol: fc.constantFrom(213, 214),
  metric: fc.option(fc.constantFrom(5, 6), { nil: undefined }),
});
const state: fc.Arbitrary<KernelState> = fc.record({
  links: fc.uniqueArray(
    fc.record({
      name: fc.constantFrom('a', 'b', 'c'),
      kind: fc.constantFrom('bridge' as const, 'ifb' as const),
      up: fc.boolean(),
      mtuBytes: fc.constantFrom(1400, 1500),
    }),
    { selector: link => link.name },
  ),
  addresses: fc.array(
    fc.record({ link: fc.constantFrom('a', 'b'), address: fc.constantFrom('10.0.0.1/24', '10.0.0.2/24') }),
    { maxLength: 4 },
  ),
  routes: fc.array(route, { maxLength: 5 }),
  sysctls: fc.array(fc.record({ path: fc.constantFrom('x', 'y'), value: fc.constantFrom('0', '1') }), {
    maxLength: 2,
  }),
  xtables: fc.constantFrom<KernelState['xtables'][]>(
    [],
    [{ family: 4, table: 'nat', chains: [{ name: 'OURS-A', rules: ['-j ACCEPT'] }], jumps: [] }],
    [
      {
        family: 4,
        table: 'nat',
        chains: [
          { name: 'OURS-A', rules: [] },
          { name: 'OURS-B', rules: ['-j DROP'] },
        ],
        jumps: [],
      },
    ],
  ) as fc.Arbitrary<KernelState['xtables']>,
});

/** What the operations make of a state, when each succeeds. */
function applied(observed: KernelState, operations: readonly Operation[]): ObjectMaps {
  const maps = indexState(observed);
  for (const { action, kind, key, desired } of operations) {
    const map = maps[kind] as Map<string, unknown>;
    if (action === 'delete') map.delete(key);
    else map.set(key, desired);
  }
  return maps;
}

test('applying the difference gives what is desired, and then there is none', () => {
  const everything: Ownership = { alias: () => true, protocols: new Set([213, 214]), chain: () => true };
  const own = (s: KernelState): KernelState => ({
    ...s,
    links: (s.links ?? []).map(link => ({ ...link, alias: 'podwire:overlay' })),
    addresses: (s.addresses ?? []).map(address => ({ ...address, protocol: 213 })),
  });
  fc.assert(
    fc.property(state, state, (a, b) => {
      const desired = own(a);
      const observed = own(b);
      const after = applied(observed, diffState(desired, observed, everything));
      const wanted = indexState(desired);
      for (const kind of KINDS) {
        if (kind === 'sysctl') continue;
        assert.deepEqual([...after[kind].keys()].sort(), [...wanted[kind].keys()].sort(), kind);
      }
      assert.deepEqual(diffState(desired, desired, everything), []);
    }),
  );
});

test('the merged index equals the merge of all fragments, whatever the order of updates', () => {
  const rooms = ['overlay', 'proxy', 'dns'];
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom(...rooms), state), { maxLength: 8 }), updates => {
      const index = new DesiredIndex(rooms);
      const seen = emptyMaps();
      const last = new Map<string, KernelState>();
      for (const [room, fragment] of updates) {
        index.update(room, fragment);
        last.set(room, fragment);
        for (const [kind, keys] of index.takeDirty())
          for (const key of keys) {
            const map = seen[kind] as Map<string, unknown>;
            const now = index.objects[kind].get(key);
            if (now === undefined) map.delete(key);
            else map.set(key, now);
          }
      }
      const fresh = new DesiredIndex(rooms);
      for (const room of rooms) if (last.has(room)) fresh.update(room, last.get(room)!);
      for (const kind of KINDS) {
        const sort = (map: Map<string, unknown>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
        assert.deepEqual(sort(index.objects[kind]), sort(fresh.objects[kind]), kind);
        assert.deepEqual(sort(seen[kind]), sort(fresh.objects[kind]), `dirty ${kind}`);
      }
      assert.deepEqual([...index.linkUses].sort(), [...fresh.linkUses].sort());
    }),
  );
});

test('one changed object among many that kept their reference makes one key dirty', () => {
  const routes = Array.from({ length: 10_000 }, (_, i) => ({
    destination: `10.${i >> 8}.${i & 255}.0/24`,
    gateway: '10.0.0.1',
    protocol: 213,
  }));
  const index = new DesiredIndex(['overlay']);
  index.update('overlay', { routes });
  index.takeDirty();
  const changed = routes.with(5000, { ...routes[5000]!, gateway: '10.0.0.2' });
  index.update('overlay', { routes: changed });
  assert.deepEqual(
    [...index.takeDirty()].map(([kind, keys]) => [kind, [...keys]]),
    [['route', ['10.19.136.0/24 254 0']]],
  );
  index.update('overlay', { routes: changed });
  assert.equal(index.isDirty, false);
});

test('two rooms that differ over one object: the room named first wins, and it is reported', () => {
  const index = new DesiredIndex(['overlay', 'proxy']);
  index.update('proxy', { sysctls: [{ path: 'net/ipv4/ip_forward', value: '0' }] });
  index.update('overlay', { sysctls: [{ path: 'net/ipv4/ip_forward', value: '1' }] });
  assert.equal(index.objects.sysctl.get('net/ipv4/ip_forward')?.value, '1');
  assert.deepEqual(index.conflicts, [
    { kind: 'sysctl', key: 'net/ipv4/ip_forward', winner: 'overlay', loser: 'proxy' },
  ]);
  index.update('overlay', {});
  assert.equal(index.objects.sysctl.get('net/ipv4/ip_forward')?.value, '0');
  assert.deepEqual(index.conflicts, []);
});

test('the settings of a device that is about to be made are written with it, whatever they look like now', () => {
  const sysctls = [
    { path: 'net/ipv6/conf/vx0/accept_ra', value: '0', optional: true },
    { path: 'net/ipv6/conf/vx1/accept_ra', value: '0', optional: true },
  ];
  const actions = (observed: KernelState): string[] =>
    diffState({ links: [vxlan()], sysctls }, { ...observed, sysctls }, OWNED).map(
      op => `${op.action} ${op.key}`,
    );
  assert.deepEqual(actions({}), ['add vx0', 'add net/ipv6/conf/vx0/accept_ra']);
  assert.deepEqual(actions({ links: [vxlan(4789)] }), ['change vx0', 'add net/ipv6/conf/vx0/accept_ra']);
  assert.deepEqual(actions({ links: [vxlan()] }), []);
});
