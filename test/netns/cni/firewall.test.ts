// The firewall plugin: what it lets through and keeps apart, per backend and family; CHECK, DEL without anything, GC.
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

type Config = Record<string, unknown>;
interface Pod {
  id: string;
  netns: string;
  bridge: number;
  result: { ips: { address: string }[] };
  addresses: string[];
}

const bridge = (number: number, over: Config = {}): Config => ({
  cniVersion: '1.1.0',
  name: `net${number}`,
  type: 'bridge',
  bridge: `br${number}`,
  isDefaultGateway: true,
  ipam: {
    type: 'host-local',
    dataDir: host.dataDir,
    ranges: [[{ subnet: `10.7${number}.0.0/24` }], [{ subnet: `fd7${number}::/64` }]],
  },
  ...over,
});
const firewall = (number: number, over: Config = {}): Config => ({
  cniVersion: '1.1.0',
  name: `net${number}`,
  type: 'firewall',
  backend: 'nftables',
  ...over,
});

async function addPod(id: string, number: number): Promise<Pod> {
  const netns = host.addPod();
  const result = (await host.ok('ADD', { config: bridge(number), netns, id })) as unknown as Pod['result'];
  return { id, netns, bridge: number, result, addresses: result.ips.map(ip => ip.address.split('/')[0]!) };
}

async function guard(pod: Pod, over: Config = {}): Promise<void> {
  const config = firewall(pod.bridge, { ...over, prevResult: pod.result });
  assert.deepEqual(await host.ok('ADD', { config, netns: pod.netns, id: pod.id }), pod.result);
}

async function removePod(pod: Pod): Promise<void> {
  await host.ok('DEL', { config: firewall(pod.bridge), id: pod.id });
  await host.ok('DEL', { config: bridge(pod.bridge), netns: pod.netns, id: pod.id });
}

/** Which families get through. */
async function reaches(from: Pod, to: Pod | string[]): Promise<string> {
  const targets = Array.isArray(to) ? to : to.addresses;
  const answers = await Promise.all(
    targets.map(target =>
      host.sh(`busybox ping -c1 -W1 ${target} >/dev/null && echo yes || echo no`, from.netns),
    ),
  );
  return answers.map(answer => answer.trim()).join(' ');
}

const ruleset = async (): Promise<string> => (await host.sh('nft list ruleset')).trim();

test('nftables: bridges are kept apart from others, and within when isolated; open ones are not', {
  skip,
}, async () => {
  const [a, b, c, open] = [
    await addPod('a', 1),
    await addPod('b', 2),
    await addPod('c', 2),
    await addPod('d', 3),
  ];
  assert.equal(await reaches(a, b), 'yes yes');
  await guard(a, { ingressPolicy: 'same-bridge' });
  await guard(b, { ingressPolicy: 'isolated' });
  await guard(c, { ingressPolicy: 'isolated' });
  await guard(open);
  assert.equal(await reaches(a, b), 'no no');
  assert.equal(await reaches(b, a), 'no no');
  // Not of a bridge that is kept apart: as in the reference, only such bridges are kept from each other.
  assert.equal(await reaches(open, a), 'yes yes');
  assert.equal(await reaches(a, open), 'yes yes');
  // The host itself is no bridge.
  assert.equal(await reaches(a, ['10.71.0.1', 'fd71::1']), 'yes yes');
  for (const pod of [a, b])
    await host.ok('CHECK', {
      config: firewall(pod.bridge, {
        ingressPolicy: pod === a ? 'same-bridge' : 'isolated',
        prevResult: pod.result,
      }),
      netns: pod.netns,
      id: pod.id,
    });
  const text = await ruleset();
  assert.match(text, /set isolated \{[^}]*"br2"/);
  assert.match(text, /set same_bridge \{[^}]*"br1"/);
  await removePod(b);
  assert.match(await ruleset(), /set isolated \{[^}]*"br2"/);
  await removePod(c);
  assert.doesNotMatch(await ruleset(), /"br2"/);
  await removePod(a);
  await removePod(open);
  assert.equal(await ruleset(), '');
});

