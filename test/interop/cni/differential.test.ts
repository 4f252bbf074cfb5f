// The same configurations through Debian's plugins and through ours: results, addresses, routes, links, port flags.
// What differs on purpose is taken out by `normalise` and `normaliseDump`, each with its reason; anything else fails.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CniHost, REFERENCE_PLUGINS } from '../../harness/cni.ts';

const skip =
  process.getuid?.() !== 0
    ? 'needs root'
    : existsSync(join(REFERENCE_PLUGINS, 'bridge'))
      ? false
      : 'needs containernetworking-plugins';
type Config = Record<string, unknown>;
let sides: { host: CniHost; directory: string }[] = [];

before(async () => {
  if (skip) return;
  const hosts = [await CniHost.create(), await CniHost.create()];
  sides = [
    { host: hosts[0]!, directory: hosts[0]!.plugins },
    { host: hosts[1]!, directory: REFERENCE_PLUGINS },
  ];
  for (const { host } of sides)
    await host.sh('ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up');
});
after(async () => {
  for (const { host } of sides) await host.close();
});

const ipam = (over: Config = {}): Config => ({
  type: 'host-local',
  ranges: [[{ subnet: '10.80.0.0/24', rangeStart: '10.80.0.20', rangeEnd: '10.80.0.200' }]],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '10.81.0.0/16', gw: '10.80.0.7' }],
  ...over,
});
const DUAL = {
  ranges: [[{ subnet: '10.80.0.0/24' }], [{ subnet: 'fd80::/64' }]],
  routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
};
const STATIC = {
  type: 'static',
  addresses: [{ address: '10.80.0.9/24', gateway: '10.80.0.1' }],
  routes: [{ dst: '192.168.0.0/16' }],
};
// 1.1.1's bridge drops the dns of its IPAM, so only IPAM by itself is compared with one.
const STATIC_DNS = {
  ...STATIC,
  dns: { nameservers: ['10.80.0.1'], domain: 'a.test', search: ['b.test'], options: ['ndots:2'] },
};
const bridge = (over: Config = {}): Config => ({ type: 'bridge', bridge: 'br0', ipam: ipam(), ...over });

const CASES: [name: string, plugins: Config[], ifName?: string][] = [
  // Not before 1.0.0: 1.1.1 forgets the IP version there, and with it, at 0.2.0, the addresses.
  ['loopback', [{ type: 'loopback' }], 'lo'],
  ['bridge, plain', [bridge()]],
  ['bridge, L2 only', [bridge({ ipam: {} })]],
  ['bridge, gateway', [bridge({ isGateway: true })]],
  [
    'bridge, default gateway, hairpin, mtu',
    [bridge({ isDefaultGateway: true, hairpinMode: true, mtu: 1400, ipam: ipam({ routes: [] }) })],
  ],
  ['bridge, promiscuous', [bridge({ isGateway: true, promiscMode: true })]],
  ['bridge, two families', [bridge({ isGateway: true, ipam: ipam(DUAL) })]],
  ['bridge, static', [bridge({ ipam: STATIC, runtimeConfig: { mac: '02:00:00:00:00:11' } })]],
  ['bridge, dns of its own', [bridge({ isGateway: true, ipam: STATIC, dns: { nameservers: ['1.1.1.1'] } })]],
  ['ptp', [{ type: 'ptp', mtu: 1350, ipam: ipam({ routes: [{ dst: '0.0.0.0/0' }] }) }]],
  ['ptp, two families', [{ type: 'ptp', ipam: ipam(DUAL) }]],
  ['macvlan', [{ type: 'macvlan', master: 'm0', mtu: 1300, ipam: ipam() }]],
  ['macvlan, L2 only', [{ type: 'macvlan', master: 'm0', mode: 'private' }]],
  [
    'bridge and tuning',
    [bridge({ isGateway: true }), { type: 'tuning', mtu: 1250, sysctl: { 'net.core.somaxconn': '300' } }],
  ],
  [
    'bridge and bandwidth',
    [
      bridge({ isGateway: true }),
      {
        type: 'bandwidth',
        ingressRate: 8_000_000,
        ingressBurst: 800_000,
        egressRate: 8_000_000,
        egressBurst: 800_000,
      },
    ],
  ],
  ['host-local alone', [{ type: 'host-local', ipam: ipam() }]],
  ['static alone', [{ type: 'static', ipam: STATIC_DNS }]],
];

/** Names, MACs and paths are made up by each side; `dns: {}` is printed by 1.1.1 at 1.0.0 where later releases omit it. */
function normalise(result: Config, netns: string): unknown {
  const text = JSON.stringify(result, (key, value) =>
    key === 'mac' && value !== '00:00:00:00:00:00' && value !== '02:00:00:00:00:11' ? 'MAC' : value,
  );
  const object = JSON.parse(
    text
      .replaceAll(netns, 'NETNS')
      .replaceAll(/veth[0-9a-f]{8}/g, 'VETH')
      .replaceAll(/bwp[0-9a-f]{12}/g, 'IFB'),
  ) as Config;
  if (object.cniVersion === '1.0.0' && JSON.stringify(object.dns) === '{}') delete object.dns;
  return object;
}

