// The iptables mode with real traffic: the contract of all modes, and what only this one does.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { describeServices } from './service-contract.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 60_000 };

const node = describeServices('svc', {
  options: {},
  nodePortsEverywhere: true,
  refusesUnknownPorts: false,
  afterRestart: async net => {
    const saved = `${(await net.node.run('iptables-legacy-save', [])).stdout}${(await net.node.run('iptables-nft-save', [])).stdout}`;
    assert.equal(saved.match(/:KUBE-SVC-/g)?.length, 1);
  },
});

/** A Service with one endpoint. */
async function expose(ip: string, address: string): Promise<void> {
  const { proxy } = node();
  const key = `own/s${ip.replaceAll('.', '-')}`;
  proxy.upsertService(service(key, { clusterIP: ip, ports: [{ port: 80 }] }));
  proxy.upsertEndpointSlice(slice(key, [endpoint(address)], [{ port: 80 }]));
  await proxy.settled();
}

test("works with FORWARD DROP, and leaves somebody else's rules alone", limits, async () => {
  const ip = '10.96.1.1';
  await expose(ip, '10.244.2.2');
  const net = node();
  const tool = (await net.node.run('iptables-legacy-save', [])).stdout.includes('KUBE-SERVICES')
    ? 'iptables-legacy'
    : 'iptables-nft';
  await net.node.run(tool, ['-N', 'THEIRS']);
  await net.node.run(tool, ['-A', 'THEIRS', '-s', '192.0.2.1/32', '-j', 'DROP']);
  await net.node.run(tool, ['-A', 'FORWARD', '-s', '10.244.1.0/24', '-j', 'ACCEPT']);
  await net.node.run(tool, ['-P', 'FORWARD', 'DROP']);
  // From outside the reply only passes because of the mark and the connection state.
  assert.equal(await net.client.outcome(ip, 80), 'far1');
  assert.deepEqual(await net.reconciler.verify(), []);
  const saved = (await net.node.run(`${tool}-save`, [])).stdout;
  assert.match(saved, /-A THEIRS -s 192\.0\.2\.1\/32 -j DROP/);
  await net.node.run(tool, ['-P', 'FORWARD', 'ACCEPT']);
});

for (const [what, breakIt] of [
  ['a rule deleted', ['-t', 'nat', '-D', 'KUBE-SERVICES', '1']],
  ['a chain flushed', ['-t', 'nat', '-F', 'KUBE-SERVICES']],
  ['the table flushed', ['-t', 'nat', '-F']],
  ['the jumps gone', ['-t', 'nat', '-F', 'PREROUTING']],
] as const)
  test(`${what} by somebody: found and mended`, limits, async () => {
    const ip = '10.96.1.2';
    await expose(ip, '10.244.1.2');
    const net = node();
    const pod1 = net.pods[0]!;
    const legacy = (await net.node.run('iptables-legacy-save', [])).stdout.includes('KUBE-SERVICES');
    const broken = await net.node.run(legacy ? 'iptables-legacy' : 'iptables-nft', breakIt);
    assert.equal(broken.code, 0, broken.stderr);
    const from = performance.now();
    while ((await pod1.outcome(ip, 80, { timeoutMs: 150 })) !== 'pod1')
      if (performance.now() - from > 1000) assert.fail('not mended within a second');
  });
