// Runs inside the guest that plugins.test.ts boots: the bridge plugin's VLANs.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DirectCniHost } from '../../harness/cni-direct.ts';

let host: DirectCniHost;
before(() => {
  host = new DirectCniHost();
});
after(() => host?.close());

function config(name: string, third: number, over: Record<string, unknown>) {
  return {
    ...{ cniVersion: '1.1.0', name, type: 'bridge', bridge: 'br0', ...over },
    ipam: { type: 'host-local', dataDir: host.dataDir, subnet: `10.8.${third}.0/24` },
  };
}

interface Pod {
  netns: string;
  config: ReturnType<typeof config>;
  id: string;
  result: Record<string, unknown>;
  ip: string;
}

async function add(id: string, conf: ReturnType<typeof config>): Promise<Pod> {
  const netns = host.addPod();
  const result = await host.ok('ADD', { config: conf, netns, id });
  const ip = (result.ips as { address: string }[])[0]!.address.split('/')[0]!;
  return { netns, config: conf, id, result, ip };
}

async function reaches(from: Pod, ip: string): Promise<boolean> {
  return / 0% packet loss/.test(await host.sh(`busybox ping -c 1 -W 1 ${ip}`, from.netns));
}

const names = (pod: Pod) => (pod.result.interfaces as { name: string }[]).map(one => one.name);

async function portVlans(pod: Pod): Promise<string> {
  return (await host.sh(`bridge -compressvlans vlan show dev ${names(pod)[1]}`)).replace(/\s+/g, ' ');
}

test('bridge vlan: pods of a VLAN reach each other and its gateway, and nobody else', async () => {
  const ten = config('ten', 10, { vlan: 10, isGateway: true });
  const pods = [await add('a', ten), await add('b', ten)] as const;
  // One subnet on purpose: only the VLAN keeps them apart.
  const other = await add('c', config('ten', 10, { vlan: 20 }));
  assert.ok(await reaches(pods[0], pods[1].ip));
  assert.ok(await reaches(pods[0], '10.8.10.1'), 'the gateway');
  assert.equal(await reaches(pods[0], other.ip), false);
  assert.equal(await reaches(other, '10.8.10.1'), false);
  assert.deepEqual([names(pods[0]).length, names(pods[0])[0], names(pods[0])[3]], [4, 'br0', 'br0.10']);
  assert.match(await host.sh('ip -br addr show br0.10'), /10\.8\.10\.1\/24/);
  assert.match(await portVlans(pods[0]), / 1 Egress Untagged 10 PVID Egress Untagged/);

  for (const pod of [...pods, other])
    await host.ok('CHECK', { ...pod, config: { ...pod.config, prevResult: pod.result } });
  await host.sh(`bridge vlan del dev ${names(pods[0])[1]} vid 10`);
  const broken = await host.run('CHECK', { ...pods[0], config: { ...ten, prevResult: pods[0].result } });
  assert.match(String(broken.json.msg), /is not in VLAN 10 as configured/);
  await host.sh('ip addr del 10.8.10.1/24 dev br0.10');
  const noGateway = await host.run('CHECK', { ...pods[1], config: { ...ten, prevResult: pods[1].result } });
  assert.match(String(noGateway.json.msg), /bridge br0\.10 does not have gateway address/);
  for (const pod of [...pods, other]) await host.ok('DEL', pod);
  // The gateway stays, as the bridge does.
  assert.equal((await host.sh('ip -br link show type veth')).trim().split('\n').length, 2);
});

test('bridge vlanTrunk, preserveDefaultVlan: a trunk carries its VLANs with tags, and no other', async () => {
  const access = await add('acc', config('t', 30, { vlan: 30, preserveDefaultVlan: false }));
  const trunk = await add(
    'trunk',
    config('t', 31, {
      vlanTrunk: [{ minID: 28, maxID: 30 }, { id: 31 }, { id: 40 }],
      preserveDefaultVlan: false,
    }),
  );
  assert.match(await portVlans(access), / 30 PVID Egress Untagged/);
  assert.doesNotMatch(await portVlans(access), / 1 /);
  assert.match(await portVlans(trunk), / 28-31 40 /);
  await host.sh(
    `for vlan in 30 32; do
       ip link add link eth0 name eth0.$vlan type vlan id $vlan; ip link set eth0.$vlan up
     done; ip addr add 10.8.30.200/24 dev eth0.30`,
    trunk.netns,
  );
  assert.ok(await reaches(trunk, access.ip));
  await host.sh(
    'ip addr del 10.8.30.200/24 dev eth0.30; ip addr add 10.8.30.200/24 dev eth0.32',
    trunk.netns,
  );
  assert.equal(await reaches(trunk, access.ip), false, 'VLAN 32 is not in the trunk');
  for (const pod of [access, trunk]) {
    await host.ok('CHECK', { ...pod, config: { ...pod.config, prevResult: pod.result } });
    await host.ok('DEL', pod);
  }
});

test('bridge vlan: filtering is turned on where a bridge was made without', async () => {
  await host.sh('ip link add old0 type bridge; ip link set old0 up');
  const pod = await add('o', { ...config('o', 50, { vlan: 50 }), bridge: 'old0' });
  assert.match(await host.sh('ip -d link show old0'), /vlan_filtering 1/);
  await host.ok('STATUS', { config: pod.config });
  await host.ok('DEL', pod);
});
