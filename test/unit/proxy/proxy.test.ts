import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceProxy, type ServiceProxyOptions, type SyncResult } from '../../../proxy/proxy.ts';
import { type LimiterClock, SyncLimiter } from '../../../proxy/sync-limiter.ts';
import type { KernelState } from '../../../src/kernel/state.ts';
import { endpoint, service, slice } from './object-fixtures.ts';

const PORTS = [{ name: 'p80', port: 80 }];

function setUp(options: Partial<ServiceProxyOptions> = {}) {
  const states: KernelState[] = [];
  const results: SyncResult[] = [];
  const proxy = new ServiceProxy({
    nodeName: 'here',
    families: [4],
    setDesired: state => states.push(state),
    onSynced: result => results.push(result),
    ...options,
  });
  return { proxy, states, results };
}

test('nothing is written before both lists are there; then at once', async () => {
  const { proxy, states } = setUp({ minSyncPeriodMs: 3_600_000 });
  proxy.upsertService(service('a/s', { clusterIP: '10.96.0.1', ports: PORTS }));
  proxy.setServices([service('a/s', { clusterIP: '10.96.0.1', ports: PORTS })]);
  await sleep(20);
  assert.equal(states.length, 0);
  assert.equal(proxy.ready, false);
  proxy.setEndpointSlices([slice('a/s', [endpoint('10.1.0.1')])]);
  await proxy.settled();
  assert.equal(states.length, 1);
  assert.equal(proxy.ready, true);
  proxy.stop();
});

test('changes reach the state; changes that mean nothing do not', async () => {
  const { proxy, states, results } = setUp();
  proxy.setServices([]);
  proxy.setEndpointSlices([]);
  await proxy.settled();
  assert.equal(states.length, 1);
  proxy.upsertService(service('a/s', { clusterIP: '10.96.0.1', ports: PORTS }));
  proxy.upsertEndpointSlice(slice('a/s', [endpoint('10.1.0.1')]));
  await proxy.settled();
  assert.equal(states.length, 2);
  proxy.upsertService(service('a/s', { clusterIP: '10.96.0.1', ports: PORTS, labels: { any: 'label' } }));
  await proxy.settled();
  assert.equal(states.length, 2);
  proxy.setServices([]);
  await proxy.settled();
  assert.equal(states.length, 3);
  assert.deepEqual(states[2], states[0]);
  assert.deepEqual(
    results.map(result => [result.full, result.changedPorts]),
    [
      [true, 0],
      [false, 1],
      [false, 0],
      [false, 1],
    ],
  );
  proxy.stop();
});

test('a sync that failed is tried again, whole', async () => {
  let failures = 1;
  const { proxy, states, results } = setUp({
    settled: async () => {
      if (failures-- > 0) throw new Error('xtables lock');
    },
  });
  proxy.setServices([]);
  proxy.setEndpointSlices([]);
  await sleep(50);
  assert.equal(proxy.ready, false);
  await proxy.settled();
  assert.equal(states.length, 2);
  assert.deepEqual(
    results.map(result => result.full),
    [true],
  );
  proxy.stop();
});

/** A clock that moves only when told. */
class TestClock implements LimiterClock {
  time = 0;
  timers: { at: number; fn: () => void }[] = [];
  now(): number {
    return this.time;
  }
  setTimer(fn: () => void, ms: number): { cancel(): void } {
    const timer = { at: this.time + ms, fn };
    this.timers.push(timer);
    return { cancel: () => void this.timers.splice(this.timers.indexOf(timer), 1) };
  }
  async advance(ms: number): Promise<void> {
    this.time += ms;
    const due = this.timers.filter(timer => timer.at <= this.time);
    this.timers = this.timers.filter(timer => timer.at > this.time);
    for (const { fn } of due) fn();
    await sleep(0);
  }
}

test('a minimum interval: two at once, then one an interval', async () => {
  const clock = new TestClock();
  const runs: number[] = [];
  const limiter = new SyncLimiter(async () => void runs.push(clock.time), 1000, clock);
  for (let n = 0; n < 40; n++) {
    limiter.request();
    await clock.advance(100);
  }
  assert.deepEqual(runs.slice(0, 4), [100, 200, 1000, 2000]);
  limiter.stop();
});

test('without an interval: a pause as long as the last sync, never over a second', async () => {
  const clock = new TestClock();
  const runs: number[] = [];
  const limiter = new SyncLimiter(
    async () => {
      runs.push(clock.time);
      clock.time += 300;
    },
    undefined,
    clock,
  );
  limiter.request();
  await clock.advance(0);
  limiter.request();
  await clock.advance(100);
  assert.deepEqual(runs, [0]);
  await clock.advance(200);
  assert.deepEqual(runs, [0, 600]);
  limiter.stop();
});
