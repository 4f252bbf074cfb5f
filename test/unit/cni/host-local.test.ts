// host-local without a kernel: ranges, order of allocation, files on disk as the reference writes them, foreign changes.
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { dropEarlierBoots } from '../../../cni/ipam/host-local/boot.ts';
import { HostLocal } from '../../../cni/ipam/host-local/host-local.ts';
import { CniArgs } from '../../../cni/runtime/environment.ts';
import { Fields, type JsonObject } from '../../../cni/runtime/fields.ts';
import { KeyedLocks } from '../../../cni/runtime/locks.ts';
import type { Call } from '../../../cni/runtime/plugin.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';

let directory: string;
let netns: Netns;
const locks = new KeyedLocks();

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'podwire-host-local-'));
  netns = Netns.current();
});
afterEach(() => {
  netns.close();
  rmSync(directory, { recursive: true, force: true });
});

interface CallOptions {
  id?: string;
  ifName?: string;
  ipam?: JsonObject;
  config?: JsonObject;
  args?: [string, string][];
}

function makeCall(options: CallOptions = {}): Call {
  const ipam = { type: 'host-local', dataDir: directory, subnet: '10.1.0.0/29', ...options.ipam };
  const config = { name: 'net', cniVersion: '1.1.0', ipam, ...options.config };
  return {
    command: 'ADD',
    containerId: options.id ?? 'c1',
    netns: '',
    ifName: options.ifName ?? 'eth0',
    args: new CniArgs(new Map(options.args)),
    path: [],
    config: new Fields(config),
    stdin: JSON.stringify(config),
    cniVersion: '1.1.0',
    networkName: 'net',
    site: {
      hostNetns: netns,
      openPodNetns: () => Netns.current(),
      environment: {},
      plugins: new Map(),
      exe: '',
      signal: AbortSignal.timeout(10_000),
      locks,
      log: silentLogger(),
      stderr: [],
    },
  };
}

const network = () => join(directory, 'net');
const files = () =>
  readdirSync(network())
    .filter(name => /^[0-9a-f]+[.:]/.test(name))
    .sort();
const addressOf = async (plugin: HostLocal, options: CallOptions = {}) =>
  (await plugin.add(makeCall(options))).ips.map(ip => ip.address);

test('addresses are given in turn, the gateway never; files are as the reference writes them', async () => {
  const plugin = new HostLocal();
  assert.deepEqual(await addressOf(plugin, { id: 'a' }), ['10.1.0.2/29']);
  assert.deepEqual(await addressOf(plugin, { id: 'b' }), ['10.1.0.3/29']);
  assert.equal(readFileSync(join(network(), '10.1.0.2'), 'utf8'), 'a\r\neth0');
  assert.equal(readFileSync(join(network(), 'last_reserved_ip.0'), 'utf8'), '10.1.0.3');
  await plugin.del(makeCall({ id: 'a' }));
  assert.deepEqual(await addressOf(plugin, { id: 'c' }), ['10.1.0.4/29']);
  for (const id of ['d', 'e']) await addressOf(plugin, { id });
  assert.deepEqual(await addressOf(plugin, { id: 'f' }), ['10.1.0.2/29']);
  await assert.rejects(
    addressOf(plugin, { id: 'g' }),
    /no IP addresses available in range set: 10\.1\.0\.1-10\.1\.0\.6/,
  );
  await assert.rejects(plugin.status(makeCall()), /no IP addresses available/);
});

test('the same container and interface is refused, another interface is not', async () => {
  const plugin = new HostLocal();
  await addressOf(plugin);
  await assert.rejects(addressOf(plugin), /duplicate allocation is not allowed/);
  assert.deepEqual(await addressOf(plugin, { ifName: 'eth1' }), ['10.1.0.3/29']);
  assert.deepEqual(files(), ['10.1.0.2', '10.1.0.3']);
});

test('DEL gives back, twice is fine, and so is a network that never was', async () => {
  const plugin = new HostLocal();
  await addressOf(plugin);
  await plugin.del(makeCall());
  await plugin.del(makeCall());
  assert.deepEqual(files(), []);
  await plugin.del(makeCall({ ipam: { dataDir: join(directory, 'elsewhere') } }));
  assert.equal(existsSync(join(directory, 'elsewhere')), false);
});

test('two sets give two addresses, and none when one of them is full', async () => {
  const plugin = new HostLocal();
  const ipam = {
    subnet: undefined,
    ranges: [
      [{ subnet: '10.2.0.0/24' }],
      [{ subnet: 'fd00::/64', rangeStart: 'fd00::10', rangeEnd: 'fd00::10' }],
    ],
  };
  assert.deepEqual(await addressOf(plugin, { id: 'a', ipam }), ['10.2.0.2/24', 'fd00::10/64']);
  await assert.rejects(addressOf(plugin, { id: 'b', ipam }), /failed to allocate for range 1/);
  assert.deepEqual(files(), ['10.2.0.2', 'fd00::10']);
});

test('alternatives of one set are used one after another', async () => {
  const plugin = new HostLocal();
  const ipam = { subnet: undefined, ranges: [[{ subnet: '10.3.0.0/30' }, { subnet: '10.4.0.0/30' }]] };
  assert.deepEqual(await addressOf(plugin, { id: 'a', ipam }), ['10.3.0.2/30']);
  assert.deepEqual(await addressOf(plugin, { id: 'b', ipam }), ['10.4.0.2/30']);
  await assert.rejects(addressOf(plugin, { id: 'c', ipam }), /no IP addresses available/);
});

