// Rtnetlink against iproute2: what we make, `ip -j` must show, and what `ip` makes, we must read.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { run, runOk } from '../../../src/linux/exec.ts';
import { createNetns, deleteNetns, Netns } from '../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';

const skip = process.getuid?.() === 0 ? false : 'not root';
const NAME = `pwt-linux-rt-${process.pid}`;
const OTHER = `${NAME}-b`;
let netns: Netns;
let other: Netns;
let rt: Rtnetlink;

async function ip(...args: string[]): Promise<Record<string, unknown>[]> {
  const { stdout } = await runOk('ip', ['-j', '-d', ...args], { netns });
  return stdout.trim() === '' ? [] : (JSON.parse(stdout) as Record<string, unknown>[]);
}

before(() => {
  if (skip) return;
  netns = Netns.open(createNetns(NAME));
  other = Netns.open(createNetns(OTHER));
  rt = Rtnetlink.open(netns);
});

after(() => {
  if (skip) return;
  rt.close();
  netns.close();
  other.close();
  deleteNetns(NAME);
  deleteNetns(OTHER);
});

test('links: bridge, veth across namespaces, vxlan, macvlan', { skip }, async () => {
  rt.addLink({
    name: 'br0',
    kind: 'bridge',
    up: true,
    alias: 'podwire:test',
    bridge: { ageingTimeCs: 500 },
  });
  rt.addLink({
    name: 'v0',
    kind: 'veth',
    master: 'br0',
    mtuBytes: 1400,
    up: true,
    port: { hairpin: true, isolated: true },
    peer: { name: 'v1', netnsFd: other.fd, mac: '02:00:00:00:00:09', mtuBytes: 1400, up: true },
  });
  rt.addLink({ name: 'under', kind: 'veth', peer: { name: 'under1' }, up: true });
  rt.addLink({
    name: 'vx0',
    kind: 'vxlan',
    mac: '02:11:22:33:44:55',
    mtuBytes: 1450,
    alias: 'podwire:overlay',
    vxlan: { vni: 1, port: 8472, local: '10.9.0.1', dev: 'under', learning: false },
  });
  rt.addLink({ name: 'mv0', kind: 'macvlan', link: 'under', macvlan: { mode: 'bridge' } });
  const shown = new Map((await ip('link', 'show')).map(l => [l.ifname as string, l]));
  const info = (name: string) =>
    (shown.get(name)?.linkinfo ?? {}) as {
      info_data: Record<string, unknown>;
      info_slave_data: Record<string, unknown>;
    };
  assert.equal(shown.get('br0')?.ifalias, 'podwire:test');
  assert.equal(info('br0').info_data.ageing_time, 500);
  assert.equal(shown.get('v0')?.master, 'br0');
  assert.equal(info('v0').info_slave_data.hairpin, true);
  assert.equal(info('v0').info_slave_data.isolated, true);
  assert.equal(shown.get('vx0')?.ifalias, 'podwire:overlay');
  assert.equal(shown.get('vx0')?.address, '02:11:22:33:44:55');
  const vxlan = info('vx0').info_data;
  assert.deepEqual(
    [vxlan.id, vxlan.local, vxlan.link, vxlan.port, vxlan.learning],
    [1, '10.9.0.1', 'under', 8472, false],
  );
  assert.equal(info('mv0').info_data.mode, 'bridge');

  using there = Rtnetlink.open(other);
  const peer = there.getLink('v1');
  assert.equal(peer?.mac, '02:00:00:00:00:09');
  assert.equal(peer?.mtuBytes, 1400);
  assert.equal(peer?.kind, 'veth');
  assert.equal(peer?.up, true);

  const vx = rt.getLink('vx0');
  assert.deepEqual(vx?.vxlan, {
    vni: 1,
    port: 8472,
    local: '10.9.0.1',
    linkIndex: rt.getLink('under')?.index,
    learning: false,
    gbp: false,
  });
  const v0 = rt.getLink('v0');
  assert.equal(v0?.masterIndex, rt.getLink('br0')?.index);
  assert.deepEqual(v0?.port, { hairpin: true, isolated: true, learning: true });
  assert.equal(rt.getLink('nothing'), undefined);
  assert.throws(() => rt.addLink({ name: 'br0', kind: 'bridge' }), { code: 'EEXIST' });
  assert.throws(() => rt.setLink('nothing', { up: true }), { code: 'ENODEV', op: 'find link nothing' });
});

test('a refusal carries the kernel’s own words', { skip }, () => {
  assert.throws(
    () => rt.setLink('under', { mtuBytes: 20 }),
    (error: { code: string; extAck?: string; message: string }) => {
      assert.equal(error.code, 'EINVAL');
      assert.match(error.message, /^set link under mtuBytes 20: EINVAL: mtu less than device minimum$/);
      return true;
    },
  );
});

