// The same host ports, masquerading and firewalls through Debian's plugins and through ours with their iptables backends, with
// iptables-nft and iptables-legacy: what the programs' `-save` shows. And pods of the one deleted and collected by
// the other. What differs on purpose is taken out by `normalise`, each with its reason; anything else fails.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CniHost, type CniRequest, REFERENCE_PLUGINS } from '../../harness/cni.ts';

const skip =
  process.getuid?.() !== 0
    ? 'needs root'
    : existsSync(join(REFERENCE_PLUGINS, 'portmap'))
      ? false
      : 'needs containernetworking-plugins';
type Config = Record<string, unknown>;
type Side = 'ours' | 'theirs';

const hosts = new Map<string, CniHost>();
before(async () => {
  if (skip) return;
  for (const variant of ['nft', 'legacy'])
    for (const side of ['ours', 'theirs']) {
      const host = await CniHost.create();
      hosts.set(`${variant} ${side}`, host);
      // The reference executes whatever `iptables` is.
      mkdirSync(programs(host));
      for (const name of ['iptables', 'ip6tables', 'iptables-save', 'ip6tables-save'])
        symlinkSync(`/usr/sbin/xtables-${variant}-multi`, join(programs(host), name));
      for (const program of ['iptables', 'ip6tables'])
        await host.sh(`${environment(host)} ${program} -A INPUT -j ACCEPT`);
    }
});
after(async () => {
  for (const host of hosts.values()) await host.close();
});

const programs = (host: CniHost): string => join(host.directory, 'bin');
const environment = (host: CniHost): string =>
  `PATH=${programs(host)}:$PATH XTABLES_LOCKFILE=${host.directory}/xtables.lock`;

function requestOf(host: CniHost, side: Side, config: Config, netns = '', id = 'pod'): CniRequest {
  return {
    config,
    netns,
    id,
    env: { PATH: `${programs(host)}:${process.env.PATH}` },
    ...(side === 'theirs' ? { directory: REFERENCE_PLUGINS } : {}),
  };
}

const bridge = (host: CniHost, over: Config = {}): Config => ({
  cniVersion: '1.0.0',
  name: 'net',
  type: 'bridge',
  bridge: 'br0',
  isGateway: true,
  ipMasq: true,
  ipMasqBackend: 'iptables',
  ipam: {
    type: 'host-local',
    dataDir: host.dataDir,
    ranges: [[{ subnet: '10.40.0.0/24' }], [{ subnet: 'fd40::/64' }]],
  },
  ...over,
});
const chained = (type: string, over: Config = {}): Config => ({
  cniVersion: '1.0.0',
  name: 'net',
  type,
  backend: 'iptables',
  ...over,
});
const ports = (portMappings: Config[]): Config => ({ runtimeConfig: { portMappings } });
const MANY = Array.from({ length: 17 }, (_, i) => ({
  hostPort: 9000 + i,
  containerPort: 80 + i,
  protocol: 'tcp',
}));
const ONE = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }];

/** ip6tables-legacy 1.8.9 says of a rule that it is there when one for another port is, so the reference loses ports. */
const MANY_PORTS = chained('portmap', ports(MANY));

