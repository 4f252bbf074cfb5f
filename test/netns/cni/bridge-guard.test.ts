// The bridge plugin's macspoofchk against frames with another address, and its VLANs where the kernel has none; where it has
// them they are tested in test/netns/cni-uml.
import assert from 'node:assert/strict';
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

function config(over: Record<string, unknown> = {}) {
  return {
    ...{ cniVersion: '1.1.0', name: 'guarded', type: 'bridge', bridge: 'br0', isGateway: true },
    ...{ macspoofchk: true, ipam: { type: 'host-local', dataDir: host.dataDir, subnet: '10.61.0.0/24' } },
    ...over,
  };
}

const ruleset = (): Promise<string> => host.sh('nft list table bridge podwire_cni 2>&1');

async function addPod(id: string): Promise<{ netns: string; result: Record<string, unknown>; mac: string }> {
  const netns = host.addPod();
  const result = await host.ok('ADD', { config: config(), netns, id });
  const mac = (result.interfaces as { mac: string }[])[2]!.mac;
  return { netns, result, mac };
}

async function reachesGateway(netns: string): Promise<boolean> {
  return /1 packets received/.test(await host.sh('busybox ping -c1 -W1 10.61.0.1', netns));
}

test('macspoofchk: frames with another address do not pass, those of other pods do', { skip }, async () => {
  const a = await addPod('a');
  const b = await addPod('b');
  assert.ok(await reachesGateway(a.netns));
  await host.sh('ip link set eth0 address 02:11:22:33:44:55; ip neigh flush all', a.netns);
  assert.equal(await reachesGateway(a.netns), false, 'a made-up address');
  await host.sh(`ip link set eth0 address ${b.mac}; ip neigh flush all`, a.netns);
  assert.equal(await reachesGateway(a.netns), false, 'the address of another pod');
  assert.ok(await reachesGateway(b.netns));
  await host.sh(`ip link set eth0 address ${a.mac}; ip neigh flush all`, a.netns);
  assert.ok(await reachesGateway(a.netns));

  const check = { config: config({ prevResult: a.result }), netns: a.netns, id: 'a' };
  await host.ok('CHECK', check);
  await host.sh('nft flush set bridge podwire_cni allowed');
  assert.match(
    String((await host.run('CHECK', check)).json.msg),
    /rules of macspoofchk for veth\w+ are missing/,
  );

  await host.ok('DEL', { config: config(), netns: a.netns, id: 'a' });
  assert.match(await ruleset(), /elements = \{ "veth\w+" comment "guarded:b:eth0" \}/);
  host.removePod(b.netns);
  await host.ok('DEL', { config: config(), id: 'b' });
  assert.match(await ruleset(), /No such file or directory/);
});

test('macspoofchk: GC removes what belongs to no attachment; ADDs at once share the table', {
  skip,
}, async () => {
  const ids = Array.from({ length: 12 }, (_, i) => `p${i}`);
  const pods = await Promise.all(ids.map(addPod));
  for (const pod of pods) assert.ok(await reachesGateway(pod.netns));
  const valid = [{ containerID: 'p3', ifname: 'eth0' }];
  await host.ok('GC', { config: config({ 'cni.dev/valid-attachments': valid }) });
  const left = await ruleset();
  assert.deepEqual(left.match(/"guarded:\w+:eth0"/g), ['"guarded:p3:eth0"', '"guarded:p3:eth0"']);
  assert.ok(await reachesGateway(pods[3]!.netns));
  await host.ok('GC', { config: config({ 'cni.dev/valid-attachments': [] }) });
  assert.match(await ruleset(), /No such file or directory/);
});

test('macspoofchk: an ADD that fails leaves no rule', { skip }, async () => {
  const broken = config({ ipam: { type: 'static', addresses: [{ address: '10.61.0.9/33' }] } });
  assert.notEqual((await host.run('ADD', { config: broken, netns: host.addPod(), id: 'x' })).code, 0);
  assert.match(await ruleset(), /No such file or directory/);
  assert.deepEqual(host.links(), ['br0']);
});

test('vlan and vlanTrunk name the feature that this kernel lacks, and leave nothing', { skip }, async t => {
  await host.sh('ip link add probe type bridge');
  const { bridge } = host.rtnetlink(host.netns, net => net.getLink('probe'))!;
  await host.sh('ip link del probe');
  if (bridge?.defaultVlan !== undefined) return t.skip('this kernel filters VLANs');
  for (const over of [{ vlan: 7 }, { vlanTrunk: [{ minID: 5, maxID: 9 }] }]) {
    const { json } = await host.run('ADD', {
      config: config({ ...over, bridge: 'br1' }),
      netns: host.addPod(),
    });
    assert.equal(json.code, 50);
    assert.match(String(json.msg), /need a kernel with CONFIG_BRIDGE_VLAN_FILTERING/);
    assert.deepEqual(host.links(), ['br0']);
    assert.equal((await host.run('STATUS', { config: config(over) })).json.code, 50);
  }
  await host.ok('STATUS', { config: config({ vlan: 7, bridge: 'br1' }) });
});
