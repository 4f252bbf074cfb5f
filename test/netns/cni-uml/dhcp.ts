// Runs inside the guest that plugins.test.ts boots: leases over vlan and ipvlan links, which the plugins make before
// they ask for an address and remove after they gave it back.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { DhcpDaemon } from '../../../cni/ipam/dhcp/daemon.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { DirectCniHost } from '../../harness/cni-direct.ts';
import { startUdhcpd, type UdhcpServer } from '../../harness/udhcpd.ts';

let host: DirectCniHost;
let daemon: DhcpDaemon;
const servers: Record<string, UdhcpServer> = {};

before(async () => {
  host = new DirectCniHost();
  const outside = host.addPod();
  await host.sh(
    `ip link add up0 type veth peer name far0 netns ${outside.split('/').at(-1)}; ip link set up0 up`,
  );
  await host.sh(
    `ip link set lo up; ip link set far0 up; ip addr add 10.66.0.1/24 dev far0
     ip link add link far0 name far0.9 type vlan id 9; ip link set far0.9 up; ip addr add 10.69.0.1/24 dev far0.9`,
    outside,
  );
  for (const [link, subnet] of [
    ['far0', '10.66.0'],
    ['far0.9', '10.69.0'],
  ] as const)
    servers[link] = await startUdhcpd(host, outside, link, {
      ...{ address: `${subnet}.1`, start: `${subnet}.50`, end: `${subnet}.59` },
      options: [
        'subnet 255.255.255.0',
        `router ${subnet}.1`,
        'lease 600',
        `staticroutes 198.51.100.0/24 ${subnet}.7`,
      ],
    });
  daemon = new DhcpDaemon({
    ...{ socketPath: join(host.directory, 'dhcp.sock'), stateDir: join(host.directory, 'leases') },
    ...{ log: silentLogger(), timeoutMs: 8000, resendMaxMs: 2000 },
  });
  await daemon.start();
});

after(async () => {
  await daemon?.stop();
  for (const server of Object.values(servers)) server.stop();
  host?.close();
});

const CASES = [
  { config: { type: 'vlan', master: 'up0', vlanId: 9 }, subnet: '10.69.0', server: 'far0.9' },
  { config: { type: 'ipvlan', master: 'up0', mode: 'l2' }, subnet: '10.66.0', server: 'far0' },
];

for (const { config, subnet, server } of CASES)
  test(`dhcp over ${config.type}`, async () => {
    const netns = host.addPod();
    const socket = join(host.directory, 'dhcp.sock');
    const conf = {
      ...{ cniVersion: '1.1.0', name: `lan-${config.type}`, ...config },
      ipam: { type: 'dhcp', daemonSocketPath: socket, request: [{ option: '121' }] },
    };
    const result = await host.ok('ADD', { config: conf, netns });
    const ip = (result.ips as { address: string }[])[0]!.address;
    assert.ok(ip.startsWith(`${subnet}.5`) && ip.endsWith('/24'), ip);
    assert.deepEqual(result.routes, [{ dst: '198.51.100.0/24', gw: `${subnet}.7` }]);
    await host.ok('CHECK', { config: { ...conf, prevResult: result }, netns });
    assert.match(await host.sh(`busybox ping -c 1 -W 2 ${subnet}.1`, netns), / 0% packet loss/);
    await host.ok('DEL', { config: conf, netns });
    assert.match(await servers[server]!.leases(), new RegExp(`${ip.split('/')[0]} .*expired`));
    assert.equal((await host.sh('ip -br link show eth0 2>/dev/null', netns)).trim(), '');
    assert.deepEqual(readdirSync(join(host.directory, 'leases')), []);
  });