const CASES: [name: string, chain: Config[], bridgeOver?: Config][] = [
  ['ipMasq', []],
  ['one port', [chained('portmap', ports(ONE))]],
  [
    'tcp, udp and sctp, one on an address, one on all of them',
    [
      chained(
        'portmap',
        ports([
          ...ONE,
          { hostPort: 53, containerPort: 5353, protocol: 'udp' },
          { hostPort: 5000, containerPort: 5000, protocol: 'sctp' },
          { hostPort: 8081, containerPort: 80, protocol: 'tcp', hostIP: '192.0.2.1' },
          { hostPort: 8082, containerPort: 80, protocol: 'tcp', hostIP: '2001:db8::1' },
          { hostPort: 8083, containerPort: 80, protocol: 'tcp', hostIP: '0.0.0.0' },
        ]),
      ),
    ],
  ],
  ['more ports than one rule takes', [MANY_PORTS]],
  ['without snat', [chained('portmap', { ...ports(ONE), snat: false })]],
  ['another mark', [chained('portmap', { ...ports(ONE), markMasqBit: 3 })]],
  [
    'conditions',
    [
      chained('portmap', {
        ...ports(ONE),
        conditionsV4: ['-s', '10.0.0.0/8', '!', '-i', 'eth9', '-m', 'conntrack', '--ctstate', 'NEW'],
        conditionsV6: ['!', '-s', 'fd00::/16'],
      }),
    ],
  ],
  ['firewall', [chained('firewall')]],
  ['firewall with another admin chain', [chained('firewall', { iptablesAdminChainName: 'ADMIN' })]],
  ['firewall, bridge kept apart', [chained('firewall', { ingressPolicy: 'same-bridge' })]],
  ['all of them', [chained('portmap', ports(ONE)), chained('firewall')], { hairpinMode: true }],
];

/**
 * Our firewall's rules carry their owner as a comment. The comments of the rules that keep bridges apart are those of later
 * releases than 1.1.1, which tell the policies apart. Chains are shown in the order in which they were made, and so are rules of
 * iptables-nft: only the rules' order within a chain means something.
 */
