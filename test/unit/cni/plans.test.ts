// The pure parts of the plugins: what portmap, firewall, flannel and the bridge's gateways plan; what the runner sends.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { orphanTest, ownerName } from '../../../cni/link/owner.ts';
import type { BridgeConfig } from '../../../cni/main/bridge/config.ts';
import { planGateways } from '../../../cni/main/bridge/gateways.ts';
import { parseSubnetEnv, rangesOf } from '../../../cni/meta/flannel/subnet-env.ts';
import { podAddresses } from '../../../cni/meta/portmap/config.ts';
import { planPortMappings, readPortKey } from '../../../cni/meta/portmap/nftables-plan.ts';
import { Fields } from '../../../cni/runtime/fields.ts';
import { parseNetworkList } from '../../../cni/runtime/network-list.ts';
import { emptyResult } from '../../../cni/runtime/result.ts';
import { requestConfig, requestEnvironment } from '../../../cni/runtime/runner.ts';
import { requireCidr } from '../../../src/lib/cidr.ts';
import { requireIp } from '../../../src/lib/ip.ts';

const POD4 = requireCidr('10.1.0.5/16');
const POD6 = requireCidr('fd00::5/64');
const NONE = { 4: [], 6: [] };

test('portmap: an element a port and family, one more for masquerading', () => {
  const mappings = [
    { hostPort: 8080, containerPort: 80, protocol: 'tcp' as const, hostIp: undefined },
    { hostPort: 53, containerPort: 53, protocol: 'udp' as const, hostIp: requireIp('192.0.2.1') },
  ];
  const rules = planPortMappings({ mappings, snat: true, masqAll: false, conditions: NONE }, [POD4, POD6]);
  assert.deepEqual(
    rules.map(rule => [rule.set, rule.key.toString('hex'), rule.data?.toString('hex'), rule.chain?.name]),
    [
      ['hostports4', '060000001f900000', '0a01000500500000', undefined],
      ['hostip_hostports4', 'c00002011100000000350000', '0a01000500350000', undefined],
      ['snat4', '0a010005', undefined, 'snat-10.1.0.0/16'],
      ['hostports6', '060000001f900000', 'fd00000000000000000000000000000500500000', undefined],
      ['snat6', 'fd000000000000000000000000000005', undefined, 'snat-fd00--/64'],
    ],
  );
  assert.deepEqual(readPortKey(rules[1]!.key), { protocol: 17, port: 53 });
});

test('portmap: the same port twice is refused unless it leads to the same place', () => {
  const one = { hostPort: 80, containerPort: 80, protocol: 'tcp' as const, hostIp: undefined };
  const plan = (containerPort: number) =>
    planPortMappings(
      { mappings: [one, { ...one, containerPort }], snat: false, masqAll: false, conditions: NONE },
      [POD4],
    );
  assert.equal(plan(80).length, 1);
  assert.throws(() => plan(81), /host port 80\/tcp is mapped to two container ports/);
});

test('portmap: only addresses of the container count, the first of each family', () => {
  const result = {
    ...emptyResult(),
    interfaces: [{ name: 'br0' }, { name: 'eth0', sandbox: '/x' }],
    ips: [
      { interface: 0, address: '10.9.0.1/24' },
      { interface: 1, address: '10.1.0.5/16' },
      { interface: 1, address: '10.1.0.6/16' },
      { interface: 1, address: 'fd00::5/64' },
    ],
  };
  assert.deepEqual(podAddresses(result), [POD4, POD6]);
});

test('bridge: gateways and default routes from IPAM’s answer', () => {
  const config = { isGateway: true, isDefaultGateway: true } as BridgeConfig;
  const result = {
    ...emptyResult(),
    ips: [{ address: '10.1.2.5/24' }, { address: 'fd00::5/64', gateway: 'fd00::99' }],
  };
  assert.deepEqual(
    planGateways(config, result).map(one => one.address),
    ['10.1.2.1/24', 'fd00::99/64'],
  );
  assert.deepEqual(result.routes, [
    { dst: '0.0.0.0/0', gw: '10.1.2.1' },
    { dst: '::/0', gw: 'fd00::99' },
  ]);
  assert.deepEqual(planGateways({ ...config, isGateway: false }, result), []);
});

test('flannel: subnet.env of one and two families; what is missing is named', () => {
  const env = parseSubnetEnv(
    'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
    'x',
  );
  assert.deepEqual(rangesOf(env), [[{ subnet: '10.244.1.0/24' }], [{ subnet: 'fd00:0:0:1::/64' }]]);
  assert.deepEqual([env.mtuBytes, env.ipMasq], [1450, true]);
  assert.throws(
    () => parseSubnetEnv('FLANNEL_MTU=1', 'x'),
    /missing FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_IPMASQ/,
  );
});

test('owners: readable where they fit, digests where not, and GC tells its own from others', () => {
  const pod = { containerId: 'c1', ifName: 'eth0' };
  assert.equal(ownerName('net', pod), 'net:c1:eth0');
  const long = { containerId: 'c'.repeat(200), ifName: 'eth0' };
  assert.ok(ownerName('n'.repeat(100), long).length <= 127);
  assert.notEqual(ownerName('net', long), ownerName('net', { ...long, ifName: 'eth1' }));
  const orphan = orphanTest('net', [pod]);
  assert.deepEqual(['net:c1:eth0', 'net:c2:eth0', 'network:c2:eth0', ''].map(orphan), [
    false,
    true,
    false,
    false,
  ]);
});

test('runner: capabilities only where declared, prevResult and name injected, outer variables hidden', () => {
  const list = parseNetworkList(
    JSON.stringify({
      cniVersion: '0.4.0',
      cniVersions: ['1.0.0', '1.1.0', '9.9.9'],
      name: 'n',
      plugins: [{ type: 'a', capabilities: { portMappings: true, ips: false } }, { type: 'b' }],
    }),
    'x.conflist',
  );
  assert.equal(list.cniVersion, '1.1.0');
  const request = {
    containerId: 'c',
    netns: '/x',
    ifName: 'eth0',
    capabilities: { portMappings: [1], ips: ['x'] },
  };
  assert.deepEqual(requestConfig(list, list.plugins[0]!, request, undefined).runtimeConfig, {
    portMappings: [1],
  });
  const second = requestConfig(list, list.plugins[1]!, request, { ips: [] });
  assert.deepEqual(second, { type: 'b', name: 'n', cniVersion: '1.1.0', prevResult: { ips: [] } });
  const env = requestEnvironment('GC', undefined, ['/a', '/b']);
  assert.deepEqual([env.CNI_CONTAINERID, env.CNI_PATH], ['', '/a:/b']);
  for (const bad of [
    '{}',
    '{"name":"x","plugins":[]}',
    '{"name":"x","plugins":[{}]}',
    '{"name":"a/b","type":"x"}',
  ])
    assert.throws(() => parseNetworkList(bad, 'bad.conf'));
});

test('fields: the exact spelling wins, else the last; wrong types are code 6', () => {
  const fields = new Fields({ HostPort: 1, hostPort: 2, hostport: 3, MTU: 5, mtu: null, list: 'x' });
  assert.equal(fields.integer('hostPort'), 2);
  assert.equal(fields.integer('HOSTPORT'), 3);
  assert.equal(fields.integer('mtu'), undefined);
  assert.throws(() => fields.strings('list'), /must be a list/);
  assert.throws(() => fields.boolean('MTU'), /must be true or false/);
});
