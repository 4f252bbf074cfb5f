// ipMasq and portmap: what nft shows, what a client sees, conflicts, CHECK, DEL without anything, GC, nothing left.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CniHost, type CniRequest } from '../../harness/cni.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
let host: CniHost;
let outside: string;

before(async () => {
  if (skip) return;
  host = await CniHost.create();
  // A machine beside the host: 192.0.2.1 is the host, 192.0.2.2 the other.
  outside = host.addPod();
  await host.sh(`ip link add out0 type veth peer name eth0 netns ${outside.split('/').pop()}`);
  await host.sh(
    'ip addr add 192.0.2.1/24 dev out0; ip -6 addr add fd99::1/64 dev out0 nodad; ip link set out0 up',
  );
  await host.sh(
    'ip link set lo up; ip addr add 192.0.2.2/24 dev eth0; ip -6 addr add fd99::2/64 dev eth0 nodad; ip link set eth0 up; ip route add 10.60.0.0/16 via 192.0.2.1',
    outside,
  );
});
after(async () => {
  if (!skip) await host.close();
});

const bridge = (over: Record<string, unknown> = {}) => ({
  cniVersion: '1.1.0',
  name: 'nat',
  type: 'bridge',
  bridge: 'br0',
  isDefaultGateway: true,
  ipMasq: true,
  hairpinMode: true,
  ipam: {
    type: 'host-local',
    dataDir: host.dataDir,
    ranges: [[{ subnet: '10.60.0.0/24' }], [{ subnet: 'fd60::/64' }]],
  },
  ...over,
});
const portmap = (mappings: unknown[], over: Record<string, unknown> = {}) => ({
  cniVersion: '1.1.0',
  name: 'nat',
  type: 'portmap',
  snat: true,
  runtimeConfig: { portMappings: mappings },
  ...over,
});
interface Ips {
  ips: { address: string }[];
}
const ruleset = () => host.sh('nft list ruleset');
/** Starts a server in a namespace that answers each connection with a word, for the length of the test. */
async function serve(netns: string, port: number): Promise<void> {
  await host.sh(
    `timeout 20 busybox nc -ll -p ${port} -e /bin/echo hello </dev/null >/dev/null 2>&1 & sleep 0.1`,
    netns,
  );
}
const ask = (target: string, port: number, netns?: string) =>
  host.sh(`busybox nc -w 2 ${target} ${port} </dev/null`, netns);

