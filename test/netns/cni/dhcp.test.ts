// The dhcp plugin and its daemon against busybox udhcpd in a namespace of its own: host-device moves one end of a veth into
// the pod; bridge and macvlan are connected to it by another. vlan and ipvlan with dhcp run in test/netns/cni-uml.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { DhcpDaemon } from '../../../cni/ipam/dhcp/daemon.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { DirectCniHost } from '../../harness/cni-direct.ts';
import { startUdhcpd, type UdhcpServer } from '../../harness/udhcpd.ts';

const skip =
  process.getuid?.() !== 0 ? 'needs root' : existsSync('/bin/busybox') ? false : 'busybox is not installed';

let host: DirectCniHost;
let serverNs: string;
let server: UdhcpServer;
let daemon: DhcpDaemon;
let serial = 0;

before(async () => {
  if (skip !== false) return;
  host = new DirectCniHost();
  serverNs = host.addPod();
  await host.sh(
    'ip link set lo up; ip link add br0 type bridge; ip addr add 10.66.0.1/24 dev br0; ip link set br0 up',
    serverNs,
  );
  server = await startUdhcpd(host, serverNs, 'br0', {
    address: '10.66.0.1',
    start: '10.66.0.100',
    end: '10.66.0.120',
    options: [
      'subnet 255.255.255.0',
      'router 10.66.0.1',
      'dns 10.66.0.2',
      'domain pods.example',
      'lease 600',
    ],
  });
  daemon = await startDaemon();
});

after(async () => {
  await daemon?.stop();
  server?.stop();
  host?.close();
});

async function startDaemon(timeoutMs = 2000): Promise<DhcpDaemon> {
  const made = new DhcpDaemon({
    ...{ socketPath: join(host.directory, 'dhcp.sock'), stateDir: join(host.directory, 'leases') },
    ...{ log: silentLogger(), timeoutMs, resendMaxMs: 1000 },
  });
  await made.start();
  return made;
}

/** A veth whose far end is a port of the server's bridge. */
async function addDevice(): Promise<string> {
  const n = serial++;
  const far = `f${n}`;
  await host.sh(`ip link add d${n} type veth peer name ${far} netns ${serverNs.split('/').at(-1)}`);
  await host.sh(`ip link set ${far} master br0 up`, serverNs);
  return `d${n}`;
}

function config(device: string, ipam: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    ...{ cniVersion: '1.1.0', name: 'lan', type: 'host-device', device },
    ipam: { type: 'dhcp', daemonSocketPath: join(host.directory, 'dhcp.sock'), ...ipam },
  };
}

function leaseFiles(): string[] {
  return readdirSync(join(host.directory, 'leases'));
}