test('set link: name, mtu, mac, master, alias, promiscuous, move', { skip }, () => {
  rt.addLink({ name: 'a0', kind: 'veth', peer: { name: 'a1' } });
  rt.setLink('a0', {
    mac: '02:00:00:00:00:0a',
    mtuBytes: 1300,
    promiscuous: true,
    txQueueLength: 7,
    alias: 'x',
  });
  rt.setLink('a0', { master: 'br0', up: true });
  rt.setLink('a0', { hairpin: true });
  let a0 = rt.getLink('a0');
  assert.deepEqual(
    [a0?.mac, a0?.mtuBytes, a0?.promiscuous, a0?.txQueueLength, a0?.alias, a0?.up, a0?.port?.hairpin],
    ['02:00:00:00:00:0a', 1300, true, 7, 'x', true, true],
  );
  rt.setLink('a0', { master: 0, up: false });
  rt.setLink('a0', { name: 'a2' });
  a0 = rt.getLink('a2');
  assert.equal(a0?.masterIndex, undefined);
  rt.setLink('a2', { netnsFd: other.fd });
  assert.equal(rt.getLink('a2'), undefined);
  rt.delLink('a1');
});

test('addresses', { skip }, async () => {
  rt.setLink('lo', { up: true });
  rt.addAddress({ link: 'under', address: '10.9.0.1/24', broadcast: 'auto', protocol: 213 });
  rt.addAddress({ link: 'under', address: 'fd09::1/64', noDad: true });
  assert.throws(() => rt.addAddress({ link: 'under', address: '10.9.0.1/24' }), { code: 'EEXIST' });
  rt.addAddress({ link: 'under', address: '10.9.0.1/24', broadcast: 'auto', protocol: 213, replace: true });
  await runOk('ip', ['address', 'add', '192.168.7.1', 'peer', '192.168.7.2/32', 'dev', 'under'], { netns });
  const all = rt.listAddresses({ link: 'under' });
  const v4 = all.find(a => a.address === '10.9.0.1/24');
  assert.deepEqual([v4?.broadcast, v4?.protocol, v4?.permanent, v4?.scope], ['10.9.0.255', 213, true, 0]);
  assert.equal(all.find(a => a.address === 'fd09::1/64')?.tentative, false);
  assert.equal(all.find(a => a.peer === '192.168.7.2')?.address, '192.168.7.1/32');
  assert.ok(rt.listAddresses({ family: 6 }).every(a => a.family === 6));
  rt.delAddress({ link: 'under', address: 'fd09::1/64' });
  assert.throws(() => rt.delAddress({ link: 'under', address: 'fd09::1/64' }), { code: 'EADDRNOTAVAIL' });
});

test('routes, ECMP, next-hop objects, lookups', { skip }, async () => {
  rt.setLink('under1', { up: true });
  rt.setLink('vx0', { up: true });
  rt.addRoute({
    destination: '10.244.1.0/24',
    gateway: '10.244.1.0',
    link: 'vx0',
    onlink: true,
    protocol: 213,
  });
  rt.addRoute({
    destination: '10.244.2.0/24',
    gateway: '10.9.0.2',
    protocol: 213,
    metric: 5,
    source: '10.9.0.1',
  });
  rt.addRoute({ destination: '10.244.3.0/24', type: 'blackhole', protocol: 214 });
  rt.addRoute({
    destination: '10.244.4.0/24',
    protocol: 214,
    nexthops: [
      { gateway: '10.9.0.2', link: 'under' },
      { gateway: '10.9.0.3', link: 'under', weight: 2 },
    ],
  });
  rt.setNexthop({ id: 77, family: 4, gateway: '10.9.0.9', link: 'under', protocol: 213 });
  rt.addRoute({ destination: '10.244.5.0/24', nexthopId: 77, protocol: 213 });
  rt.addRoute({ destination: '10.244.6.0/24', link: 'under', table: 1000, protocol: 213 });
  rt.addRoute({ destination: 'fd44::/64', gateway: 'fe80::1', link: 'under', protocol: 213 });
  const shown = await ip('route', 'show', 'proto', '213');
  assert.deepEqual(shown.map(r => r.dst).sort(), ['10.244.1.0/24', '10.244.2.0/24', '10.244.5.0/24']);

  const mine = rt.listRoutes({ protocol: 213, table: 254 });
  const find = (destination: string) => mine.find(r => r.destination === destination);
  assert.equal(mine.length, 4);
  assert.equal(find('10.244.1.0/24')?.onlink, true);
  assert.deepEqual([find('10.244.2.0/24')?.metric, find('10.244.2.0/24')?.source], [5, '10.9.0.1']);
  assert.equal(find('10.244.5.0/24')?.nexthopId, 77);
  assert.equal(find('fd44::/64')?.gateway, 'fe80::1');
  const bgp = rt.listRoutes({ protocol: 214, family: 4 });
  assert.equal(bgp.find(r => r.destination === '10.244.3.0/24')?.type, 'blackhole');
  assert.deepEqual(
    bgp.find(r => r.destination === '10.244.4.0/24')?.nexthops?.map(h => [h.gateway, h.weight]),
    [
      ['10.9.0.2', 1],
      ['10.9.0.3', 2],
    ],
  );
  assert.equal(rt.listRoutes({ table: 1000 }).length, 1);
  assert.equal(rt.listRoutes({ table: 1001 }).length, 0);
  assert.equal(rt.getRoute('10.244.1.7').gateway, '10.244.1.0');
  assert.throws(() => rt.getRoute('10.244.3.1'), { code: 'EINVAL' });
  assert.deepEqual(rt.listNexthops().find(n => n.id === 77)?.gateway, '10.9.0.9');

  rt.addRoute({ destination: '10.244.2.0/24', gateway: '10.9.0.4', protocol: 213, metric: 5, replace: true });
  assert.equal(rt.getRoute('10.244.2.1').gateway, '10.9.0.4');
  rt.delRoute({ destination: '10.244.2.0/24', protocol: 213, metric: 5 });
  assert.throws(() => rt.delRoute({ destination: '10.244.2.0/24', protocol: 213 }), { code: 'ESRCH' });
  rt.delNexthop(77);
  assert.equal(rt.listRoutes({ protocol: 213, family: 4, table: 254 }).length, 1);
});

