// The runner: a conflist as containerd would have it, through our plugins and through Debian's, cached, checked, undone,
// collected; and plugins of both kinds mixed in one list.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { findNetworkList, loadNetworkLists } from '../../../cni/runtime/network-list.ts';
import { CniRunner } from '../../../cni/runtime/runner.ts';
import { CniHost, REFERENCE_PLUGINS } from '../../harness/cni.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const skipReference =
  skip || (existsSync(join(REFERENCE_PLUGINS, 'bridge')) ? false : 'needs containernetworking-plugins');
let host: CniHost;
let confDir: string;
let cacheDir: string;

before(async () => {
  if (skip) return;
  host = await CniHost.create();
  confDir = join(host.directory, 'net.d');
  cacheDir = join(host.directory, 'cache');
  mkdirSync(confDir);
  const ipam = {
    type: 'host-local',
    dataDir: host.dataDir,
    subnet: '10.65.0.0/24',
    routes: [{ dst: '0.0.0.0/0' }],
  };
  const plugins = [
    { type: 'bridge', bridge: 'br0', isGateway: true, ipMasq: true, ipam },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'bandwidth', capabilities: { bandwidth: true } },
  ];
  writeFileSync(
    join(confDir, '20-new.conflist'),
    JSON.stringify({ cniVersion: '1.1.0', name: 'new', plugins }),
  );
  writeFileSync(
    join(confDir, '30-old.conflist'),
    JSON.stringify({ cniVersion: '1.0.0', name: 'old', plugins }),
  );
  // Without ipMasq: the reference's DEL fails on masquerading rules that are not its own.
  const plain = [{ ...plugins[0], ipMasq: false }, plugins[2]];
  writeFileSync(
    join(confDir, '40-plain.conflist'),
    JSON.stringify({ cniVersion: '1.0.0', name: 'plain', plugins: plain }),
  );
  writeFileSync(
    join(confDir, '10-lo.conf'),
    JSON.stringify({ cniVersion: '0.3.1', name: 'lo', type: 'loopback' }),
  );
});
after(async () => {
  if (!skip) await host.close();
});

const runner = (...path: string[]) =>
  new CniRunner({
    path,
    cacheDir,
    netns: host.netns,
    env: { PODWIRE_CNI_SOCKET: host.socketPath, XTABLES_LOCKFILE: join(host.directory, 'xtables.lock') },
  });
const request = (netns: string, containerId: string) => ({
  containerId,
  netns,
  ifName: 'eth0',
  capabilities: {
    portMappings: [{ hostPort: 8090, containerPort: 80, protocol: 'tcp' }],
    bandwidth: { ingressRate: 8e6, ingressBurst: 8e5, egressRate: 8e6, egressBurst: 8e5 },
  },
});
const reserved = (network: string) =>
  readdirSync(join(host.dataDir, network)).filter(name => /^[0-9]+\./.test(name));

test('a list is loaded, added, checked, deleted in reverse', { skip }, async () => {
  assert.deepEqual(
    loadNetworkLists(confDir).map(list => list.name),
    ['lo', 'new', 'old', 'plain'],
  );
  const list = findNetworkList(confDir, 'new');
  const ours = runner(host.plugins);
  const pod = request(host.addPod(), 'r1');
  const result = await ours.add(list, pod);
  assert.equal((result.interfaces as unknown[]).length, 4);
  assert.deepEqual(ours.cachedResult('new', 'r1', 'eth0'), result);
  await ours.check(list, pod);
  await ours.status(list);
  await ours.del(list, { ...pod, netns: '' });
  await ours.del(list, pod);
  assert.deepEqual(host.links(), ['br0']);
  assert.equal((await host.sh('nft list ruleset')).trim(), '');
  assert.deepEqual(readdirSync(join(cacheDir, 'results')), []);
  assert.deepEqual((await ours.versions(list)).get('bandwidth')?.[0], '0.3.0');
});

test('GC deletes what is cached and not valid, and what nobody cached', { skip }, async () => {
  const list = findNetworkList(confDir, 'new');
  const ours = runner(host.plugins);
  const pods = [request(host.addPod(), 'g1'), { ...request(host.addPod(), 'g2'), capabilities: {} }];
  for (const pod of pods) await ours.add(list, pod);
  const { plugins } = list;
  // One that no cache knows of, as after a crash of the runtime.
  const config = { ...plugins[0]!.object, name: 'new', cniVersion: '1.1.0' };
  await host.ok('ADD', { config, netns: host.addPod(), id: 'g3' });
  host.removePod(pods[0]!.netns);
  await ours.gc(list, [{ containerId: 'g2', ifName: 'eth0' }]);
  assert.equal(reserved('new').length, 1);
  assert.equal(host.links().filter(name => name.startsWith('veth')).length, 1);
  await ours.gc(list, []);
  assert.deepEqual(reserved('new'), []);
  assert.deepEqual(host.links(), ['br0']);
  assert.equal((await host.sh('nft list ruleset')).trim(), '');
});

