// The nftables mode with real traffic: the contract of all modes, and what only this one does.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { NODE_IP } from './node.ts';
import { describeServices } from './service-contract.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 60_000 };
const TABLE = 'podwire-proxy';

const node = describeServices('nft', {
  options: { mode: 'nftables' },
  nodePortsEverywhere: false,
  refusesUnknownPorts: true,
  afterRestart: async net => {
    const listed = (await net.node.run('nft', ['list', 'map', 'ip', TABLE, 'service-ips'])).stdout;
    assert.equal(listed.match(/ : goto /g)?.length, 1, listed);
    const chains = (await net.node.run('nft', ['list', 'table', 'ip', TABLE])).stdout;
    assert.doesNotMatch(chains, /chain (service|external|firewall|endpoint)-[0-9A-F]{8}/);
  },
});

const IP = '10.96.1.1';

/** A Service with affinity and one endpoint, so that there is something of every kind. */
async function expose(): Promise<void> {
  const { proxy } = node();
  for (const [key, clusterIP, sessionAffinity] of [
    ['own/plain', IP, 'None'],
    ['own/sticky', '10.96.1.2', 'ClientIP'],
  ] as const) {
    proxy.upsertService(service(key, { clusterIP, sessionAffinity, ports: [{ port: 80 }] }));
    proxy.upsertEndpointSlice(slice(key, [endpoint('10.244.1.2')], [{ port: 80 }]));
  }
  await proxy.settled();
}

async function nft(...args: string[]): Promise<string> {
  const ran = await node().node.run('nft', args);
  assert.equal(ran.code, 0, `nft ${args.join(' ')}: ${ran.stderr}`);
  return ran.stdout;
}

const listTable = (): Promise<string> => nft('-s', 'list', 'table', 'ip', TABLE);

/** Declarations, chains and elements in any order, without the clients that affinity remembers. */
function canonical(text: string): string[] {
  return text
    .replace(/(map affinity \{[^{}]*?)\s*elements = \{[^}]*\}/g, '$1')
    .replace(/elements = \{[^}]*\}/g, list =>
      list
        .split(/[,{}]/)
        .map(one => one.trim())
        .sort()
        .join(', '),
    )
    .split(/\n\n?(?=\t(?:set|map|chain) )/)
    .map(block => block.replace(/\s+/g, ' ').replace(/[ }]+$/, ''))
    .sort();
}

for (const [what, ...breakIt] of [
  ['an element deleted', 'delete', 'element', 'ip', TABLE, 'service-ips', `{ ${IP} . tcp . 80 }`],
  ['an endpoint deleted', 'delete', 'element', 'ip', TABLE, 'endpoints-0', `{ ${IP} . tcp . 80 }`],
  ['a map emptied', 'flush', 'map', 'ip', TABLE, 'service-ips'],
  [
    'an element too many',
    'add',
    'element',
    'ip',
    TABLE,
    'no-endpoint-services',
    `{ ${IP} . tcp . 80 : drop }`,
  ],
  ['a chain emptied', 'flush', 'chain', 'ip', TABLE, 'services'],
  ['a rule too many', 'insert', 'rule', 'ip', TABLE, 'services', 'drop'],
  ['a rule in a chain of one Service', 'insert', 'rule', 'ip', TABLE, 'pick-0', 'drop'],
  [
    'a chain too many',
    'add',
    'chain',
    'ip',
    TABLE,
    'theirs',
    '{ type filter hook forward priority 0; policy drop; }',
  ],
  ['a set too many', 'add', 'set', 'ip', TABLE, 'theirs', '{ type ipv4_addr; }'],
  ['the table emptied', 'flush', 'table', 'ip', TABLE],
  ['the table deleted', 'delete', 'table', 'ip', TABLE],
  ['the whole ruleset flushed', 'flush', 'ruleset'],
] as const)
  test(`${what} by somebody: mended within a second`, limits, async () => {
    await expose();
    const before = canonical(await listTable());
    await nft(...breakIt);
    const from = performance.now();
    for (;;) {
      const now = await node().node.run('nft', ['-s', 'list', 'table', 'ip', TABLE]);
      if (now.code === 0 && JSON.stringify(canonical(now.stdout)) === JSON.stringify(before)) break;
      if (performance.now() - from > 1000) assert.deepEqual(canonical(now.stdout), before);
      await sleep(20);
    }
    for (const ip of [IP, '10.96.1.2']) assert.equal(await node().pods[0]!.outcome(ip, 80), 'pod1');
  });

test("somebody else's tables are left alone, and are no reason to look", limits, async () => {
  await expose();
  await nft('add', 'table', 'ip', 'theirs');
  await nft('add', 'chain', 'ip', 'theirs', 'x', '{ type filter hook forward priority 0; }');
  await nft('add', 'rule', 'ip', 'theirs', 'x', 'ip', 'saddr', '192.0.2.1', 'drop');
  await sleep(200);
  assert.match(await nft('list', 'ruleset'), /192\.0\.2\.1 drop/);
  await nft('delete', 'table', 'ip', 'theirs');
});

