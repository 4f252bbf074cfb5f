// Rules in the nftables tables of later releases of the reference, as their sources write them (pkg/ip/ipmasq_nftables_linux.go,
// plugins/meta/portmap/portmap_nftables.go): removed by DEL and, where they name the network, by GC.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
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

const hash = (text: string): string => createHash('sha512').update(text).digest('hex').slice(0, 16);
const masqueradeComment = (network: string, id: string): string =>
  `${hash(network)}-${hash(`eth0:${id}`)}, net: ${network}, if: eth0, id: ${id}`;

const PODS = [
  ['net', 'one', '10.1.0.2'],
  ['net', 'two', '10.1.0.3'],
  ['other', 'three', '10.1.0.4'],
] as const;

/** What the reference leaves on a node with these pods. */
async function make(): Promise<void> {
  const masquerade = PODS.map(
    ([network, id, ip]) =>
      `ip saddr == ${ip} ip daddr != 10.1.0.0/24 masquerade comment "${masqueradeComment(network, id)}"`,
  );
  const ports = PODS.map(([, id, ip], i) => `tcp dport ${8080 + i} dnat to ${ip}:80 comment "${id}"`);
  const hairpins = PODS.map(([, id, ip]) => `ip saddr ${ip} ip daddr ${ip} masquerade comment "${id}"`);
  const text = `
table inet cni_plugins_masquerade {
  chain masq_checks { ${masquerade.join('; ')}; }
  chain postrouting { type nat hook postrouting priority srcnat; goto masq_checks; }
}
table ip cni_hostport {
  chain hostports { ${ports.join('; ')}; }
  chain hostip_hostports { }
  chain masquerading { type nat hook postrouting priority srcnat; ${hairpins.join('; ')}; }
}`;
  const output = await host.sh(`nft -f - <<'END'\n${text}\nEND`);
  assert.equal(output, '');
}

const rules = async (): Promise<string> =>
  host.sh('nft list table inet cni_plugins_masquerade; nft list table ip cni_hostport');
const clear = (): Promise<string> =>
  host.sh('nft delete table inet cni_plugins_masquerade; nft delete table ip cni_hostport');

const bridge = { cniVersion: '1.1.0', name: 'net', type: 'bridge', bridge: 'br0', ipam: {} };
const portmap = { cniVersion: '1.1.0', name: 'net', type: 'portmap' };

test('DEL removes what a pod has there, and nothing of others', { skip }, async () => {
  await make();
  for (const config of [portmap, bridge]) {
    await host.ok('DEL', { config, id: 'one' });
    await host.ok('DEL', { config, id: 'one' });
  }
  const left = await rules();
  assert.doesNotMatch(left, /10\.1\.0\.2\b/);
  for (const address of ['10.1.0.3', '10.1.0.4'])
    assert.equal(left.split('\n').filter(line => line.includes(address)).length, 3, left);
  await clear();
});

test('GC removes the network’s masquerading of pods that are no more', { skip }, async () => {
  await make();
  const valid = { 'cni.dev/valid-attachments': [{ containerID: 'two', ifname: 'eth0' }] };
  await host.ok('GC', { config: { ...bridge, ...valid } });
  const left = await rules();
  assert.doesNotMatch(left, /id: one/);
  assert.match(left, /id: two/);
  assert.match(left, /id: three/);
  // These name no network.
  assert.equal(left.match(/dnat to/g)?.length, 3);
  await clear();
});
