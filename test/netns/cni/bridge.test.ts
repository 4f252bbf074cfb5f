// The bridge, loopback and host-local plugins as a runtime sees them: launcher, server, kernel, files.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CniHost, type CniRequest } from '../../harness/cni.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
let host: CniHost;

before(async () => {
  if (!skip) host = await CniHost.create();
});
after(async () => {
  if (!skip) await host.close();
});

const config = (over: Record<string, unknown> = {}) => ({
  cniVersion: '1.1.0',
  name: 'net',
  type: 'bridge',
  bridge: 'br0',
  isDefaultGateway: true,
  hairpinMode: true,
  ipam: {
    type: 'host-local',
    dataDir: host.dataDir,
    ranges: [[{ subnet: '10.60.0.0/24' }], [{ subnet: 'fd60::/64' }]],
  },
  ...over,
});

const reservations = (network = 'net') => {
  try {
    return readdirSync(join(host.dataDir, network)).filter(name => /^[0-9a-f]+[.:]/.test(name));
  } catch {
    return [];
  }
};

interface Ips {
  interfaces: { name: string; mac: string; mtu: number; sandbox?: string }[];
  ips: { address: string; gateway: string; interface: number }[];
}

test('two pods reach each other and the gateway, over both families, at once', { skip }, async () => {
  const pods = [host.addPod(), host.addPod()];
  const results = await Promise.all(
    pods.map((netns, i) => host.ok('ADD', { config: config(), netns, id: `pair${i}` })),
  );
  const [a, b] = results as unknown as [Ips, Ips];
  assert.deepEqual(
    a.interfaces.map(one => [one.name.replace(/[0-9a-f]{8}$/, ''), one.mtu, one.sandbox]),
    [
      ['br0', 1500, undefined],
      ['veth', 1500, undefined],
      ['eth0', 1500, pods[0]],
    ],
  );
  for (const ip of b.ips) {
    const target = ip.address.split('/')[0]!;
    const out = await host.sh(`busybox ping ${target.includes(':') ? '-6' : ''} -c1 -W2 ${target}`, pods[0]!);
    assert.match(out, /1 packets received/, out);
    const gateway = await host.sh(`busybox ping -c1 -W2 ${ip.gateway}`, pods[0]!);
    assert.match(gateway, /1 packets received/, gateway);
  }
  for (const [i, netns] of pods.entries()) {
    const request = { config: config({ prevResult: results[i] }), netns, id: `pair${i}` };
    await host.ok('CHECK', request);
    await host.ok('DEL', request);
  }
  assert.deepEqual(host.links(), ['br0']);
  assert.deepEqual(reservations(), []);
});

test('DEL works without namespace, result, or anything to delete', { skip }, async () => {
  const netns = host.addPod();
  await host.ok('ADD', { config: config(), netns, id: 'gone' });
  host.removePod(netns);
  for (let i = 0; i < 2; i++) await host.ok('DEL', { config: config(), id: 'gone' });
  const kept = host.addPod();
  await host.ok('ADD', { config: config(), netns: kept, id: 'alive' });
  await host.ok('DEL', { config: config(), id: 'alive' });
  assert.deepEqual(host.links(), ['br0']);
  assert.deepEqual(reservations(), []);
  await host.ok('DEL', { config: config(), id: 'never', netns: '/run/netns/pwt-cni-none' });
});

test('a second ADD is refused and changes nothing', { skip }, async () => {
  const request: CniRequest = { config: config(), netns: host.addPod(), id: 'twice' };
  const first = await host.ok('ADD', request);
  const second = await host.run('ADD', request);
  assert.equal(second.code, 1);
  assert.match(String(second.json.msg), /eth0 already exists/);
  const elsewhere = await host.run('ADD', { ...request, netns: host.addPod() });
  assert.match(String(elsewhere.json.msg), /eth0 of container twice already exists in another namespace/);
  await host.ok('CHECK', { ...request, config: config({ prevResult: first }) });
  await host.ok('DEL', request);
  assert.deepEqual(reservations(), []);
});

