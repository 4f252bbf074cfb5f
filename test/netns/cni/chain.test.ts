// ptp, tuning and flannel: what they make, check, undo; alone and in a chain.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CniHost } from '../../harness/cni.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
let host: CniHost;
before(async () => {
  if (!skip) host = await CniHost.create();
});
after(async () => {
  if (!skip) await host.close();
});

interface Ips {
  interfaces: { name: string; mac: string; mtu?: number }[];
  ips: { address: string; gateway: string }[];
}
const ruleset = () => host.sh('nft list ruleset');

const ptp = (over: Record<string, unknown> = {}) => ({
  cniVersion: '1.1.0',
  name: 'ptpnet',
  type: 'ptp',
  ipMasq: true,
  mtu: 1400,
  ipam: {
    type: 'host-local',
    dataDir: host.dataDir,
    ranges: [[{ subnet: '10.64.0.0/24' }], [{ subnet: 'fd64::/64' }]],
    routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
  },
  ...over,
});

test('ptp: pods reach each other and the host by route only', { skip }, async () => {
  const pods = [host.addPod(), host.addPod()];
  const results = (await Promise.all(
    pods.map((netns, i) => host.ok('ADD', { config: ptp(), netns, id: `ptp${i}` })),
  )) as unknown as Ips[];
  assert.match(
    await host.sh('ip route', pods[0]!),
    /default via 10\.64\.0\.1 dev eth0[\s\S]*10\.64\.0\.0\/24 via 10\.64\.0\.1 dev eth0 src 10\.64\.0\.[23][\s\S]*10\.64\.0\.1 dev eth0 scope link src/,
  );
  for (const ip of results[1]!.ips)
    for (const target of [ip.address.split('/')[0]!, ip.gateway]) {
      const out = await host.sh(`busybox ping -c1 -W2 ${target}`, pods[0]!);
      assert.match(out, /1 packets received/, out);
    }
  for (const [i, netns] of pods.entries()) {
    const config = ptp({ prevResult: results[i] });
    await host.ok('CHECK', { config, netns, id: `ptp${i}` });
    if (i === 1) host.removePod(netns);
    await host.ok('DEL', { config: ptp(), id: `ptp${i}`, netns: i === 0 ? netns : '' });
  }
  assert.deepEqual(host.links(), []);
  assert.equal((await ruleset()).trim(), '');
});

test('ptp: CHECK notices a missing host route; GC collects', { skip }, async () => {
  const netns = host.addPod();
  const result = (await host.ok('ADD', { config: ptp(), netns, id: 'g' })) as unknown as Ips;
  await host.sh(`ip route del ${result.ips[0]!.address.split('/')[0]}`);
  const check = await host.run('CHECK', { config: ptp({ prevResult: result }), netns, id: 'g' });
  assert.match(String(check.json.msg), /host has no route/);
  await host.ok('GC', { config: ptp({ 'cni.dev/valid-attachments': [] }) });
  assert.deepEqual(host.links(), []);
  assert.equal((await ruleset()).trim(), '');
});

