// The bandwidth plugin: what tc shows, CHECK, DEL without namespace, GC, and bad limits.
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

const bridge = { cniVersion: '1.1.0', name: 'bw', type: 'bridge', bridge: 'br0' };
const LIMITS = {
  ingressRate: 8_000_000,
  ingressBurst: 800_000,
  egressRate: 16_000_000,
  egressBurst: 1_600_000,
};
const bandwidth = (over: Record<string, unknown>) => ({
  cniVersion: '1.1.0',
  name: 'bw',
  type: 'bandwidth',
  ...over,
});
const ipam = () => ({ type: 'host-local', dataDir: host.dataDir, subnet: '10.63.0.0/24' });
interface Interfaces {
  interfaces: { name: string }[];
}

test('both directions are limited, CHECK sees it, DEL and GC leave nothing', { skip }, async () => {
  const netns = host.addPod();
  const prevResult = await host.ok('ADD', { config: { ...bridge, ipam: ipam() }, netns });
  const config = bandwidth({ prevResult, runtimeConfig: { bandwidth: LIMITS } });
  const result = (await host.ok('ADD', { config, netns })) as unknown as Interfaces;
  const ifb = result.interfaces.at(-1)!.name;
  assert.match(ifb, /^bwp[0-9a-f]{12}$/);
  const qdiscs = await host.sh('tc qdisc show');
  assert.match(
    qdiscs,
    /tbf 1: dev veth\S+ root refcnt \d+ rate 8Mbit burst (100000|97.*K|99\d\d\d)b? lat 25/,
  );
  assert.match(qdiscs, new RegExp(`tbf 1: dev ${ifb} root refcnt \\d+ rate 16Mbit`));
  assert.match(
    await host.sh('tc filter show dev $(ip -o link | grep -o "veth[0-9a-f]*" | head -1) parent ffff:'),
    new RegExp(`Redirect to device ${ifb}`),
  );
  await host.ok('CHECK', { config, netns });
  await host.sh(`tc qdisc replace dev ${ifb} root handle 1: tbf rate 1mbit burst 10k limit 10k`);
  assert.match(String((await host.run('CHECK', { config, netns })).json.msg), /tbf of bwp/);
  await host.ok('DEL', { config: bandwidth({}) });
  await host.ok('DEL', { config: bandwidth({}) });
  assert.equal(host.links().filter(name => name.startsWith('bwp')).length, 0);
  await host.ok('DEL', { config: { ...bridge, ipam: ipam() }, netns });
});

test('an ifb whose pod is gone is collected', { skip }, async () => {
  const netns = host.addPod();
  const prevResult = await host.ok('ADD', { config: { ...bridge, ipam: ipam() }, netns, id: 'g' });
  await host.ok('ADD', { config: bandwidth({ prevResult, ...LIMITS }), netns, id: 'g' });
  host.removePod(netns);
  const gc = bandwidth({ 'cni.dev/valid-attachments': [{ containerID: 'g', ifname: 'eth0' }] });
  await host.ok('GC', { config: gc });
  assert.equal(host.links().filter(name => name.startsWith('bwp')).length, 1);
  await host.ok('GC', { config: { ...gc, 'cni.dev/valid-attachments': [] } });
  assert.deepEqual(host.links(), ['br0']);
  await host.ok('DEL', { config: { ...bridge, ipam: ipam() }, id: 'g' });
});

test('without limits it passes the result on; half a limit is refused', { skip }, async () => {
  const prevResult = { cniVersion: '1.1.0', ips: [{ address: '10.63.0.9/24' }] };
  const netns = '/run/netns/none';
  assert.deepEqual(await host.ok('ADD', { config: bandwidth({ prevResult }), netns }), prevResult);
  for (const [limits, message] of [
    [{ ingressRate: 1000 }, /if rate is set, burst must also be set/],
    [{ egressBurst: 1000 }, /if burst is set, rate must also be set/],
    [{ ingressRate: 1000, ingressBurst: 2 ** 36 }, /more than 4 GB/],
    [{ ingressRate: -1, ingressBurst: 8 }, /whole number/],
  ] as const)
    assert.match(
      String((await host.run('ADD', { config: bandwidth({ prevResult, ...limits }), netns })).json.msg),
      message,
    );
});
