// Rules compared at an interval of their own: legacy tables tell of no change that keeps their number and size.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelReconciler, type Repair } from '../../../src/kernel/reconciler.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { NetnsLab, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';

const WITHIN_MS = 3000;

test('two rules that changed places are mended at the next comparison', {
  skip: SKIP_UNLESS_ROOT,
  timeout: 30_000,
}, async t => {
  const lab = new NetnsLab('kri');
  t.after(() => lab.close());
  const host = lab.namespace('h');
  const repairs: Repair[] = [];
  const reconciler = new KernelReconciler({
    netns: host.netns,
    lockDirectory: lab.directory,
    iptablesBackend: 'legacy',
    log: silentLogger(),
    verifyIntervalMs: 600_000,
    xtablesIntervalMs: 300,
    onRepair: repair => repairs.push(repair),
  });
  t.after(() => reconciler.stop());
  const rules = ['-s 10.0.0.0/24 -j ACCEPT', '-s 10.0.1.0/24 -j ACCEPT'];
  reconciler.setDesired('overlay', {
    xtables: [{ family: 4, table: 'filter', chains: [{ name: 'OURS', rules }], jumps: [] }],
  });
  await reconciler.start();
  await reconciler.settled();
  const listed = async (): Promise<string[]> => {
    const { stdout } = await host.run('iptables-legacy-save', ['-t', 'filter']);
    return stdout.split('\n').flatMap(line => (line.startsWith('-A OURS ') ? line.slice(8) : []));
  };
  assert.deepEqual(await listed(), rules);
  const swapped = `*filter\n-F OURS\n${rules
    .toReversed()
    .map(rule => `-A OURS ${rule}\n`)
    .join('')}COMMIT\n`;
  const { code, stderr } = await host.run('iptables-legacy-restore', ['--noflush'], swapped);
  assert.equal(code, 0, stderr);
  assert.deepEqual(await listed(), rules.toReversed());
  const from = performance.now();
  while ((await listed())[0] !== rules[0]) {
    assert.ok(performance.now() - from < WITHIN_MS, 'not mended');
    await sleep(50);
  }
  assert.deepEqual(
    repairs.map(({ kind, key }) => `${kind} ${key}`),
    ['chain 4 filter OURS'],
  );
});
