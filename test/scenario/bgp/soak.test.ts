// A short run of the soak; `sh scripts/run.sh test/scenario/bgp/soak.ts 600` is the long one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { soak } from './soak.ts';

test('a mesh under session kills, link cuts, restarts and changes loses no route for good', {
  skip: SKIP_UNLESS_ROOT,
  timeout: 150_000,
}, async t => {
  const seed = Date.now() % 2147483646;
  t.diagnostic(`seed ${seed}`);
  const rounds = await soak(20, seed);
  const [first] = rounds;
  const last = rounds.at(-1)!;
  // Connections that are half open come and go with the moment; what leaks grows by every round.
  assert.ok(
    last.descriptors <= first!.descriptors + 12,
    `${first!.descriptors} → ${last.descriptors} descriptors`,
  );
  // Four run here; one stopped a moment ago may still be on its way out.
  assert.ok(last.speakers <= 6, `${last.speakers} speakers are alive`);
  assert.ok(last.heapMb <= first!.heapMb + 4, `${first!.heapMb} → ${last.heapMb} MB`);
});