/**
 * `nodad`: we do not wait for duplicate address detection. `noprefixroute`: ptp does not make the subnet's route to delete
 * it again. qlen: 1.1.1 makes pod veths with a queue of 0, later releases with the kernel's default. `proto kernel`, `pref`
 * and metrics follow from these. alias: our mark of ownership. A carrier is
 * noticed some time after it came or went, and `ip` complains of namespaces that are being deleted. Link-local addresses are random.
 */
function normaliseDump(text: string): string {
  return text
    .split('\n')
    .map(line =>
      line
        .replace(/^\d+: /, '')
        .replaceAll(/veth[0-9a-f]{8}/g, 'VETH')
        .replaceAll(/bwp[0-9a-f]{12}/g, 'IFB')
        .replaceAll(/@(if\d+|[a-z0-9]+)/g, '')
        .replaceAll(/ (nodad|noprefixroute|tentative)\b/g, '')
        .replaceAll(/ (proto kernel|pref medium|metric \d+|onlink)/g, '')
        .replaceAll(/ qlen \d+/g, '')
        .replaceAll(/NO-CARRIER,|,LOWER_UP| linkdown| state (UP|DOWN)/g, '')
        .replaceAll(/ alias podwire:\S+/g, '')
        .replaceAll(/ link-netns\S* \S+/g, '')
        .replaceAll(/tbf [0-9a-f]+:/g, 'tbf')
        .replaceAll(/burst \S+/g, 'burst')
        .replaceAll(/(link\/ether) (?!02:00:00:00:00:11)\S+/g, '$1 MAC')
        .replaceAll(/ *\\ */g, ' ')
        .replaceAll(/ +/g, ' ')
        .trim(),
    )
    .filter(line => line !== '' && !/fe80:|ff00::|multicast ff|^Error: Peer netns/.test(line))
    .sort()
    .join('\n');
}

const POD_DUMP =
  'ip -o addr; ip -o link | sed "s/valid_lft.*//"; ip route; ip -6 route; cat /proc/sys/net/core/somaxconn';
const HOST_DUMP =
  'ip -o addr; ip -o link; ip route; ip -6 route; bridge -d link | grep -o "hairpin o[nf]*"; tc qdisc show | grep tbf; cat /proc/sys/net/ipv4/ip_forward';

async function through(
  side: (typeof sides)[number],
  version: string,
  plugins: readonly Config[],
  ifName: string,
): Promise<Record<string, unknown>> {
  const { host, directory } = side;
  const netns = host.addPod();
  const states: Record<string, unknown> = {};
  const dataDir = join(host.directory, 'tuning');
  const complete = (plugin: Config, prevResult?: Config): Config => ({
    cniVersion: version,
    name: 'diff',
    dataDir,
    ...plugin,
    ...(plugin.ipam ? { ipam: { dataDir: host.dataDir, ...(plugin.ipam as Config) } } : {}),
    ...(prevResult ? { prevResult } : {}),
  });
  let result: Config | undefined;
  for (const plugin of plugins)
    result = await host.ok('ADD', { config: complete(plugin, result), netns, ifName, directory });
  states.result = normalise(result!, netns);
  states.pod = normaliseDump(await host.sh(POD_DUMP, netns));
  states.host = normaliseDump(await host.sh(HOST_DUMP));
  if (version === '0.4.0' || version === '1.0.0')
    // 1.1.1's own CHECK fails on networks without addresses; ours must not.
    for (const plugin of plugins)
      if (directory !== REFERENCE_PLUGINS)
        await host.ok('CHECK', { config: complete(plugin, result), netns, ifName, directory });
  for (const plugin of plugins.toReversed())
    await host.ok('DEL', { config: complete(plugin, result), netns, ifName, directory });
  states.podAfter = normaliseDump(await host.sh(POD_DUMP, netns));
  states.hostAfter = normaliseDump(await host.sh(HOST_DUMP));
  await host.sh(
    'ip link del br0 2>/dev/null; echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding',
  );
  host.removePod(netns);
  return states;
}

/** Where the result of a chain with these at 0.x is refused by the reference, ours is not compared. */
const needs = (plugins: readonly Config[], version: string): boolean =>
  !(plugins[0]!.type === 'loopback' && version !== '1.0.0') &&
  (version === '0.2.0' &&
    (plugins.some(one => one.type === 'bandwidth') || plugins.some(one => !hasAddress(one)))) === false;
const hasAddress = (plugin: Config): boolean =>
  ['tuning', 'bandwidth'].includes(String(plugin.type)) ||
  Boolean((plugin.ipam as Config | undefined)?.type) ||
  plugin.type === 'loopback';

for (const [name, plugins, ifName = 'eth0'] of CASES)
  for (const version of ['0.2.0', '0.3.1', '0.4.0', '1.0.0'])
    if (needs(plugins, version))
      test(`${name}, ${version}`, { skip }, async () => {
        const [ours, theirs] = [
          await through(sides[0]!, version, plugins, ifName),
          await through(sides[1]!, version, plugins, ifName),
        ];
        for (const what of Object.keys(theirs)) assert.deepEqual(ours[what], theirs[what], what);
      });