function normalise(saved: string): string {
  let table = '';
  return saved
    .split('\n')
    .map(line => {
      if (line.startsWith('*')) table = line.slice(1);
      return line
        .replaceAll(/\[\d+:\d+\]/g, '')
        .replaceAll(/ -m comment --comment "?podwire:net:\w+:eth0"?/g, '')
        .replaceAll(/ -m comment --comment "CNI firewall plugin rules \(ingressPolicy: [^"]*"/g, '')
        .replace(/^-A \S+|^:\S+/, start => `${table} ${start}`);
    })
    .filter(line => line !== '' && !/^#|^\*|^COMMIT/.test(line))
    .map((line, i) => [line.split(' ').slice(0, 3).join(' '), i, line] as const)
    .sort(([a, i], [b, j]) => (a < b ? -1 : a > b ? 1 : i - j))
    .map(([, , line]) => line)
    .join('\n');
}

async function dump(host: CniHost): Promise<string> {
  const texts = await Promise.all(
    ['iptables-save', 'ip6tables-save'].map(name => host.sh(`${environment(host)} ${name}`)),
  );
  return texts.map(normalise).join('\n---\n');
}

async function add(host: CniHost, side: Side, chain: Config[], over: Config, id: string, netns: string) {
  const prevResult = await host.ok('ADD', requestOf(host, side, bridge(host, over), netns, id));
  for (const config of chain)
    await host.ok('ADD', requestOf(host, side, { ...config, prevResult }, netns, id));
  return prevResult;
}

async function del(
  host: CniHost,
  side: Side,
  chain: Config[],
  over: Config,
  id: string,
  netns: string,
  prevResult: unknown,
) {
  for (const config of chain.toReversed())
    await host.ok('DEL', requestOf(host, side, { ...config, prevResult }, netns, id));
  await host.ok('DEL', requestOf(host, side, bridge(host, { ...over, prevResult }), netns, id));
}

for (const variant of ['nft', 'legacy'] as const)
  for (const [name, chain, over = {}] of CASES)
    test(`${variant}: ${name}`, { skip }, async () => {
      const states: Record<Side, string[]> = { ours: [], theirs: [] };
      for (const side of ['ours', 'theirs'] as const) {
        const host = hosts.get(`${variant} ${side}`)!;
        const pods = ['one', 'two'].map(id => ({
          id,
          netns: host.addPod(),
          prevResult: undefined as unknown,
        }));
        for (const [i, pod] of pods.entries()) {
          // Two pods cannot have the same port.
          const own = i === 0 ? chain : chain.filter(config => config.type !== 'portmap');
          pod.prevResult = await add(host, side, own, over, pod.id, pod.netns);
          states[side].push(await dump(host));
        }
        for (const [i, pod] of pods.entries()) {
          const own = i === 0 ? chain : chain.filter(config => config.type !== 'portmap');
          await del(host, side, own, over, pod.id, pod.netns, pod.prevResult);
          states[side].push(await dump(host));
        }
        await flush(host);
      }
      const compared = (state: string | undefined): string | undefined =>
        variant === 'legacy' && chain.some(config => config === MANY_PORTS) ? state?.split('---')[0] : state;
      for (const [i, when] of ['first ADD', 'second ADD', 'first DEL', 'second DEL'].entries())
        assert.equal(compared(states.ours[i]), compared(states.theirs[i]), when);
    });

/** The next case begins with nothing. */
async function flush(host: CniHost): Promise<void> {
  const tables = ['iptables', 'ip6tables'].flatMap(program =>
    ['filter', 'nat'].map(table => `${program} -t ${table} -F; ${program} -t ${table} -X`),
  );
  const again = ['iptables', 'ip6tables'].map(program => `${program} -A INPUT -j ACCEPT`);
  const variables = environment(host);
  await host.sh(
    `export ${variables}; ${[...tables, ...again].join('; ')}; ip link del br0; rm -rf ${host.dataDir}`,
  );
}

const ALL = [chained('portmap', ports(ONE)), chained('firewall')];

for (const variant of ['nft', 'legacy'] as const)
  for (const [first, second] of [
    ['theirs', 'ours'],
    ['ours', 'theirs'],
  ] as const)
    test(`${variant}: a pod that ${first} added is deleted by ${second}`, { skip }, async () => {
      const host = hosts.get(`${variant} ours`)!;
      await flush(host);
      const netns = host.addPod();
      const prevResult = await add(host, first, ALL, {}, 'moved', netns);
      const podRules = /net\\?"? id|CNI-DN-|10\.40\.0\.\d+\/32|fd40::\w+\/128/;
      assert.match(await dump(host), podRules);
      await del(host, second, ALL, {}, 'moved', netns, prevResult);
      // The reference does not know our firewall's rules, which say whose they are.
      if (second === 'theirs')
        await host.ok('DEL', requestOf(host, 'ours', chained('firewall'), '', 'moved'));
      assert.doesNotMatch(await dump(host), podRules);
    });

for (const variant of ['nft', 'legacy'] as const)
  test(`${variant}: GC collects what the reference left of pods that are no more`, { skip }, async () => {
    const host = hosts.get(`${variant} ours`)!;
    await flush(host);
    const chain = [chained('portmap', ports(ONE))];
    const other = [chained('portmap', ports([{ hostPort: 8090, containerPort: 80, protocol: 'tcp' }]))];
    await add(host, 'theirs', chain, {}, 'lost', host.addPod());
    await add(host, 'theirs', other, {}, 'kept', host.addPod());
    const collect = (ids: string[]) => {
      const valid = {
        cniVersion: '1.1.0',
        'cni.dev/valid-attachments': ids.map(containerID => ({ containerID, ifname: 'eth0' })),
      };
      // The backends that are configured now do not matter.
      return Promise.all(
        [
          bridge(host, { ...valid, ipMasqBackend: 'nftables' }),
          chained('portmap', { ...valid, backend: 'nftables' }),
        ].map(config => host.ok('GC', requestOf(host, 'ours', config))),
      );
    };
    const before = await dump(host);
    await collect(['lost', 'kept']);
    assert.equal(await dump(host), before);
    await collect(['kept']);
    const after = await dump(host);
    assert.doesNotMatch(after, /lost|8080/);
    assert.match(after, /kept[\s\S]*8090/);
    await collect([]);
    assert.doesNotMatch(await dump(host), /id: \\"|CNI-DN|CNI-[0-9a-f]{24}/);
  });
