// A short run of the soak; `sh scripts/run.sh test/scenario/proxy/soak.ts 3600` is the long one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { soak } from './soak.ts';

test('kube-proxy under changes: each arrives, nothing is "mended", no sync fails', {
  skip: SKIP_UNLESS_ROOT,
  timeout: 150_000,
}, async t => {
  const seed = Date.now() % 2147483646;
  t.diagnostic(`seed ${seed}`);
  const runs = await soak({ seconds: 25, services: 60, changesPerSecond: 3, seed });
  for (const [mode, samples] of runs) {
    const last = samples.at(-1)!;
    assert.ok(last.changes > 20, `${mode}: only ${last.changes} changes`);
    assert.equal(last.repairs, 0, mode);
    assert.equal(last.failures, 0, mode);
  }
});
