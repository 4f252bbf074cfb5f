// The user-mode Linux harness itself: exit code, output, modules, time limit, a network with the host.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { run } from '../../../src/linux/exec.ts';
import { createNetns, deleteNetns, Netns } from '../../../src/linux/netns.ts';
import { runInUml, umlProblem } from '../../harness/uml.ts';

const skip = umlProblem() ?? false;
const NAME = `pwt-uml-${process.pid}`;
let netnsPath = '';

before(() => {
  if (skip === false) netnsPath = createNetns(NAME);
});
after(() => {
  if (netnsPath !== '') deleteNetns(NAME);
});

test('a guest has the modules asked for, this tree, and a network with the host', { skip }, async () => {
  using netns = Netns.open(netnsPath);
  await run(
    '/bin/sh',
    ['-c', 'ip tuntap add t0 mode tap; ip addr add 10.99.0.254/24 dev t0; ip link set t0 up'],
    {
      netns,
    },
  );
  const { code, output } = await runInUml({
    modules: ['ipip'],
    tap: { name: 't0', netnsPath },
    script: `
      ip addr add 10.99.0.1/24 dev vec0; ip link set vec0 up
      for i in 1 2 3 4 5 6 7 8; do busybox ping -c 1 -W 1 10.99.0.254 >/dev/null && echo host answers && break; done
      ip link show tunl0 >/dev/null && echo ipip
      test -f '${import.meta.filename}' && echo tree
      touch /run/tmp/x && echo writable: $TMPDIR
      touch '${import.meta.dirname}/x' 2>/dev/null || echo the host is read-only
      exit 7`,
  });
  assert.deepEqual(
    { code, lines: output.trim().split('\n') },
    {
      code: 7,
      lines: ['host answers', 'ipip', 'tree', 'writable: /run/tmp', 'the host is read-only'],
    },
  );
});

test('a script that does not end is ended; an unknown module is an error', { skip }, async () => {
  const { code, output } = await runInUml({ script: 'echo begun; sleep 60', timeoutMs: 1000 });
  assert.deepEqual({ code, output: output.trim() }, { code: 124, output: 'begun' });
  await assert.rejects(
    runInUml({ script: 'true', modules: ['no-such-module'] }),
    /has no module no-such-module/,
  );
});
