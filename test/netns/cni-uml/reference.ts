// Runs inside the guest that plugins.test.ts boots: the same configurations through Debian's plugins and through ours.
// Results and dumps must be the same but for what `normalise` takes out, each with its reason.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../../../src/linux/exec.ts';
import { REFERENCE_PLUGINS } from '../../harness/cni.ts';
import { DirectCniHost } from '../../harness/cni-direct.ts';

type Config = Record<string, unknown>;
type Side = (command: string, plugin: string, config: Config, netns: string) => Promise<Config>;

const skip = existsSync(join(REFERENCE_PLUGINS, 'vlan')) ? false : 'needs containernetworking-plugins';
let host: DirectCniHost;
let sides: { ours: Side; reference: Side };

before(async () => {
  if (skip !== false) return;
  host = new DirectCniHost();
  await host.sh('ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up');
  sides = {
    ours: (command, _, config, netns) => host.ok(command, { config, netns }),
    reference: async (command, plugin, config, netns) => {
      const { stdout, stderr, code } = await run(join(REFERENCE_PLUGINS, plugin), [], {
        netns: host.netns,
        input: JSON.stringify(config),
        env: {
          ...{ CNI_COMMAND: command, CNI_CONTAINERID: 'c1', CNI_IFNAME: 'eth0' },
          ...{ CNI_NETNS: netns, CNI_PATH: REFERENCE_PLUGINS },
        },
      });
      assert.equal(code, 0, stdout + stderr);
      return stdout === '' ? {} : JSON.parse(stdout);
    },
  };
});
after(() => host?.close());

const ONE = {
  addresses: [{ address: '10.80.0.9/24', gateway: '10.80.0.1' }],
  routes: [{ dst: '0.0.0.0/0' }],
};
const TWO = {
  addresses: [...ONE.addresses, { address: 'fd80::9/64', gateway: 'fd80::1' }],
  routes: [{ dst: '10.81.0.0/16', gw: '10.80.0.7' }, { dst: 'fd81::/64' }],
};

const CASES: [name: string, plugins: Config[]][] = [
  ['vlan, mtu, two families', [{ type: 'vlan', master: 'm0', vlanId: 0, mtu: 1400, ipam: TWO }]],
  ['ipvlan, two families', [{ type: 'ipvlan', master: 'm0', ipam: TWO }]],
  ['ipvlan l3s, mtu', [{ type: 'ipvlan', master: 'm0', mode: 'l3s', mtu: 1300, ipam: ONE }]],
  [
    'vlan and vrf',
    [
      { type: 'vlan', master: 'm0', vlanId: 6, ipam: { addresses: [...TWO.addresses] } },
      { type: 'vrf', vrfname: 'blue', table: 9 },
    ],
  ],
];

/** Paths and MACs are each side's own; `dns: {}` is printed by 1.1.1 at 1.0.0, where later releases omit it. */
function normaliseResult(result: Config, netns: string): Config {
  const text = JSON.stringify(result, (key, value) => (key === 'mac' ? 'MAC' : value)).replaceAll(
    netns,
    'NETNS',
  );
  const object = JSON.parse(text) as Config;
  if (JSON.stringify(object.dns) === '{}') delete object.dns;
  return object;
}

/**
 * Indexes, MACs and namespace numbers are made up. `nodad`: we do not wait for duplicate address detection, and the
 * reference waits until it is over. qlen: 1.1.1 makes links with a queue of 0, later releases with the kernel's default.
 * Link-local addresses are random. A local IPv6 route comes with the end of address detection.
 */
function normaliseDump(text: string): string {
  return text
    .split('\n')
    .map(line =>
      line
        .replace(/^\d+: /, '')
        .replaceAll(/@\w+/g, '')
        .replaceAll(/ (nodad|tentative|pref medium|metric \d+|qlen \d+)/g, '')
        .replaceAll(/NO-CARRIER,|,LOWER_UP|,M-DOWN| linkdown| state (UP|DOWN|UNKNOWN|LOWERLAYERDOWN)/g, '')
        .replaceAll(/ link-netns(id)? \S+/g, '')
        .replaceAll(/(link\/ether) \S+/g, '$1 MAC')
        .replaceAll(/[\\ ]+/g, ' ')
        .trim(),
    )
    .filter(line => line !== '' && !/fe80:|ff00::|multicast ff|^local fd/.test(line))
    .sort()
    .join('\n');
}

async function attach(side: Side, plugins: readonly Config[]): Promise<Record<string, unknown>> {
  const netns = host.addPod();
  await host.sh('ip link set lo up', netns);
  let prevResult: Config | undefined;
  const netconf = (plugin: Config): Config => ({
    ...{ cniVersion: '1.0.0', name: 'diff', ...plugin },
    ...(plugin.ipam === undefined ? {} : { ipam: { type: 'static', ...(plugin.ipam as Config) } }),
    ...(prevResult === undefined ? {} : { prevResult }),
  });
  try {
    for (const plugin of plugins) prevResult = await side('ADD', String(plugin.type), netconf(plugin), netns);
    const dump = await host.sh(
      'ip -d -o link; ip -o addr; ip route show table all; ip -6 route show table all; ip rule',
      netns,
    );
    return { result: normaliseResult(prevResult ?? {}, netns), dump: normaliseDump(dump) };
  } finally {
    for (const plugin of [...plugins].reverse())
      await side('DEL', String(plugin.type), netconf(plugin), netns);
    assert.equal(
      normaliseDump(await host.sh('ip -br link show type vlan; ip -br link show type ipvlan', netns)),
      '',
    );
  }
}

for (const [name, plugins] of CASES)
  test(`as the reference: ${name}`, { skip }, async () => {
    assert.deepEqual(await attach(sides.ours, plugins), await attach(sides.reference, plugins));
  });