test('ADD takes a lease, CHECK sees it, DEL releases it', { skip }, async () => {
  const netns = host.addPod();
  const conf = config(await addDevice(), {
    request: [{ option: 'domain-name-servers' }, { option: '15' }],
    provide: [{ option: 'host-name', fromArg: 'K8S_POD_NAME', value: 'unnamed' }],
    priority: 77,
  });
  const env = { CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web-0' };
  const result = await host.ok('ADD', { config: conf, netns, env });
  const ip = (result.ips as { address: string; gateway: string }[])[0]!;
  assert.match(ip.address, /^10\.66\.0\.1[0-2][0-9]\/24$/);
  assert.equal(ip.gateway, '10.66.0.1');
  assert.deepEqual(result.routes, [{ dst: '0.0.0.0/0', gw: '10.66.0.1', priority: 77 }]);
  assert.deepEqual(result.dns, { nameservers: ['10.66.0.2'], domain: 'pods.example' });
  assert.match(await host.sh('ip route', netns), /default via 10\.66\.0\.1 dev eth0 .*metric 77/);
  assert.match(await host.sh('busybox ping -c 1 -W 2 10.66.0.1', netns), / 0% packet loss/);
  assert.match(await server.leases(), new RegExp(`${ip.address.split('/')[0]} +web-0 `));
  const checked = { config: { ...conf, prevResult: result }, netns, env };
  await host.ok('CHECK', checked);

  await host.ok('DEL', { config: conf, netns, env });
  assert.match(await server.leases(), /web-0 +expired/);
  assert.deepEqual(leaseFiles(), []);
  await host.ok('DEL', { config: conf, netns, env });
});

test('bridge and macvlan: the link is there before the lease and until its release', { skip }, async () => {
  await host.sh(
    `ip link add lan0 type bridge; ip link set lan0 up
     for n in 1 2; do
       ip link add up$n type veth peer name lan$n netns ${serverNs.split('/').at(-1)}; ip link set up$n up
     done
     ip link set up1 master lan0`,
  );
  await host.sh('for n in 1 2; do ip link set lan$n master br0 up; done', serverNs);
  for (const main of [
    { type: 'bridge', bridge: 'lan0' },
    { type: 'macvlan', master: 'up2' },
  ]) {
    const netns = host.addPod();
    const env = { CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAME=on-${main.type}` };
    const ipam = { type: 'dhcp', daemonSocketPath: join(host.directory, 'dhcp.sock') };
    const provide = [{ option: 'host-name', fromArg: 'K8S_POD_NAME' }];
    const conf = { cniVersion: '1.1.0', name: 'lan', ...main, ipam: { ...ipam, provide } };
    const result = await host.ok('ADD', { config: conf, netns, env, id: main.type });
    const address = (result.ips as { address: string }[])[0]!.address;
    assert.match(address, /^10\.66\.0\.1[0-2][0-9]\/24$/);
    assert.match(await host.sh('ip -br addr show eth0', netns), new RegExp(address));
    assert.match(await host.sh('busybox ping -c 1 -W 2 10.66.0.1', netns), / 0% packet loss/);
    await host.ok('CHECK', { config: { ...conf, prevResult: result }, netns, env, id: main.type });
    await host.ok('DEL', { config: conf, netns, env, id: main.type });
    assert.match(await server.leases(), new RegExp(`on-${main.type} +expired`));
    assert.equal((await host.sh('ip -br link show eth0 2>/dev/null', netns)).trim(), '');
    assert.deepEqual(leaseFiles(), []);
    // No daemon there: the link goes too.
    const before = await host.sh('ip -br link');
    const other = { ...conf, ipam: { ...ipam, daemonSocketPath: join(host.directory, 'none.sock') } };
    const failed = await host.run('ADD', { config: other, netns, id: 'unlucky' });
    assert.equal(failed.json.code, 11, failed.stdout);
    assert.equal(await host.sh('ip -br link'), before);
    assert.equal((await host.sh('ip -br link show eth0 2>/dev/null', netns)).trim(), '');
  }
});

test('a restarted daemon keeps its leases, GC releases those of pods that are gone', { skip }, async () => {
  const netns = host.addPod();
  const conf = config(await addDevice());
  const result = await host.ok('ADD', { config: conf, netns, id: 'stays' });
  await daemon.stop();
  assert.equal((await host.run('STATUS', { config: conf })).json.code, 50);
  daemon = await startDaemon();
  await host.ok('STATUS', { config: conf });
  await host.ok('CHECK', { config: { ...conf, prevResult: result }, netns, id: 'stays' });
  const valid = [{ containerID: 'stays', ifname: 'eth0' }];
  await host.ok('GC', { config: { ...conf, 'cni.dev/valid-attachments': valid } });
  assert.equal(leaseFiles().length, 1);
  await host.ok('GC', { config: { ...conf, 'cni.dev/valid-attachments': [] } });
  assert.equal(leaseFiles().length, 0);
  const lost = await host.run('CHECK', { config: { ...conf, prevResult: result }, netns, id: 'stays' });
  assert.match(String(lost.json.msg), /there is no DHCP lease for stays\/lan\/eth0/);
  await host.ok('DEL', { config: conf, netns, id: 'stays' });

  const gone = host.addPod();
  const second = config(await addDevice());
  await host.ok('ADD', { config: second, netns: gone, id: 'gone' });
  await daemon.stop();
  await host.sh('true');
  host.removePod(gone);
  daemon = await startDaemon();
  assert.deepEqual(leaseFiles(), [], 'a lease whose pod is gone is not kept');
  await host.ok('DEL', { config: second, netns: gone, id: 'gone' });
});

test('ten pods at once get ten addresses', { skip }, async () => {
  const pods = await Promise.all(
    Array.from({ length: 10 }, async (_, i) => ({
      ...{ id: `p${i}`, netns: host.addPod(), config: config(await addDevice()) },
    })),
  );
  const results = await Promise.all(pods.map(pod => host.ok('ADD', pod)));
  const addresses = new Set(results.map(result => (result.ips as { address: string }[])[0]!.address));
  assert.equal(addresses.size, 10);
  assert.equal(leaseFiles().length, 10);
  await Promise.all(pods.map(pod => host.ok('DEL', pod)));
  assert.deepEqual(leaseFiles(), []);
});

test('a short lease is renewed, and the same address stays', { skip }, async () => {
  const netns = host.addPod();
  const device = await addDevice();
  server.stop();
  server = await startUdhcpd(host, serverNs, 'br0', {
    ...{ address: '10.66.0.1', start: '10.66.0.100', end: '10.66.0.120' },
    options: ['subnet 255.255.255.0', 'lease 4'],
    settings: ['min_lease 2'],
  });
  const result = await host.ok('ADD', { config: config(device), netns, id: 'short' });
  const address = (result.ips as { address: string }[])[0]!.address;
  const file = join(host.directory, 'leases', leaseFiles()[0]!);
  const expires = (): number => JSON.parse(readFileSync(file, 'utf8')).lease.expireAtMs;
  const first = expires();
  for (let waited = 0; expires() === first && waited < 6000; waited += 100) await pause(100);
  assert.ok(expires() > first, 'the lease was extended');
  await host.ok('CHECK', { config: { ...config(device), prevResult: result }, netns, id: 'short' });
  assert.match(await host.sh('ip -br addr show eth0', netns), new RegExp(address));
  await host.ok('DEL', { config: config(device), netns, id: 'short' });
});

test('a lease that is refused, or that nobody extends, ends: the interface goes down, CHECK says so', {
  skip,
}, async () => {
  const restart = async (...ranges: [start: string, end: string][]): Promise<void> => {
    server.stop();
    for (const [start, end] of ranges)
      server = await startUdhcpd(host, serverNs, 'br0', {
        ...{ address: '10.66.0.1', start, end },
        options: ['subnet 255.255.255.0', 'lease 4'],
        settings: ['min_lease 2'],
      });
  };
  for (const [id, change] of [
    ['refused', () => restart(['10.66.0.200', '10.66.0.210'])],
    ['expired', () => restart()],
  ] as const) {
    await restart(['10.66.0.100', '10.66.0.120']);
    const netns = host.addPod();
    const conf = config(await addDevice());
    const result = await host.ok('ADD', { config: conf, netns, id });
    await change();
    const check = { config: { ...conf, prevResult: result }, netns, id };
    for (let i = 0; i < 70 && (await host.run('CHECK', check)).code === 0; i++) await pause(100);
    const { json } = await host.run('CHECK', check);
    assert.deepEqual([json.code, json.details], [3, 'it was lost'], `${id}: ${json.msg}`);
    assert.match(await host.sh('ip -br link show eth0', netns), /eth0.* DOWN /);
    assert.deepEqual(leaseFiles(), []);
    await host.ok('DEL', { config: conf, netns, id });
  }
});

test('a plugin that was killed takes nothing; a daemon that is told to stop ends at once', {
  skip,
}, async () => {
  const netns = host.addPod();
  await host.sh('ip link add deaf type veth peer name mute; ip link set mute up');
  const killed = connect(join(host.directory, 'dhcp.sock'));
  await host.sh(`ip link set deaf netns ${netns.split('/').at(-1)}`);
  const netnsInode = String(statSync(netns, { bigint: true }).ino);
  const call = { method: 'Allocate', network: 'n', containerId: 'k', ifName: 'deaf', netns, netnsInode };
  killed.write(`${JSON.stringify({ ...call, request: [1] })}\n`);
  await pause(100);
  killed.destroy();
  const idle = connect(join(host.directory, 'dhcp.sock'));
  idle.on('error', () => {});
  await pause(50);
  assert.deepEqual(leaseFiles(), []);
  const started = performance.now();
  await daemon.stop();
  assert.ok(performance.now() - started < 1000);
  daemon = await startDaemon();
});

test('no server, no daemon, wrong options: clear errors, and the device is back', { skip }, async () => {
  const netns = host.addPod();
  await host.sh('ip link add alone type veth peer name nobody; ip link set nobody up');
  const silent = await host.run('ADD', { config: config('alone'), netns });
  assert.equal(silent.json.code, 11, silent.stdout);
  assert.match(String(silent.json.msg), /no DHCP server answered/);
  assert.match(await host.sh('ip -br link show alone'), /alone/);
  const cases: [Record<string, unknown>, number, RegExp][] = [
    [{ daemonSocketPath: join(host.directory, 'none.sock') }, 11, /error dialing DHCP daemon/],
    [{ request: [{ option: 'no-such' }] }, 7, /Can not parse option "no-such"/],
    [{ request: [{ option: '255' }] }, 7, /Can not parse option "255"/],
    [{ provide: [{ option: '60', value: 'x'.repeat(256) }] }, 7, /value too long/],
    [{ suppress: ['routes'] }, 7, /unknown suppress value "routes"/],
  ];
  for (const [ipam, code, message] of cases) {
    const { json, stdout } = await host.run('ADD', { config: config('alone', ipam), netns });
    assert.equal(json.code, code, stdout);
    assert.match(String(json.msg), message);
    assert.match(await host.sh('ip -br link show alone'), /alone/);
  }
  await host.ok('DEL', {
    config: config('alone', { daemonSocketPath: join(host.directory, 'none.sock') }),
    netns,
  });
  writeFileSync(join(host.directory, 'leases', 'x.json'), '{"broken"');
  await daemon.stop();
  daemon = await startDaemon();
  assert.deepEqual(leaseFiles(), []);
});
