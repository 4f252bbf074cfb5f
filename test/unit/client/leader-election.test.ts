// Never two leaders; the next one takes over when the first goes or dies.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LeaderElection } from '../../../src/client/leader-election.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { eventually, FakeApi } from '../../harness/fake-api.ts';

const FAST = { name: 'lead', leaseDurationMs: 1_500, renewDeadlineMs: 200, retryPeriodMs: 20 };

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }));
}

test('one leads, the other follows when the first lets go', async () => {
  const api = new FakeApi();
  const leading = new Set<string>();
  const stops = new Map<string, AbortController>();
  const runs = ['a', 'b'].map(identity => {
    const stop = new AbortController();
    stops.set(identity, stop);
    const election = new LeaderElection({ client: api.client(), identity, ...FAST });
    return election.run(async signal => {
      leading.add(identity);
      assert.equal(leading.size, 1);
      await untilAborted(signal);
      leading.delete(identity);
    }, stop.signal);
  });
  const first = await eventually(() => [...leading][0], 'a leader');
  stops.get(first)?.abort();
  await eventually(() => leading.size === 1 && !leading.has(first), 'the other leads');
  for (const stop of stops.values()) stop.abort();
  await Promise.all(runs);
  assert.equal(api.find(RESOURCE.leases, 'lead', 'kube-system')?.spec?.holderIdentity, '');
});

test('a leader that cannot renew stops leading before the lease runs out', async () => {
  const api = new FakeApi();
  const stop = new AbortController();
  let lostAt = 0;
  const election = new LeaderElection({ client: api.client(), identity: 'a', ...FAST });
  const run = election.run(async signal => {
    api.intercept = () => {
      throw Object.assign(new Error('away'), { code: 'ECONNREFUSED' });
    };
    const since = Date.now();
    await untilAborted(signal);
    lostAt = Date.now() - since;
  }, stop.signal);
  await run;
  assert.ok(lostAt >= 200 && lostAt < 1_500, `lost after ${lostAt} ms`);
});