test('clients keep their endpoint over a restart of the proxy', limits, async () => {
  const net = node();
  const sticky = service('own/sticky', {
    clusterIP: '10.96.1.2',
    sessionAffinity: 'ClientIP',
    ports: [{ port: 80 }],
  });
  const endpoints = slice(
    'own/sticky',
    ['10.244.1.2', '10.244.1.3', '10.244.1.4'].map(ip => endpoint(ip)),
    [{ port: 80 }],
  );
  net.proxy.upsertService(sticky);
  net.proxy.upsertEndpointSlice(endpoints);
  await net.proxy.settled();
  const server = await net.client.outcome('10.96.1.2', 80);
  await net.restart(proxy => {
    proxy.setServices([sticky]);
    proxy.setEndpointSlices([endpoints]);
  });
  for (let n = 0; n < 12; n++) assert.equal(await net.client.outcome('10.96.1.2', 80), server);
});

for (const [family, protocol] of [
  [4, 'TCP'],
  [4, 'UDP'],
  [6, 'TCP'],
  [6, 'UDP'],
] as const)
  test(
    `affinity, IPv${family} ${protocol}: one endpoint for all addresses of a Service, another one when it goes`,
    limits,
    async () => {
      const net = node();
      const n = `${family}${protocol === 'TCP' ? 1 : 2}`;
      const key = `own/all${n}`;
      const port = protocol === 'TCP' ? 80 : 53;
      const nodePort = 30700 + Number(n);
      const clusterIP = family === 4 ? `10.96.2.${n}` : `fd96::2:${n}`;
      const nodeIp = family === 4 ? NODE_IP.v4 : NODE_IP.v6;
      if (family === 6 && protocol === 'UDP')
        for (const [n, pod] of net.pods.entries()) pod.udpServer(53, `pod${n + 1}`, '::');
      const pods = ['2', '3', '4'].map(last => (family === 4 ? `10.244.1.${last}` : `fd00:244:1::${last}`));
      const put = async (addresses: string[]): Promise<void> => {
        const list = addresses.map(ip => endpoint(ip));
        net.proxy.upsertEndpointSlice({
          ...slice(key, list, [{ port, protocol }]),
          addressType: family === 4 ? 'IPv4' : 'IPv6',
        });
        await net.proxy.settled();
      };
      const options = {
        type: 'NodePort',
        clusterIP,
        ports: [{ port, nodePort, protocol }],
        sessionAffinity: 'ClientIP',
      };
      net.proxy.upsertService(service(key, options));
      await put(pods);
      const transport = protocol === 'TCP' ? 'tcp' : 'udp';
      const ask = (): Promise<string> => net.client.outcome(clusterIP, port, { protocol: transport });
      const askNode = (): Promise<string> => net.client.outcome(nodeIp, nodePort, { protocol: transport });
      const first = await ask();
      assert.match(first, /^pod[123]$/);
      for (let round = 0; round < 6; round++)
        assert.deepEqual([await ask(), await askNode()], [first, first]);
      // Two others go: nothing changes for who was remembered.
      const own = pods[Number(first.slice(3)) - 1]!;
      await put([own]);
      assert.deepEqual([await askNode(), await ask()], [first, first]);
      await put(pods);
      for (let round = 0; round < 6; round++) assert.equal(await ask(), first);
      // Its own one goes.
      await put(pods.filter(ip => ip !== own));
      const second = await askNode();
      assert.match(second, /^pod[123]$/);
      assert.notEqual(second, first);
      for (let round = 0; round < 6; round++)
        assert.deepEqual([await ask(), await askNode()], [second, second]);
      // It comes back: the client stays where it is by now.
      await put(pods);
      for (let round = 0; round < 6; round++) assert.equal(await ask(), second);
    },
  );

test('affinity: who keeps coming is remembered for longer; nft lists it', limits, async () => {
  const net = node();
  const ports = [{ port: 80 }];
  net.proxy.upsertService(
    service('own/brief', {
      clusterIP: '10.96.3.1',
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 2 } },
      ports,
    }),
  );
  const list = ['10.244.1.2', '10.244.1.3', '10.244.1.4'].map(ip => endpoint(ip));
  net.proxy.upsertEndpointSlice(slice('own/brief', list, ports));
  await net.proxy.settled();
  const first = await net.client.outcome('10.96.3.1', 80);
  for (let n = 0; n < 4; n++) {
    await sleep(1000);
    assert.equal(await net.client.outcome('10.96.3.1', 80), first);
  }
  const listed = await nft('list', 'map', 'ip', TABLE, 'affinity');
  assert.match(listed, /10\.96\.3\.1 \. tcp \. 80 \. 10\.9\.0\.9 timeout 2s expires/);
  assert.match(await nft('list', 'chain', 'ip', TABLE, 'sticky-3-2s'), /update @affinity/);
  await nft('-j', 'list', 'ruleset');
});

test('the node itself reaches a node port of policy Local on another node', limits, async () => {
  const { proxy, node: host } = node();
  proxy.upsertService(
    service('own/away', {
      clusterIP: '10.96.1.3',
      type: 'NodePort',
      externalTrafficPolicy: 'Local',
      ports: [{ port: 80, nodePort: 30900 }],
      externalIPs: ['198.51.100.90'],
    }),
  );
  proxy.upsertEndpointSlice(slice('own/away', [endpoint('10.244.2.2', { node: 'far' })], [{ port: 80 }]));
  await proxy.settled();
  assert.equal(await host.outcome(NODE_IP.v4, 30900), 'far1');
  assert.equal(await host.outcome('198.51.100.90', 80), 'far1');
  assert.equal(await node().client.outcome('198.51.100.90', 80, { timeoutMs: 400 }), 'TIMEOUT');
});