test('CHECK notices what was removed by hand', { skip }, async () => {
  const netns = host.addPod();
  const result = (await host.ok('ADD', { config: config(), netns, id: 'chk' })) as unknown as Ips;
  const request = { config: config({ prevResult: result }), netns, id: 'chk' };
  const [, veth] = result.interfaces;
  const breaks: [namespace: string | undefined, broken: string, mended: string, message: RegExp][] = [
    [
      netns,
      'ip addr del DEV4 dev eth0',
      'ip addr add DEV4 dev eth0; ip route add default via 10.60.0.1',
      /does not have address/,
    ],
    [netns, 'ip route del default', 'ip route add default via 10.60.0.1', /route 0\.0\.0\.0\/0/],
    [
      undefined,
      `ip link set ${veth!.name} nomaster`,
      `ip link set ${veth!.name} master br0; bridge link set dev ${veth!.name} hairpin on`,
      /not a port/,
    ],
    [
      undefined,
      `bridge link set dev ${veth!.name} hairpin off`,
      `bridge link set dev ${veth!.name} hairpin on`,
      /hairpin/,
    ],
    [undefined, 'ip addr del 10.60.0.1/24 dev br0', 'ip addr add 10.60.0.1/24 dev br0', /gateway address/],
    [
      netns,
      'ip link set eth0 address 02:00:00:00:00:99',
      `ip link set eth0 address ${result.interfaces[2]!.mac}`,
      /MAC/,
    ],
  ];
  await host.ok('CHECK', request);
  for (const [namespace, broken, mended, message] of breaks) {
    const dev4 = result.ips[0]!.address;
    await host.sh(broken.replaceAll('DEV4', dev4), namespace);
    const output = await host.run('CHECK', request);
    assert.equal(output.code, 1, broken);
    assert.match(String(output.json.msg), message);
    await host.sh(mended.replaceAll('DEV4', dev4), namespace);
    await host.ok('CHECK', request);
  }
  await host.ok('DEL', request);
});

test('a failure after IPAM gives the address back and leaves no link', { skip }, async () => {
  const netns = host.addPod();
  await host.sh('ip link add notabridge type veth peer name other');
  const output = await host.run('ADD', { config: config({ bridge: 'notabridge', name: 'bad' }), netns });
  assert.equal(output.code, 1);
  assert.match(String(output.json.msg), /already exists but is not a bridge/);
  assert.deepEqual(reservations('bad'), []);
  await host.sh('ip link del notabridge');
  assert.deepEqual(host.links(), ['br0']);
});

test('another gateway address is refused, or replaced with forceAddress', { skip }, async () => {
  const netns = host.addPod();
  const ipam = { type: 'host-local', dataDir: host.dataDir, subnet: '10.61.0.0/24' };
  const request = (over: object): CniRequest => ({
    config: config({ name: 'other', ipam, ...over }),
    netns,
    id: 'force',
  });
  const refused = await host.run('ADD', request({}));
  assert.match(String(refused.json.msg), /already has an IP address different from 10\.61\.0\.1\/24/);
  assert.deepEqual(reservations('other'), []);
  await host.ok('ADD', request({ forceAddress: true }));
  await host.ok('DEL', request({}));
  await host.ok('ADD', { config: config({ forceAddress: true }), netns, id: 'back' });
  await host.ok('DEL', { config: config(), netns, id: 'back' });
});

test('GC removes what belongs to no attachment, and only that', { skip }, async () => {
  const pods = [host.addPod(), host.addPod()];
  for (const [i, netns] of pods.entries()) await host.ok('ADD', { config: config(), netns, id: `gc${i}` });
  await host.ok('GC', {
    config: config({ 'cni.dev/valid-attachments': [{ containerID: 'gc1', ifname: 'eth0' }] }),
  });
  assert.equal(reservations().length, 2);
  assert.equal(host.links().filter(name => name.startsWith('veth')).length, 1);
  await host.ok('GC', { config: config({ 'cni.dev/valid-attachments': [] }) });
  assert.deepEqual(host.links(), ['br0']);
  assert.deepEqual(reservations(), []);
  await host.ok('STATUS', { config: config() });
});

