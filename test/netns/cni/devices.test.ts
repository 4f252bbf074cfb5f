// macvlan, host-device, tap, sbr and firewall against the kernel.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CniHost } from '../../harness/cni.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
let host: CniHost;
before(async () => {
  if (skip) return;
  host = await CniHost.create();
  await host.sh(
    'ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up; ip addr add 10.70.0.254/24 dev m1',
  );
});
after(async () => {
  if (!skip) await host.close();
});

const net = (type: string, over: Record<string, unknown> = {}) => ({
  cniVersion: '1.1.0',
  name: 'dev',
  type,
  ...over,
});
const ipam = (over: Record<string, unknown> = {}) => ({
  type: 'host-local',
  dataDir: host.dataDir,
  subnet: '10.70.0.0/24',
  ...over,
});
const reserved = () => readdirSync(join(host.dataDir, 'dev')).filter(name => /^[0-9]+\./.test(name));
interface Ips {
  interfaces: { name: string; mac: string }[];
  ips: { address: string }[];
}

test('macvlan: reaches beyond its master, CHECK, DEL with and without namespace', { skip }, async () => {
  const netns = host.addPod();
  const config = net('macvlan', {
    master: 'm0',
    mtu: 1400,
    bcqueuelen: 500,
    ipam: ipam(),
    runtimeConfig: { mac: '02:aa:bb:cc:dd:ee' },
  });
  const result = (await host.ok('ADD', { config, netns })) as unknown as Ips;
  assert.equal(result.interfaces[0]!.mac, '02:aa:bb:cc:dd:ee');
  assert.match(
    await host.sh('ip -d link show eth0', netns),
    /mtu 1400[\s\S]*macvlan mode bridge bcqueuelen 500/,
  );
  assert.match(await host.sh('busybox ping -c1 -W2 10.70.0.254', netns), /1 packets received/);
  await host.ok('CHECK', { config: { ...config, prevResult: result }, netns });
  const again = await host.run('ADD', { config, netns });
  assert.match(String(again.json.msg), /eth0 already exists/);
  host.removePod(netns);
  await host.ok('DEL', { config });
  assert.deepEqual(reserved(), []);
  for (const [bad, message] of [
    [{ master: 'none' }, /failed to lookup master "none"/],
    [{ master: 'm0', mode: 'x' }, /unknown macvlan mode/],
    [{ master: 'm0', mtu: 9000 }, /invalid MTU 9000/],
  ] as const)
    assert.match(
      String((await host.run('ADD', { config: net('macvlan', bad), netns: host.addPod() })).json.msg),
      message,
    );
  assert.equal((await host.run('STATUS', { config: net('macvlan', { master: 'none' }) })).json.code, 50);
});

test('host-device: there and back under its old name', { skip }, async () => {
  const netns = host.addPod();
  await host.sh('ip link add nic0 type veth peer name nic1; ip link set nic0 address 02:00:00:00:00:42');
  for (const choice of [{ device: 'nic0' }, { hwaddr: '02:00:00:00:00:42' }]) {
    const config = net('host-device', { ...choice, ipam: ipam() });
    const result = (await host.ok('ADD', { config, netns })) as unknown as Ips;
    assert.deepEqual(host.links().includes('nic0'), false);
    assert.match(await host.sh('ip addr show eth0', netns), new RegExp(result.ips[0]!.address));
    await host.ok('CHECK', { config: { ...config, prevResult: result }, netns });
    await host.ok('DEL', { config, netns });
    await host.ok('DEL', { config, netns });
    assert.deepEqual(host.links().includes('nic0'), true);
  }
  const lost = await host.run('ADD', { config: net('host-device', { device: 'none' }), netns });
  assert.match(String(lost.json.msg), /failed to find physical interface none/);
  const none = await host.run('ADD', { config: net('host-device'), netns });
  assert.match(String(none.json.msg), /specify either/);
  const bad = await host.run('ADD', {
    config: net('host-device', { device: 'nic0', ipam: ipam({ subnet: 'x' }) }),
    netns,
  });
  assert.equal(bad.code, 1);
  assert.deepEqual(host.links().includes('nic0'), true);
  assert.deepEqual(reserved(), []);
  await host.sh('ip link del nic0');
});