test('an error names plugin and network and keeps its code', { skip }, async () => {
  const list = findNetworkList(confDir, 'new');
  await assert.rejects(
    runner(host.plugins).add(list, request('/run/netns/pwt-cni-none', 'e')),
    (error: Error & { cniCode?: number }) =>
      error.cniCode === 8 && error.message.startsWith('plugin bridge ADD of network new: '),
  );
  await assert.rejects(
    runner('/nowhere').add(list, request('', 'e')),
    /failed to find plugin "bridge" in path/,
  );
});

test('our runner drives Debian’s plugins, and lists of mixed plugins', { skip: skipReference }, async () => {
  const list = findNetworkList(confDir, 'old');
  const mixed = join(host.directory, 'mixed');
  mkdirSync(mixed);
  const { symlinkSync } = await import('node:fs');
  // Our bridge with their IPAM, their portmap after it.
  for (const [name, directory] of [
    ['bridge', host.plugins],
    ['host-local', REFERENCE_PLUGINS],
    ['portmap', REFERENCE_PLUGINS],
    ['bandwidth', host.plugins],
  ] as const)
    symlinkSync(join(directory, name), join(mixed, name));
  for (const path of [REFERENCE_PLUGINS, mixed]) {
    const pod = request(host.addPod(), 'm');
    const driver = runner(path);
    const result = await driver.add(list, pod);
    assert.equal((result.ips as { address: string }[])[0]!.address.split('/')[1], '24');
    await driver.del(list, pod);
    assert.deepEqual(reserved('old'), []);
  }
  // Their bridge with our IPAM.
  const other = join(host.directory, 'other');
  mkdirSync(other);
  for (const [name, directory] of [
    ['bridge', REFERENCE_PLUGINS],
    ['host-local', host.plugins],
    ['portmap', host.plugins],
    ['bandwidth', REFERENCE_PLUGINS],
  ] as const)
    symlinkSync(join(directory, name), join(other, name));
  const pod = request(host.addPod(), 'o');
  const driver = runner(other);
  await driver.add(list, pod);
  await driver.del(list, pod);
  assert.deepEqual(reserved('old'), []);
});

test('a pod of the reference can be deleted by ours, and one of ours by the reference', {
  skip: skipReference,
}, async () => {
  const list = findNetworkList(confDir, 'old');
  const theirs = runner(REFERENCE_PLUGINS);
  const ours = runner(host.plugins);
  const a = request(host.addPod(), 'sw1');
  await theirs.add(list, a);
  assert.match(await host.sh('iptables-nft-save -t nat'), /CNI-DN-[0-9a-f]{21}/);
  await ours.del(list, a);
  // Their own chains of all pods stay, as theirs do after their own DEL; those of the pod are gone.
  assert.doesNotMatch(
    await host.sh('iptables-nft-save -t nat; ip6tables-nft-save -t nat'),
    /CNI-(DN-)?[0-9a-f]{21}/,
  );
  // The same where iptables is the legacy one.
  const path = process.env.PATH;
  const legacyDirectory = join(host.directory, 'legacy');
  mkdirSync(legacyDirectory);
  for (const name of ['iptables', 'ip6tables'])
    symlinkSync(`/usr/sbin/${name}-legacy`, join(legacyDirectory, name));
  const c = request(host.addPod(), 'sw3');
  try {
    process.env.PATH = `${legacyDirectory}:${path}`;
    process.env.XTABLES_LOCKFILE = join(host.directory, 'xtables.lock');
    await theirs.add(list, c);
    assert.match(await host.sh('iptables-legacy-save -t nat'), /CNI-DN-[0-9a-f]{21}/);
    await ours.del(list, c);
    assert.doesNotMatch(
      await host.sh('iptables-legacy-save -t nat; ip6tables-legacy-save -t nat'),
      /CNI-(DN-)?[0-9a-f]{21}/,
    );
  } finally {
    process.env.PATH = path;
    delete process.env.XTABLES_LOCKFILE;
  }
  const plain = findNetworkList(confDir, 'plain');
  const b = { ...request(host.addPod(), 'sw2'), capabilities: {} };
  await ours.add(plain, b);
  await theirs.del(plain, b);
  assert.deepEqual(reserved('old'), []);
  assert.deepEqual(reserved('plain'), []);
  assert.equal(host.links().filter(name => name.startsWith('veth')).length, 0);
});
