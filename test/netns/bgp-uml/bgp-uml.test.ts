// BGP with tunnels whose devices this machine's kernel may lack, on a kernel that has them: a user-mode Linux guest.
import { join } from 'node:path';
import { test } from 'node:test';
import { hasProgram } from '../../harness/bgp/bench-net.ts';
import { runTestsInUml, umlProblem } from '../../harness/uml.ts';

const FILES = ['ipip.ts'];
const MODULES = ['ipip', 'veth', 'bridge'];

const skip =
  umlProblem() ?? (hasProgram('/usr/bin/tcpdump') ? false : 'tcpdump is missing: apt-get install tcpdump');

test('BGP in user-mode Linux', { skip, timeout: 90_000 }, async t => {
  const files = FILES.map(file => join(import.meta.dirname, file));
  for (const result of await runTestsInUml(files, { modules: MODULES, memoryMb: 384, timeoutMs: 60_000 }))
    await t.test(result.name, inner => {
      if (result.skipped !== undefined) inner.skip(result.skipped);
      if (result.error !== undefined) throw new Error(result.error);
    });
});