test('neighbours, fdb, rules', { skip }, async () => {
  rt.setNeighbour({ link: 'vx0', address: '10.244.1.0', mac: '02:00:00:00:01:01', protocol: 213 });
  rt.setFdb({ link: 'vx0', mac: '02:00:00:00:01:01', destination: '10.9.0.2' });
  rt.appendFdb({ link: 'vx0', mac: '00:00:00:00:00:00', destination: '10.9.0.2' });
  rt.appendFdb({ link: 'vx0', mac: '00:00:00:00:00:00', destination: '10.9.0.3' });
  const shown = JSON.parse((await runOk('bridge', ['-j', 'fdb', 'show', 'dev', 'vx0'], { netns })).stdout);
  assert.equal(shown.length, 3);
  const fdb = rt.listFdb('vx0');
  assert.deepEqual(
    fdb
      .filter(e => e.self && e.permanent)
      .map(e => `${e.mac} ${e.destination}`)
      .sort(),
    ['00:00:00:00:00:00 10.9.0.2', '00:00:00:00:00:00 10.9.0.3', '02:00:00:00:01:01 10.9.0.2'],
  );
  const [neighbour] = rt.listNeighbours({ link: 'vx0', family: 4 });
  assert.deepEqual([neighbour?.mac, neighbour?.state, neighbour?.protocol], ['02:00:00:00:01:01', 0x80, 213]);
  rt.setFdb({ link: 'vx0', mac: '02:00:00:00:01:01', destination: '10.9.0.5' });
  assert.equal(rt.listFdb('vx0').find(e => e.mac === '02:00:00:00:01:01')?.destination, '10.9.0.5');
  rt.delFdb({ link: 'vx0', mac: '02:00:00:00:01:01', destination: '10.9.0.5' });
  rt.delNeighbour({ link: 'vx0', address: '10.244.1.0' });
  assert.equal(rt.listNeighbours({ link: 'vx0', family: 4 }).length, 0);

  rt.addRule({
    family: 4,
    priority: 99,
    source: '10.0.0.0/8',
    fwmark: { value: 0x40, mask: 0xff },
    table: 1000,
    protocol: 213,
  });
  const rules = rt.listRules(4);
  assert.deepEqual(
    rules.find(r => r.priority === 99),
    {
      family: 4,
      priority: 99,
      source: '10.0.0.0/8',
      fwmark: { value: 0x40, mask: 0xff },
      table: 1000,
      action: 1,
      invert: false,
      protocol: 213,
    },
  );
  rt.delRule({ family: 4, priority: 99, table: 1000 });
  assert.equal(rt.listRules(4).length, 3);
});

test('a batch tries everything and names what failed', { skip }, () => {
  const errors = rt.batch(b => {
    for (let i = 0; i < 2000; i++)
      b.addRoute({ destination: `10.${100 + (i >> 8)}.${i & 255}.0/24`, link: 'under', protocol: 213 });
    b.addRoute({ destination: '10.100.7.0/24', link: 'under', protocol: 213 });
    b.addRoute({ destination: '10.50.0.0/24', gateway: '172.31.0.1', protocol: 213 });
    b.addLink({ name: 'late', kind: 'bridge' });
    b.addAddress({ link: 'late', address: '10.77.0.1/24' });
  });
  assert.deepEqual(
    errors.map(e => e.message),
    [
      'add route 10.100.7.0/24 dev under: EEXIST',
      'add route 10.50.0.0/24 via 172.31.0.1: ENETUNREACH: Nexthop has invalid gateway',
    ],
  );
  assert.equal(rt.listRoutes({ protocol: 213, family: 4, table: 254 }).length, 2001);
  assert.equal(rt.listAddresses({ link: 'late' })[0]?.address, '10.77.0.1/24');
});

test('programs run inside a namespace', { skip }, async () => {
  const inside = await run('ip', ['-j', 'link', 'show', 'br0'], { netns });
  assert.equal(inside.code, 0);
  const outside = await run('ip', ['link', 'show', 'br0-not-here']);
  assert.notEqual(outside.code, 0);
  assert.equal(Netns.current().inode !== netns.inode, true);
  assert.throws(() => netns.run(async () => 1), { code: 'NOT_SYNCHRONOUS' });
});
