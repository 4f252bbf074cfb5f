// BGP with tunnels whose devices this machine's kernel may lack, on a kernel that has them: a user-mode Linux guest.
import { join } from 'node:path';
import { test } from 'node:test';
import { hasProgram } from '../../harness/bgp/bench-net.ts';
import { runTestsInUml, umlProblem } from '../../harness/uml.ts';

const FILES = ['ipip.ts', 'agent-ipip.ts'];
const MODULES = [
  ...['ipip', 'veth', 'bridge', 'vxlan', 'ipv6'],
  ...['iptable_filter', 'iptable_nat', 'ip6table_filter', 'ip6table_nat'],
  ...['xt_comment', 'xt_mark', 'xt_MASQUERADE', 'xt_conntrack'],
];

const skip =
  umlProblem() ?? (hasProgram('/usr/bin/tcpdump') ? false : 'tcpdump is missing: apt-get install tcpdump');

test('BGP in user-mode Linux', { skip, timeout: 180_000 }, async t => {
  const files = FILES.map(file => join(import.meta.dirname, file));
  for (const result of await runTestsInUml(files, { modules: MODULES, memoryMb: 512, timeoutMs: 140_000 }))
    await t.test(result.name, inner => {
      if (result.skipped !== undefined) inner.skip(result.skipped);
      if (result.error !== undefined) throw new Error(result.error);
    });
});