test('a masqueraded pod shows the host’s address outside and its own inside', { skip }, async () => {
  const pods = [host.addPod(), host.addPod()];
  const [a] = (await Promise.all(
    pods.map((netns, i) => host.ok('ADD', { config: bridge(), netns, id: `masq${i}` })),
  )) as unknown as Ips[];
  const text = await ruleset();
  assert.match(
    text,
    /chain masq-10\.60\.0\.0\/24 \{\n\t+ip daddr 10\.60\.0\.0\/24 return\n\t+ip daddr != 224\.0\.0\.0\/4 masquerade/,
  );
  assert.match(text, /ip saddr vmap @masq4/);
  assert.match(
    text,
    /comment "nat:masq0:eth0" : jump masq-10\.60\.0\.0\/24|jump masq-10\.60\.0\.0\/24 comment/,
  );
  const dump = host.sh('timeout 3 tcpdump -lnni eth0 -c 1 icmp 2>/dev/null', outside);
  await host.sh('sleep 0.7; busybox ping -c1 -W1 192.0.2.2', pods[0]!);
  assert.match(await dump, /192\.0\.2\.1 > 192\.0\.2\.2/);
  for (const [i, netns] of pods.entries()) {
    const request = { config: bridge({ prevResult: a }), netns, id: `masq${i}` };
    if (i === 0) await host.ok('CHECK', request);
    host.removePod(netns);
    await host.ok('DEL', { config: bridge(), id: `masq${i}` });
  }
  assert.equal((await ruleset()).trim(), '');
});

test('host ports reach the pod from outside, the host, the pod itself; DEL leaves nothing', {
  skip,
}, async () => {
  const netns = host.addPod();
  const prevResult = (await host.ok('ADD', { config: bridge(), netns, id: 'pm' })) as unknown as Ips;
  const mappings = [
    { HostPort: 8080, ContainerPort: 80, Protocol: 'TCP', HostIP: '' },
    { hostPort: 8053, containerPort: 53, protocol: 'udp' },
    { hostPort: 8081, containerPort: 80, protocol: 'tcp', hostIP: '192.0.2.1' },
  ];
  const result = await host.ok('ADD', { config: portmap(mappings, { prevResult }), netns, id: 'pm' });
  assert.deepEqual(result, prevResult);
  await serve(netns, 80);
  assert.match(await ask('192.0.2.1', 8080, outside), /hello/);
  assert.match(await ask('fd99::1', 8080, outside), /hello/);
  assert.match(await ask('192.0.2.1', 8081, outside), /hello/);
  assert.doesNotMatch(await ask('10.60.0.1', 8081, outside), /hello/);
  assert.match(await ask('192.0.2.1', 8080), /hello/);
  assert.match(await ask('127.0.0.1', 8080), /hello/);
  assert.match(await ask('10.60.0.1', 8080, netns), /hello/);
  const request: CniRequest = { config: portmap(mappings, { prevResult }), netns, id: 'pm' };
  await host.ok('CHECK', request);
  await host.ok('CHECK', { config: bridge({ prevResult }), netns, id: 'pm' });
  await host.sh('nft delete element inet podwire_cni hostports4 "{ udp . 8053 }"');
  assert.match(String((await host.run('CHECK', request)).json.msg), /host port 8053\/udp is missing/);
  await host.ok('DEL', { config: portmap([]), id: 'pm' });
  assert.match(await ruleset(), /masq-10/);
  await host.ok('DEL', { config: bridge(), id: 'pm', netns });
  await host.ok('DEL', { config: portmap([]), id: 'pm' });
  assert.equal((await ruleset()).trim(), '');
});

test('a taken host port is refused, its holder named; an own old one is replaced', { skip }, async () => {
  const netns = host.addPod();
  const prevResult = await host.ok('ADD', { config: bridge({ ipMasq: false }), netns, id: 'x' });
  const request = (id: string, port: number) => ({
    config: portmap([{ hostPort: port, containerPort: 80, protocol: 'tcp' }], { prevResult }),
    netns,
    id,
  });
  await host.ok('ADD', request('x', 9000));
  const refused = await host.run('ADD', request('y', 9000));
  assert.equal(refused.code, 1);
  assert.match(String(refused.json.msg), /host port 9000\/tcp is already taken/);
  assert.match(String(refused.json.details), /nat:x:eth0/);
  await host.ok('ADD', request('x', 9000));
  for (const id of ['x', 'y']) await host.ok('DEL', { config: portmap([]), id });
  await host.ok('DEL', { config: bridge(), id: 'x', netns });
  assert.equal((await ruleset()).trim(), '');
});

test('conditions of nftables: a host port is there for whom they name, and for everybody else another', {
  skip,
}, async () => {
  const [a, b] = [host.addPod(), host.addPod()];
  const results = [
    await host.ok('ADD', { config: bridge({ ipMasq: false }), netns: a, id: 'ca' }),
    await host.ok('ADD', { config: bridge({ ipMasq: false }), netns: b, id: 'cb' }),
  ];
  const mapping = [{ hostPort: 9100, containerPort: 80, protocol: 'tcp' }];
  const conditions = {
    backend: 'nftables',
    conditionsV4: ['ip saddr { 192.0.2.2, 203.0.113.0/24 }', 'iifname', '!=', 'lo'],
    conditionsV6: ['ip6 saddr fd99::/64', 'ct', 'state', 'new'],
  };
  const request = (id: string, over: Record<string, unknown>): CniRequest => ({
    config: portmap(mapping, { prevResult: results[id === 'ca' ? 0 : 1], ...over }),
    netns: id === 'ca' ? a : b,
    id,
  });
  await host.ok('ADD', request('ca', conditions));
  await host.ok('CHECK', request('ca', conditions));
  await serve(a, 80);
  assert.match(await ask('192.0.2.1', 9100, outside), /hello/);
  assert.match(await ask('fd99::1', 9100, outside), /hello/);
  assert.doesNotMatch(await ask('192.0.2.1', 9100), /hello/);
  assert.match(await ruleset(), /ip saddr 203\.0\.113\.0\/24 iifname != "lo" dnat ip to 10\.60\.0\.\d+:80/);
  const taken = await host.run('ADD', request('cb', conditions));
  assert.match(String(taken.json.msg), /host port 9100\/tcp is already taken/);
  // Without conditions another pod may have what is left.
  await host.sh(
    'timeout 20 busybox nc -ll -p 80 -e /bin/echo other </dev/null >/dev/null 2>&1 & sleep 0.1',
    b,
  );
  await host.ok('ADD', request('cb', {}));
  assert.match(await ask('192.0.2.1', 9100), /other/);
  assert.match(await ask('192.0.2.1', 9100, outside), /hello/);
  await host.sh('nft flush chain inet podwire_cni port4-tcp-9100');
  const check = await host.run('CHECK', request('ca', conditions));
  assert.match(String(check.json.msg), /chain port4-tcp-9100 is missing/);
  await host.ok('ADD', request('ca', conditions));
  await host.ok('CHECK', request('ca', conditions));
  await host.ok('DEL', { config: portmap([]), id: 'ca' });
  assert.match(await ask('192.0.2.1', 9100, outside), /other/);
  await host.ok('GC', { config: portmap([], { 'cni.dev/valid-attachments': [] }) });
  assert.equal((await ruleset()).trim(), '');
  for (const [over, message] of [
    [{ backend: 'nftables', conditionsV4: ['-s', '10.0.0.1'] }, /iptables-specific options conditionsV4/],
    [{ backend: 'nftables', externalSetMarkChain: 'X' }, /iptables-specific options externalSetMarkChain/],
    [{ backend: 'iptables', conditionsV6: ['ip6 saddr fd00::1'] }, /nftables-specific options conditionsV6/],
    [{ conditionsV4: ['ip saddr nowhere'] }, /cannot parse conditionsV4 at "nowhere"/],
    [{ externalSetMarkChain: 'X', markMasqBit: 3 }, /cannot specify/],
  ] as const) {
    const { code, json } = await host.run('ADD', request('ca', over));
    assert.deepEqual([code, json.code], [1, 7]);
    assert.match(String(json.msg), message);
  }
  for (const [i, netns] of [a, b].entries())
    await host.ok('DEL', { config: bridge(), netns, id: i === 0 ? 'ca' : 'cb' });
  assert.equal((await ruleset()).trim(), '');
});

test('a table that an earlier release left, with pods in it, is added to; its pods stay and can go', {
  skip,
}, async () => {
  await host.sh(`nft -f ${join(import.meta.dirname, '../../fixtures/cni/layout-1.nft')}`);
  const netns = host.addPod();
  const prevResult = await host.ok('ADD', { config: bridge(), netns, id: 'later' });
  const over = { prevResult, conditionsV4: ['ip saddr 192.0.2.0/24'] };
  const mapping = [{ hostPort: 9200, containerPort: 80, protocol: 'tcp' }];
  await host.ok('ADD', { config: portmap(mapping, over), netns, id: 'later' });
  const guard = { cniVersion: '1.1.0', name: 'nat', type: 'firewall', backend: 'nftables', prevResult };
  await host.ok('ADD', { config: guard, netns, id: 'later' });
  await host.ok('CHECK', { config: portmap(mapping, over), netns, id: 'later' });
  await host.ok('CHECK', { config: guard, netns, id: 'later' });
  await serve(netns, 80);
  assert.match(await ask('192.0.2.1', 9200, outside), /hello/);
  const earlier = (await ruleset()).match(/"nat:earlier:eth0"/g)?.length;
  assert.equal(earlier, 7);
  // Of the earlier pod: its CHECK, its taken port, its DEL.
  const before = { cniVersion: '1.1.0', ips: [{ address: '10.60.0.77/24' }, { address: 'fd60::77/64' }] };
  const ports = [
    { hostPort: 9300, containerPort: 80, protocol: 'tcp' },
    { hostPort: 9301, containerPort: 53, protocol: 'udp', hostIP: '192.0.2.1' },
  ];
  await host.ok('CHECK', { config: portmap(ports, { prevResult: before }), netns, id: 'earlier' });
  const taken = await host.run('ADD', { config: portmap(ports, { prevResult }), netns, id: 'later' });
  assert.match(String(taken.json.details), /nat:earlier:eth0/);
  for (const config of [guard, portmap([]), bridge()]) await host.ok('DEL', { config, netns, id: 'later' });
  assert.equal((await ruleset()).match(/"nat:earlier:eth0"/g)?.length, 7);
  for (const config of [portmap([]), bridge()]) await host.ok('DEL', { config, id: 'earlier' });
  assert.equal((await ruleset()).trim(), '');
});

test('UDP flows do not outlive the port mapping they followed', { skip }, async () => {
  const netns = host.addPod();
  const prevResult = await host.ok('ADD', { config: bridge(), netns, id: 'u' });
  const mappings = [{ hostPort: 8053, containerPort: 53, protocol: 'udp' }];
  const flows = () => host.sh('conntrack -L -p udp --dport 8053 2>/dev/null');
  const send = () => host.sh("bash -c 'echo x > /dev/udp/192.0.2.1/8053'", outside);
  await send();
  assert.match(await flows(), /dport=8053/);
  await host.ok('ADD', { config: portmap(mappings, { prevResult }), netns, id: 'u' });
  assert.equal(await flows(), '');
  await send();
  assert.match(await flows(), /src=10\.60\.0\.\d+ dst=192\.0\.2\.2 sport=53/);
  await host.ok('DEL', { config: portmap([]), id: 'u' });
  assert.equal(await flows(), '');
  await host.ok('DEL', { config: bridge(), netns, id: 'u' });
});

test('GC removes elements of pods that are no more', { skip }, async () => {
  const netns = host.addPod();
  const prevResult = await host.ok('ADD', { config: bridge(), netns, id: 'g1' });
  const mappings = [{ hostPort: 9001, containerPort: 80, protocol: 'tcp' }];
  await host.ok('ADD', { config: portmap(mappings, { prevResult }), netns, id: 'g1' });
  const valid = { 'cni.dev/valid-attachments': [{ containerID: 'g1', ifname: 'eth0' }] };
  await host.ok('GC', { config: portmap([], valid) });
  assert.match(await ruleset(), /9001/);
  const none = { 'cni.dev/valid-attachments': [] };
  await host.ok('GC', { config: portmap([], none) });
  assert.doesNotMatch(await ruleset(), /9001/);
  await host.ok('GC', { config: bridge(none) });
  assert.equal((await ruleset()).trim(), '');
  await host.ok('STATUS', { config: portmap([]) });
});

test('bad mappings are refused before anything happens', { skip }, async () => {
  const prevResult = { cniVersion: '1.1.0', ips: [{ address: '10.60.0.9/24' }] };
  const bad: [unknown, RegExp][] = [
    [{ hostPort: 0, containerPort: 80 }, /invalid host port number: 0/],
    [{ hostPort: 70000, containerPort: 80 }, /invalid host port number: 70000/],
    [{ hostPort: 1, containerPort: -1 }, /invalid container port number: -1/],
    [{ hostPort: 1, containerPort: 1, protocol: 'icmp' }, /unknown port protocol/],
    [{ hostPort: 1, containerPort: 1, hostIP: 'x' }, /hostIP "x" is not an IP address/],
    [{ hostPort: '1', containerPort: 1 }, /must be a whole number/],
  ];
  for (const [mapping, message] of bad) {
    const output = await host.run('ADD', {
      config: portmap([mapping], { prevResult }),
      netns: '/run/netns/x',
    });
    assert.equal(output.code, 1);
    assert.match(String(output.json.msg), message);
  }
  const chained = await host.run('ADD', {
    config: portmap([{ hostPort: 1, containerPort: 1 }]),
    netns: '/x',
  });
  assert.match(String(chained.json.msg), /prevResult is missing/);
  assert.equal((await ruleset()).trim(), '');
});