test('tuning: sysctls and attributes are set, checked and put back', { skip }, async () => {
  const netns = host.addPod();
  const dataDir = join(host.directory, 'tuning');
  const prevResult = (await host.ok('ADD', { config: ptp(), netns, id: 't' })) as unknown as Ips;
  const tuning = (over: Record<string, unknown>) => ({
    cniVersion: '1.1.0',
    name: 'ptpnet',
    type: 'tuning',
    dataDir,
    ...over,
  });
  const wanted = {
    sysctl: { 'net.ipv4.conf.IFNAME.arp_filter': '1', 'net/core/somaxconn': '500' },
    mtu: 1300,
    promisc: true,
    allmulti: true,
    txQLen: 77,
    runtimeConfig: { mac: '02:11:22:33:44:55' },
  };
  const config = tuning({ ...wanted, prevResult });
  const result = (await host.ok('ADD', { config, netns, id: 't' })) as unknown as Ips;
  assert.equal(result.interfaces[1]!.mac, '02:11:22:33:44:55');
  assert.equal(result.interfaces[1]!.mtu, 1300);
  assert.match(await host.sh('ip link show eth0', netns), /ALLMULTI.*PROMISC|PROMISC.*ALLMULTI/);
  assert.match(await host.sh('ip link show eth0', netns), /mtu 1300 .*qlen 77/);
  assert.equal((await host.sh('cat /proc/sys/net/ipv4/conf/eth0/arp_filter', netns)).trim(), '1');
  await host.ok('CHECK', { config, netns, id: 't' });
  await host.sh('ip link set eth0 mtu 1200', netns);
  assert.match(String((await host.run('CHECK', { config, netns, id: 't' })).json.msg), /mtu of eth0 is 1200/);
  assert.deepEqual(readdirSync(dataDir), ['t_eth0.json']);
  await host.ok('DEL', { config: tuning(wanted), netns, id: 't' });
  assert.match(await host.sh('ip link show eth0', netns), /mtu 1400/);
  assert.doesNotMatch(await host.sh('ip link show eth0', netns), /PROMISC/);
  assert.deepEqual(readdirSync(dataDir), []);
  for (const [bad, message] of [
    [{ sysctl: { 'kernel.hostname': 'x' } }, /invalid net sysctl key/],
    [{ sysctl: { 'net.ipv4.nothing': '1' } }, /does not exist/],
    [{ sysctl: { 'net.ipv4.ip_forward': '1', 'net/ipv4/ip_forward': '0' } }, /duplicate sysctl/],
    [{ mac: 'x' }, /six hexadecimal|MAC/i],
  ] as const)
    assert.match(
      String((await host.run('ADD', { config: tuning({ ...bad, prevResult }), netns, id: 't' })).json.msg),
      message,
    );
  assert.deepEqual(readdirSync(dataDir), []);
  await host.ok('DEL', { config: ptp(), netns, id: 't' });
});

test('flannel: delegates to bridge with the node’s subnet; waits for it; GC and DEL clean up', {
  skip,
}, async () => {
  const netns = host.addPod();
  const subnetFile = join(host.directory, 'subnet.env');
  const dataDir = join(host.directory, 'flannel');
  const config = {
    cniVersion: '1.1.0',
    name: 'cbr0',
    type: 'flannel',
    subnetFile,
    dataDir,
    ipam: { dataDir: host.dataDir },
    delegate: { hairpinMode: true, isDefaultGateway: true, bridge: 'cni0' },
  };
  const early = await host.run('ADD', { config, netns, id: 'f' });
  assert.deepEqual([early.code, early.json.code], [1, 11]);
  assert.equal((await host.run('STATUS', { config })).json.code, 50);
  writeFileSync(
    subnetFile,
    'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
  );
  await host.ok('STATUS', { config });
  const result = (await host.ok('ADD', { config, netns, id: 'f' })) as unknown as Ips;
  assert.equal(result.ips[0]!.address, '10.244.3.2/24');
  assert.equal(result.interfaces[2]!.mtu, 1450);
  assert.match(await host.sh('ip route', netns), /10\.244\.0\.0\/16 via 10\.244\.3\.1/);
  const saved = JSON.parse(readFileSync(join(dataDir, 'f'), 'utf8'));
  assert.deepEqual([saved.type, saved.ipMasq, saved.mtu, saved.name], ['bridge', false, 1450, 'cbr0']);
  await host.ok('CHECK', { config: { ...config, prevResult: result }, netns, id: 'f' });
  await host.ok('DEL', { config, netns, id: 'f' });
  assert.equal(existsSync(join(dataDir, 'f')), false);
  await host.ok('DEL', { config, netns, id: 'f' });
  await host.ok('ADD', { config, netns, id: 'f2' });
  mkdirSync(dataDir, { recursive: true });
  await host.ok('GC', { config: { ...config, 'cni.dev/valid-attachments': [] } });
  assert.deepEqual(host.links(), ['cni0']);
  assert.deepEqual(readdirSync(dataDir), []);
  assert.deepEqual(
    readdirSync(join(host.dataDir, 'cbr0')).filter(name => /^[0-9]/.test(name)),
    [],
  );
});
