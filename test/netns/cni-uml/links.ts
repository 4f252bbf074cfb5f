// Runs inside the guest that plugins.test.ts boots: vlan, ipvlan, dummy and vrf on a kernel that has them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DirectCniHost } from '../../harness/cni-direct.ts';

let host: DirectCniHost;
/** Where the far ends of the masters are: the rest of the network. */
let outside: string;

before(async () => {
  host = new DirectCniHost();
  outside = host.addPod();
  await host.sh(`ip link add up0 type veth peer name far0 netns ${name(outside)}
    ip link set up0 up; ip addr add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.254`);
  await host.sh(
    `ip link set far0 up; ip addr add 192.0.2.254/24 dev far0; ip addr add 2001:db8::fe/64 dev far0 nodad
     ip link add link far0 name far0.7 type vlan id 7; ip link set far0.7 up
     ip addr add 10.7.0.254/24 dev far0.7; ip link set lo up`,
    outside,
  );
});

after(() => host?.close());

function name(path: string): string {
  return path.slice('/run/netns/'.length);
}

function ipam(subnet = '10.7.0.0/24') {
  return {
    type: 'host-local',
    dataDir: host.dataDir,
    ranges: [[{ subnet, rangeStart: subnet.replace('0/24', '10'), gateway: subnet.replace('0/24', '254') }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
}

async function hostLinks(): Promise<string> {
  return (
    await host.sh(
      'ip -br link show type veth; ip -br link show type vlan; ip -br link show pwcni-probe 2>/dev/null',
    )
  ).replace(/@.*/s, '');
}

function reservations(network: string): Promise<string> {
  return host.sh(`ls ${host.dataDir}/${network} 2>/dev/null | grep '^[0-9]' || true`);
}

test('vlan: ADD reaches the tagged network, CHECK notices, DEL leaves nothing', async () => {
  const netns = host.addPod();
  const config = { cniVersion: '1.1.0', name: 'v7', type: 'vlan', master: 'up0', vlanId: 7, ipam: ipam() };
  await host.ok('STATUS', { config });
  const result = await host.ok('ADD', { config, netns });
  assert.deepEqual((result.ips as { address: string }[])[0]?.address, '10.7.0.10/24');
  assert.match(await host.sh('ip -d link show eth0', netns), /vlan protocol 802\.1Q id 7/);
  assert.match(await host.sh('busybox ping -c 1 -W 2 10.7.0.254', netns), / 0% packet loss/);
  assert.equal((await host.run('ADD', { config, netns, id: 'c1' })).code, 1, 'a second ADD is refused');
  assert.match(await host.sh('ip -br link show eth0', netns), /eth0/, 'and leaves the first alone');

  const other = host.addPod();
  const same = await host.run('ADD', { config, netns: other, id: 'c2' });
  assert.match(String(same.json.msg), /already has this vlan/, same.stdout);
  assert.equal((await reservations('v7')).trim(), '10.7.0.10');

  const check = { config: { ...config, prevResult: result }, netns };
  await host.ok('CHECK', check);
  await host.sh('ip addr flush dev eth0', netns);
  assert.match(String((await host.run('CHECK', check)).json.msg), /does not have address/);
  const wrongId = { ...check, config: { ...check.config, vlanId: 8 } };
  await host.sh('ip addr add 10.7.0.10/24 dev eth0; ip route add default via 10.7.0.254', netns);
  assert.match(String((await host.run('CHECK', wrongId)).json.msg), /has VLAN ID 7, not 8/);

  await host.ok('DEL', { config, netns });
  await host.ok('DEL', { config, netns });
  assert.equal(await host.sh('ip -br link show type vlan', netns), '');
  assert.equal(await reservations('v7'), '');
});

test('vlan: bad input is refused and the host stays as it was', async () => {
  const netns = host.addPod();
  const base = { cniVersion: '1.0.0', name: 'bad', type: 'vlan', master: 'up0', vlanId: 9, ipam: ipam() };
  const cases: [Record<string, unknown>, number, RegExp][] = [
    [{ master: undefined }, 7, /"master" field is required/],
    [{ master: 'none0' }, 7, /failed to lookup master "none0"/],
    [{ vlanId: 4095 }, 7, /invalid VLAN ID 4095/],
    [{ vlanId: -1 }, 7, /invalid VLAN ID -1/],
    [{ mtu: 1501 }, 7, /invalid MTU 1501, must be \[0, master MTU\(1500\)\]/],
    [{ ipam: { type: 'nowhere' } }, 7, /failed to find plugin "nowhere"/],
    [{ ipam: undefined }, 7, /ipam\.type/],
  ];
  for (const [change, code, message] of cases) {
    const { json, stdout } = await host.run('ADD', { config: { ...base, ...change }, netns });
    assert.equal(json.code, code, stdout);
    assert.match(String(json.msg), message);
    assert.equal((await host.sh('ip -br link show type vlan', netns)).trim(), '');
  }
  const gone = { ...base, cniVersion: '1.1.0', master: 'none0' };
  assert.equal((await host.run('STATUS', { config: gone })).json.code, 50);
  assert.equal(await hostLinks(), 'up0');
});

test('vlan: a master and MTU inside the container; DEL after the namespace is gone', async () => {
  const netns = host.addPod();
  await host.sh('ip link add base0 type dummy; ip link set base0 up', netns);
  const config = {
    ...{ cniVersion: '1.0.0', name: 'in', type: 'vlan', master: 'base0', vlanId: 30, mtu: 1400 },
    ...{ linkInContainer: true, ipam: ipam('10.30.0.0/24') },
  };
  const result = await host.ok('ADD', { config, netns });
  assert.match(await host.sh('ip link show eth0', netns), /eth0@base0.* mtu 1400 /);
  await host.ok('CHECK', { config: { ...config, prevResult: result }, netns });
  host.removePod(netns);
  await host.ok('DEL', { config, netns });
  assert.equal(await reservations('in'), '');
});

for (const mode of ['l2', 'l3', 'l3s'])
  test(`ipvlan ${mode}: ADD, CHECK, DEL`, async () => {
    const netns = host.addPod();
    const config = {
      ...{ cniVersion: '1.1.0', name: `ipv-${mode}`, type: 'ipvlan', master: 'up0', mode },
      ipam: { ...ipam('192.0.2.0/24'), routes: [] },
    };
    const result = await host.ok('ADD', { config, netns });
    assert.match(await host.sh('ip -d link show eth0', netns), new RegExp(`ipvlan +mode ${mode} `));
    if (mode === 'l2')
      assert.match(await host.sh('busybox ping -c 1 -W 2 192.0.2.254', netns), / 0% packet loss/);
    await host.ok('CHECK', { config: { ...config, prevResult: result }, netns });
    const other = mode === 'l2' ? 'l3' : 'l2';
    const wrong = await host.run('CHECK', { config: { ...config, mode: other, prevResult: result }, netns });
    assert.match(String(wrong.json.msg), new RegExp(`has ipvlan mode ${mode}, not ${other}`));
    await host.ok('GC', { config: { ...config, 'cni.dev/valid-attachments': [] } });
    assert.equal(await reservations(config.name), '');
    await host.ok('DEL', { config, netns });
    assert.equal((await host.sh('ip -br link show type ipvlan', netns)).trim(), '');
  });

test('ipvlan: default master is the default route; chained it takes interface and addresses', async () => {
  const netns = host.addPod();
  const config = { cniVersion: '1.0.0', name: 'ipv', type: 'ipvlan', ipam: ipam('192.0.2.0/24') };
  await host.ok('ADD', { config, netns });
  assert.match(await host.sh('ip link show eth0', netns), /eth0@if/);
  await host.ok('DEL', { config, netns });
  const prevResult = {
    cniVersion: '1.0.0',
    interfaces: [{ name: 'up0' }],
    ips: [{ address: '192.0.2.77/24', interface: 0 }],
    routes: [{ dst: '0.0.0.0/0', gw: '192.0.2.254' }],
  };
  const chained = { cniVersion: '1.0.0', name: 'ipv', type: 'ipvlan', prevResult };
  const result = await host.ok('ADD', { config: chained, netns });
  assert.deepEqual((result.ips as unknown[])[0], { address: '192.0.2.77/24', interface: 0 });
  assert.match(await host.sh('busybox ping -c 1 -W 2 192.0.2.254', netns), / 0% packet loss/);
  await host.ok('DEL', { config: chained, netns });
  const two = { ...chained, prevResult: { ...prevResult, interfaces: [{ name: 'a' }, { name: 'b' }] } };
  assert.match(String((await host.run('ADD', { config: two, netns })).json.msg), /chained master failure/);
  const bad = await host.run('ADD', { config: { ...config, mode: 'l4' }, netns });
  assert.match(String(bad.json.msg), /unknown ipvlan mode: "l4"/);
});

test('dummy: ADD, CHECK, DEL; an IPAM is required', async () => {
  const netns = host.addPod();
  const config = {
    ...{ cniVersion: '1.1.0', name: 'dum', type: 'dummy' },
    ipam: { type: 'static', addresses: [{ address: '10.9.9.9/32' }, { address: '2001:db8:9::9/128' }] },
  };
  await host.ok('STATUS', { config });
  assert.equal(await hostLinks(), 'up0', 'STATUS creates nothing');
  const result = await host.ok('ADD', { config, netns });
  assert.match(await host.sh('ip -br addr show eth0', netns), /10\.9\.9\.9\/32 .*2001:db8:9::9\/128/);
  await host.ok('CHECK', { config: { ...config, prevResult: result }, netns });
  await host.sh('ip link set eth0 down', netns);
  const down = await host.run('CHECK', { config: { ...config, prevResult: result }, netns });
  assert.match(String(down.json.msg), /is down/);
  await host.ok('DEL', { config, netns });
  assert.equal((await host.sh('ip -br link show eth0 2>/dev/null', netns)).trim(), '');
  const { json } = await host.run('ADD', { config: { ...config, ipam: {} }, netns });
  assert.match(String(json.msg), /dummy interface requires an IPAM configuration/);
});

test('vrf: an interface moves in with its addresses and routes; the VRF goes with the last one', async () => {
  const netns = host.addPod();
  await host.sh('ip link set lo up', netns);
  const first = {
    ...{ cniVersion: '1.0.0', name: 'n', type: 'vlan', master: 'up0', vlanId: 7 },
    ipam: {
      ...{ type: 'static', routes: [{ dst: '0.0.0.0/0', gw: '10.7.0.254' }] },
      addresses: [{ address: '10.7.0.33/24', gateway: '10.7.0.254' }, { address: '2001:db8:7::33/64' }],
    },
  };
  const prevResult = await host.ok('ADD', { config: first, netns });
  const config = { cniVersion: '1.0.0', name: 'n', type: 'vrf', vrfname: 'blue', table: 42, prevResult };
  const result = await host.ok('ADD', { config, netns });
  assert.deepEqual(result.ips, prevResult.ips);
  assert.match(await host.sh('ip -d link show blue', netns), /vrf table 42/);
  assert.match(await host.sh('ip -br addr show eth0', netns), /10\.7\.0\.33\/24 .*2001:db8:7::33\/64/);
  assert.match(await host.sh('ip route show vrf blue', netns), /default via 10\.7\.0\.254 dev eth0/);
  assert.match(await host.sh('busybox ping -I blue -c 1 -W 2 10.7.0.254', netns), / 0% /);
  await host.ok('CHECK', { config: { ...config, prevResult: result }, netns });

  const again = await host.run('ADD', { config, netns });
  assert.match(String(again.json.msg), /has already a master set: blue/);
  const wrongTable = await host.run('ADD', { config: { ...config, table: 43 }, netns });
  assert.match(String(wrongTable.json.msg), /already exist with different routing table 42/);

  await host.sh('ip link add eth1 type dummy; ip link set eth1 up', netns);
  const second = {
    ...config,
    table: undefined,
    prevResult: { cniVersion: '1.0.0', interfaces: [{ name: 'eth1', sandbox: netns }], ips: [] },
  };
  await host.ok('ADD', { config: second, netns, ifName: 'eth1' });
  await host.ok('DEL', { config, netns });
  assert.match(await host.sh('ip -br link show master blue', netns), /eth1/);
  assert.match(String((await host.run('CHECK', { config, netns })).json.msg), /Failed to find eth0/);
  await host.ok('DEL', { config: second, netns, ifName: 'eth1' });
  await host.ok('DEL', { config: second, netns, ifName: 'eth1' });
  assert.equal((await host.sh('ip -br link show type vrf', netns)).trim(), '');
  await host.ok('DEL', { config: { ...config, prevResult: undefined }, netns: '' });
});

test('vrf: a free table is chosen; what is not a VRF is refused; a failed ADD leaves no VRF', async () => {
  const netns = host.addPod();
  await host.sh(
    'ip link add red type vrf table 1; ip link add eth0 type dummy; ip link add not type dummy',
    netns,
  );
  const prevResult = { cniVersion: '1.0.0', interfaces: [{ name: 'eth0', sandbox: netns }], ips: [] };
  const config = { cniVersion: '1.0.0', name: 'n', type: 'vrf', vrfname: 'green', prevResult };
  await host.ok('ADD', { config, netns });
  assert.match(await host.sh('ip -d link show green', netns), /vrf table 2/);
  const failed = await host.run('ADD', { config: { ...config, vrfname: 'grey' }, netns, ifName: 'eth7' });
  assert.match(String(failed.json.msg), /could not get link by name eth7/);
  assert.equal((await host.sh('ip -br link show grey 2>/dev/null', netns)).trim(), '');
  const not = await host.run('ADD', { config: { ...config, vrfname: 'not' }, netns });
  assert.match(String(not.json.msg), /not is not a VRF/);
  const unnamed = await host.run('ADD', { config: { ...config, vrfname: undefined }, netns });
  assert.match(String(unnamed.json.msg), /expected to have a valid vrf name/);
  const first = await host.run('ADD', { config: { ...config, prevResult: undefined }, netns });
  assert.match(String(first.json.msg), /required prevResult is missing/);
});