test('tap: made for its user, DEL removes it', { skip }, async () => {
  const netns = host.addPod();
  const config = net('tap', {
    mac: '02:00:00:00:00:07',
    mtu: 1300,
    owner: 1000,
    group: 1000,
    multiQueue: true,
    ipam: ipam(),
  });
  const result = (await host.ok('ADD', { config, netns, ifName: 'tap0' })) as unknown as Ips;
  assert.equal(result.interfaces[0]!.mac, '02:00:00:00:00:07');
  assert.match(
    await host.sh('ip -d link show tap0', netns),
    /mtu 1300[\s\S]*tun type tap pi off vnet_hdr on multi_queue.*persist on user (1000|\S+) group/,
  );
  await host.ok('CHECK', { config: { ...config, prevResult: result }, netns, ifName: 'tap0' });
  await host.ok('DEL', { config, netns, ifName: 'tap0' });
  assert.doesNotMatch(await host.sh('ip link', netns), /tap0/);
  assert.deepEqual(reserved(), []);
});

test('sbr: a table and a rule for the address, gone with DEL', { skip }, async () => {
  const netns = host.addPod();
  const macvlan = net('macvlan', {
    master: 'm0',
    ipam: ipam({ gateway: '10.70.0.254', routes: [{ dst: '10.99.0.0/16' }] }),
  });
  const prevResult = await host.ok('ADD', { config: macvlan, netns, ifName: 'net1' });
  const config = net('sbr', { prevResult });
  await host.ok('ADD', { config, netns, ifName: 'net1' });
  assert.match(await host.sh('ip rule', netns), /from 10\.70\.0\.\d+ lookup 100/);
  assert.match(
    await host.sh('ip route show table 100', netns),
    /default via 10\.70\.0\.254 dev net1[\s\S]*10\.70\.0\.0\/24 dev net1[\s\S]*10\.99\.0\.0\/16 via 10\.70\.0\.254/,
  );
  assert.equal((await host.sh('ip -4 route', netns)).trim(), '');
  await host.ok('CHECK', { config, netns, ifName: 'net1' });
  await host.ok('DEL', { config, netns, ifName: 'net1' });
  assert.doesNotMatch(await host.sh('ip rule', netns), /lookup 100/);
  assert.equal((await host.run('CHECK', { config, netns, ifName: 'net1' })).code, 1);
  await host.ok('DEL', { config: macvlan, netns, ifName: 'net1' });
});

test('firewall: the pod passes a FORWARD policy of DROP; rules go by owner', { skip }, async () => {
  const netns = host.addPod();
  const bridge = net('bridge', {
    bridge: 'br0',
    isDefaultGateway: true,
    ipam: ipam({ subnet: '10.71.0.0/24' }),
  });
  const prevResult = (await host.ok('ADD', { config: bridge, netns, id: 'fw' })) as unknown as Ips;
  await host.sh('iptables-nft -P FORWARD DROP; ip addr add 192.0.2.1/24 dev m0');
  const config = net('firewall', { prevResult, ingressPolicy: 'same-bridge' });
  for (let i = 0; i < 2; i++) assert.deepEqual(await host.ok('ADD', { config, netns, id: 'fw' }), prevResult);
  const rules = await host.sh('iptables-nft-save -t filter');
  const ip = prevResult.ips[0]!.address.split('/')[0]!;
  assert.equal(rules.split(`-s ${ip}/32`).length, 2);
  assert.match(rules, /-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD/);
  assert.match(
    rules,
    /-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN/,
  );
  assert.match(
    rules,
    /-A CNI-ISOLATION-STAGE-1 -i br0 ! -o br0 .*-j CNI-ISOLATION-STAGE-2[\s\S]*-A CNI-ISOLATION-STAGE-1 .*-j RETURN/,
  );
  await host.ok('CHECK', { config, netns, id: 'fw' });
  await host.ok('GC', {
    config: net('firewall', { 'cni.dev/valid-attachments': [{ containerID: 'fw', ifname: 'eth0' }] }),
  });
  await host.ok('CHECK', { config, netns, id: 'fw' });
  await host.ok('DEL', { config: net('firewall'), id: 'fw' });
  assert.doesNotMatch(await host.sh('iptables-nft-save -t filter'), new RegExp(ip));
  assert.equal((await host.run('CHECK', { config, netns, id: 'fw' })).code, 1);
  await host.ok('DEL', { config: net('firewall'), id: 'fw' });
  await host.ok('DEL', { config: bridge, netns, id: 'fw' });
});
