// The plugins whose links this machine's kernel may lack, on a kernel that has them: user-mode Linux guests run the test
// files beside this one. They take 10 to 20 seconds each; the limits are for machines with more to do.
import { join } from 'node:path';
import { test } from 'node:test';
import { runTestsInUml, umlProblem } from '../../harness/uml.ts';

const MODULES = ['8021q', 'ipvlan', 'dummy', 'vrf', 'veth', 'bridge'];

for (const files of [['links.ts', 'dhcp.ts'], ['reference.ts'], ['bridge-vlan.ts']])
  test(`${files.join(', ')} in user-mode Linux`, {
    skip: umlProblem() ?? false,
    timeout: 150_000,
  }, async t => {
    const paths = files.map(file => join(import.meta.dirname, file));
    for (const result of await runTestsInUml(paths, { modules: MODULES, memoryMb: 384, timeoutMs: 110_000 }))
      await t.test(result.name, inner => {
        if (result.skipped !== undefined) inner.skip(result.skipped);
        if (result.error !== undefined) throw new Error(result.error);
      });
  });
