// The plugins whose links this machine's kernel may lack, on a kernel that has them: one user-mode Linux guest runs the
// test files beside this one.
import { join } from 'node:path';
import { test } from 'node:test';
import { runTestsInUml, umlProblem } from '../../harness/uml.ts';

const FILES = ['links.ts', 'dhcp.ts'];
const MODULES = ['8021q', 'ipvlan', 'dummy', 'vrf', 'veth', 'bridge'];

test('CNI plugins in user-mode Linux', { skip: umlProblem() ?? false, timeout: 90_000 }, async t => {
  const files = FILES.map(file => join(import.meta.dirname, file));
  for (const result of await runTestsInUml(files, { modules: MODULES, memoryMb: 384 }))
    await t.test(result.name, inner => {
      if (result.skipped !== undefined) inner.skip(result.skipped);
      if (result.error !== undefined) throw new Error(result.error);
    });
});
