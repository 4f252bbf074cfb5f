// Backends whose devices this machine's kernel may lack, on a kernel that has them: a user-mode Linux guest.
import { join } from 'node:path';
import { test } from 'node:test';
import { runTestsInUml, umlProblem } from '../../harness/uml.ts';

const FILES = ['ipip.ts'];
const MODULES = ['ipip', 'veth', 'bridge'];

test('overlay backends in user-mode Linux', { skip: umlProblem() ?? false, timeout: 120_000 }, async t => {
  const files = FILES.map(file => join(import.meta.dirname, file));
  for (const result of await runTestsInUml(files, { modules: MODULES, memoryMb: 384, timeoutMs: 90_000 }))
    await t.test(result.name, inner => {
      if (result.skipped !== undefined) inner.skip(result.skipped);
      if (result.error !== undefined) throw new Error(result.error);
    });
});