test('nftables: the administrator’s chain comes before the pods’ rules and stays while it has rules', {
  skip,
}, async () => {
  const [a, b] = [await addPod('a', 1), await addPod('b', 2)];
  for (const pod of [a, b]) await guard(pod, { iptablesAdminChainName: 'MY-ADMIN' });
  await host.sh('nft add rule inet podwire_cni MY-ADMIN ip saddr 10.71.0.0/24 drop');
  assert.equal(await reaches(a, b), 'no yes');
  const rules = async () => (await host.sh('nft list chain inet podwire_cni admin')).match(/jump/g)?.length;
  assert.equal(await rules(), 1);
  await removePod(a);
  await removePod(b);
  assert.match(await ruleset(), /10\.71\.0\.0\/24 drop/);
  const again = await addPod('again', 1);
  await guard(again, { iptablesAdminChainName: 'MY-ADMIN' });
  assert.equal(await rules(), 1);
  await host.sh('nft flush chain inet podwire_cni MY-ADMIN');
  await removePod(again);
  assert.equal(await ruleset(), '');
});

test('nftables: CHECK notices what is missing; GC removes what belongs to nobody', { skip }, async () => {
  const pod = await addPod('g', 1);
  const over = { ingressPolicy: 'same-bridge' };
  await guard(pod, over);
  const request = {
    config: firewall(1, { ...over, prevResult: pod.result }),
    netns: pod.netns,
    id: 'g',
  };
  for (const [what, message] of [
    [
      `delete element inet podwire_cni firewall4 "{ ${pod.addresses[0]} }"`,
      /rule of 10\.71\.0\.\d+ is missing/,
    ],
    ['flush chain inet podwire_cni isolation', /rule of chain isolation of table podwire_cni is missing/],
    ['flush chain inet podwire_cni same-bridge-br1', /chain same-bridge-br1 is missing/],
    [
      'delete element inet podwire_cni same_bridge_pairs "{ br1 . br1 }"',
      /what chain same-bridge-br1 has in same_bridge_pairs is missing/,
    ],
  ] as const) {
    await host.ok('CHECK', request);
    await host.sh(`nft ${what}`);
    assert.match(String((await host.run('CHECK', request)).json.msg), message);
    await host.ok('DEL', { config: firewall(1), id: 'g' });
    await guard(pod, over);
  }
  const valid = { 'cni.dev/valid-attachments': [{ containerID: 'g', ifname: 'eth0' }] };
  await host.ok('GC', { config: firewall(1, valid) });
  await host.ok('CHECK', request);
  await host.ok('GC', { config: firewall(1, { 'cni.dev/valid-attachments': [] }) });
  assert.equal(await ruleset(), '');
  await host.ok('STATUS', { config: firewall(1) });
  await removePod(pod);
});

test('bad configurations are refused', { skip }, async () => {
  const prevResult = { cniVersion: '1.1.0', ips: [{ address: '10.71.0.9/24' }] };
  for (const [over, code, message] of [
    [{ backend: 'firewalld' }, 2, /firewalld is not supported/],
    [{ backend: 'ipfw' }, 7, /unrecognized firewall backend "ipfw"/],
    [{ ingressPolicy: 'closed' }, 7, /unknown ingress policy "closed"/],
    [{ ingressPolicy: 'isolated' }, 7, /needs a bridge/],
    [{ iptablesAdminChainName: 'a b' }, 7, /cannot be the name/],
    [{ iptablesAdminChainName: 'forward' }, 7, /cannot be the name/],
  ] as const) {
    const output = await host.run('ADD', {
      config: firewall(1, { ...over, prevResult }),
      netns: '/run/netns/x',
    });
    assert.deepEqual([output.code, output.json.code], [1, code]);
    assert.match(String(output.json.msg), message);
  }
  assert.equal(await ruleset(), '');
});