test('requested addresses come from CNI_ARGS, args and the ips capability; all or none', async () => {
  const plugin = new HostLocal();
  assert.deepEqual(await addressOf(plugin, { id: 'a', args: [['IP', '10.1.0.5']] }), ['10.1.0.5/29']);
  assert.deepEqual(
    await addressOf(plugin, { id: 'b', config: { args: { cni: { ips: ['10.1.0.6/24'] } } } }),
    ['10.1.0.6/29'],
  );
  await assert.rejects(
    addressOf(plugin, { id: 'c', config: { runtimeConfig: { ips: ['10.1.0.5'] } } }),
    /requested IP address 10\.1\.0\.5 is not available/,
  );
  await assert.rejects(addressOf(plugin, { id: 'c', args: [['IP', '10.1.0.1']] }), /is subnet's gateway/);
  await assert.rejects(
    addressOf(plugin, { id: 'c', args: [['IP', '10.9.0.1']] }),
    /failed to allocate all requested IPs/,
  );
  assert.deepEqual(files(), ['10.1.0.5', '10.1.0.6']);
});

test('what another program adds and removes is seen', async () => {
  const plugin = new HostLocal();
  await addressOf(plugin, { id: 'a' });
  writeFileSync(join(network(), '10.1.0.3'), 'foreign\r\neth0');
  assert.deepEqual(await addressOf(plugin, { id: 'b' }), ['10.1.0.4/29']);
  rmSync(join(network(), '10.1.0.2'));
  await assert.rejects(plugin.check(makeCall({ id: 'a' })), /failed to find address/);
  await plugin.del(makeCall({ id: 'foreign' }));
  assert.deepEqual(files(), ['10.1.0.4']);
});

test('old one-line files are released and collected by container', async () => {
  mkdirSync(network());
  writeFileSync(join(network(), '10.1.0.2'), 'old');
  writeFileSync(join(network(), '10.1.0.3'), 'older');
  const plugin = new HostLocal();
  await plugin.del(makeCall({ id: 'old' }));
  assert.deepEqual(files(), ['10.1.0.3']);
  await plugin.gc(
    makeCall({ config: { 'cni.dev/valid-attachments': [{ containerID: 'older', ifname: 'eth0' }] } }),
  );
  assert.deepEqual(files(), ['10.1.0.3']);
  await plugin.gc(makeCall({ config: { 'cni.dev/valid-attachments': [] } }));
  assert.deepEqual(files(), []);
});

test('an empty file and an unfinished one are nobody’s', async () => {
  mkdirSync(network());
  writeFileSync(join(network(), '10.1.0.2'), '');
  writeFileSync(join(network(), '.podwire-new'), 'c9\r\neth0');
  assert.deepEqual(await addressOf(new HostLocal()), ['10.1.0.2/29']);
  assert.equal(existsSync(join(network(), '.podwire-new')), false);
});

test('reservations of an earlier boot are dropped, later ones and those of a foreign directory are not', async () => {
  const plugin = new HostLocal();
  await addressOf(plugin, { id: 'a' });
  await addressOf(plugin, { id: 'b' });
  const longAgo = Date.now() / 1000 - 3600;
  utimesSync(join(network(), '10.1.0.2'), longAgo, longAgo);
  assert.deepEqual(dropEarlierBoots(network(), 'another-boot', Date.now() - 60_000), ['10.1.0.2']);
  assert.deepEqual(files(), ['10.1.0.3']);
  rmSync(join(network(), '.podwire-boot'));
  assert.deepEqual(dropEarlierBoots(network(), 'third-boot', Date.now() + 60_000), []);
});

const BAD: [name: string, ipam: JsonObject, message: RegExp][] = [
  ['no range', { subnet: undefined }, /no IP ranges specified/],
  ['bad subnet', { subnet: '10.1.0.0' }, /not ADDRESS\/LENGTH/],
  ['too small', { subnet: '10.1.0.0/31' }, /too small/],
  ['host bits', { subnet: '10.1.0.5/24' }, /host bits/],
  ['start outside', { rangeStart: '10.2.0.1' }, /rangeStart 10\.2\.0\.1 not in network/],
  ['end before start', { rangeStart: '10.1.0.5', rangeEnd: '10.1.0.2' }, /is after rangeEnd/],
  ['bad gateway', { gateway: 'x' }, /not an IP address/],
  ['overlap', { ranges: [[{ subnet: '10.1.0.0/24' }]] }, /overlaps/],
  [
    'mixed families',
    { subnet: undefined, ranges: [[{ subnet: '10.1.0.0/24' }, { subnet: 'fd00::/64' }]] },
    /mixed/,
  ],
  ['empty set', { subnet: undefined, ranges: [[]] }, /is empty/],
  ['bad route', { routes: [{ dst: '10.0.0.0' }] }, /dst/],
];
for (const [name, ipam, message] of BAD)
  test(`refused: ${name}`, async () => {
    await assert.rejects(new HostLocal().add(makeCall({ ipam })), message);
    assert.equal(existsSync(network()), false);
  });