test('fifty first ADDs at once make one bridge, one gateway, fifty addresses', { skip }, async () => {
  const pods = Array.from({ length: 50 }, () => host.addPod());
  const own = config({
    bridge: 'br50',
    name: 'fifty',
    ipam: { type: 'host-local', dataDir: host.dataDir, subnet: '10.62.0.0/24' },
  });
  const results = (await Promise.all(
    pods.map((netns, i) => host.ok('ADD', { config: own, netns, id: `many${i}`, ifName: 'eth0' })),
  )) as unknown as Ips[];
  assert.equal(new Set(results.map(result => result.ips[0]!.address)).size, 50);
  assert.equal(new Set(results.map(result => result.interfaces[0]!.mac)).size, 1);
  host.rtnetlink(host.netns, net => {
    assert.equal(net.getLink('br50')?.mac, results[0]!.interfaces[0]!.mac);
    assert.deepEqual(
      net.listAddresses({ link: 'br50', family: 4 }).map(one => one.address),
      ['10.62.0.1/24'],
    );
  });
  await Promise.all(pods.map((netns, i) => host.ok('DEL', { config: own, netns, id: `many${i}` })));
  assert.deepEqual(host.links(), ['br0', 'br50']);
  for (const pod of pods) host.removePod(pod);
});

test('the same without the server, by node', { skip }, async () => {
  const netns = host.addPod();
  const request: CniRequest = { config: config(), netns, id: 'node', withoutServer: true };
  const result = await host.ok('ADD', request);
  await host.ok('CHECK', { ...request, config: config({ prevResult: result }) });
  await host.ok('DEL', request);
  assert.deepEqual(host.links().includes('br0'), true);
  assert.deepEqual(reservations(), []);
  const version = await host.run('VERSION', { ...request, plugin: 'loopback' });
  assert.equal(version.json.cniVersion, '1.1.0');
});

test('the host’s own namespace is refused as a pod, code 8; so is a path that is none', {
  skip,
}, async () => {
  const own = await host.run('ADD', { config: config(), netns: `/run/netns/${host.netnsName}` });
  assert.deepEqual([own.code, own.json.code], [1, 8]);
  const none = await host.run('ADD', { config: config(), netns: '/run/netns/pwt-cni-none' });
  assert.deepEqual([none.code, none.json.code], [1, 8]);
  const file = await host.run('ADD', { config: config(), netns: '/etc/hostname' });
  assert.equal(file.code, 1);
  assert.deepEqual(reservations(), []);
});

test('loopback', { skip }, async () => {
  const netns = host.addPod();
  const lo = { cniVersion: '0.3.1', name: 'cni-loopback', type: 'loopback' };
  const result = await host.ok('ADD', { config: lo, netns, ifName: 'lo' });
  assert.deepEqual(result, {
    cniVersion: '0.3.1',
    interfaces: [{ name: 'lo', mac: '00:00:00:00:00:00', sandbox: netns }],
    ips: [
      { version: '4', interface: 0, address: '127.0.0.1/8' },
      { version: '6', interface: 0, address: '::1/128' },
    ],
    dns: {},
  });
  const newer = { ...lo, cniVersion: '1.0.0', prevResult: { ...result, cniVersion: '0.3.1' } };
  await host.ok('CHECK', { config: newer, netns, ifName: 'lo' });
  await host.ok('DEL', { config: lo, netns, ifName: 'lo' });
  assert.equal((await host.run('CHECK', { config: newer, netns, ifName: 'lo' })).code, 1);
  await host.ok('DEL', { config: lo, ifName: 'lo' });
});

test('a bridge that was made by hand: the result has the MAC that it takes from its port', {
  skip,
}, async () => {
  await host.sh('ip link add hand type bridge');
  const over = { bridge: 'hand', isGateway: false, isDefaultGateway: false, ipMasq: false };
  for (const id of ['h1', 'h2', 'h3']) {
    const netns = host.addPod();
    const result = (await host.ok('ADD', { config: config(over), netns, id })) as unknown as Ips;
    await host.ok('CHECK', { config: config({ ...over, prevResult: result }), netns, id });
    await host.ok('DEL', { config: config(over), netns, id });
  }
  await host.sh('ip link del hand');
});
