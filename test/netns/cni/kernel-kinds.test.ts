// Links that this machine's kernel may lack: the refusal says which module is missing, and nothing is left behind.
// The plugins at work are tested in test/netns/cni-uml.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { type OptionalKind, requireKind } from '../../../cni/link/kernel-kind.ts';
import { errorMessage } from '../../../src/lib/errors.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { DirectCniHost } from '../../harness/cni-direct.ts';

const root = process.getuid?.() === 0;
let host: DirectCniHost;
before(() => {
  if (root) host = new DirectCniHost();
});
after(() => host?.close());

const KINDS: [kind: OptionalKind, module: string, config: Record<string, unknown>][] = [
  ['vlan', '8021q', { master: 'lo', vlanId: 5 }],
  ['ipvlan', 'ipvlan', { master: 'lo' }],
  ['dummy', 'dummy', {}],
  ['vrf', 'vrf', { vrfname: 'blue' }],
];

function supported(kind: OptionalKind): boolean {
  using net = Rtnetlink.open(host.netns);
  try {
    requireKind(net, kind);
    return true;
  } catch (error) {
    assert.match(errorMessage(error), /modprobe/);
    return false;
  }
}

for (const [kind, module, fields] of KINDS)
  test(`${kind}: without kernel support ADD and STATUS name the module, and leave nothing`, {
    skip: !root && 'needs root',
  }, async t => {
    if (supported(kind)) return t.skip(`this kernel has ${kind} links`);
    const netns = host.addPod();
    const ipam = { type: 'host-local', dataDir: host.dataDir, subnet: '10.55.0.0/24' };
    const prevResult = { cniVersion: '1.1.0', interfaces: [{ name: 'lo', sandbox: netns }], ips: [] };
    const config = {
      ...{ cniVersion: '1.1.0', name: 'nokind', type: kind, ipam },
      ...(kind === 'vrf' ? { prevResult } : {}),
      ...fields,
    };
    for (const command of ['ADD', 'STATUS']) {
      const { json, stdout } = await host.run(command, {
        config,
        netns,
        ifName: kind === 'vrf' ? 'lo' : 'eth0',
      });
      assert.equal(json.code, 50, stdout);
      assert.match(String(json.msg), new RegExp(`no ${kind} links; load its module: modprobe ${module}`));
    }
    assert.deepEqual(
      readdirSync(host.directory).filter(name => name === 'ipam'),
      [],
      'no address was taken',
    );
    await host.ok('DEL', { config, netns });
  });
