// Logs, health and metrics as other programs read them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwireError } from '../../../src/lib/errors.ts';
import { Health } from '../../../src/observe/health.ts';
import { createLogger } from '../../../src/observe/log.ts';
import { Counter, createRegistry } from '../../../src/observe/metrics.ts';

test('one JSON object a line, with component, level by name, and an error with its cause', () => {
  const lines: string[] = [];
  const log = createLogger({
    component: 'test',
    level: 'info',
    destination: { write: line => void lines.push(line) },
  });
  const error = new PodwireError('BROKEN', 'it broke', { cause: new PodwireError('DEEP', 'because') });
  log.info({ error }, 'hello');
  log.debug('not shown');
  assert.equal(lines.length, 1);
  const line = JSON.parse(lines[0] ?? '');
  assert.deepEqual([line.component, line.level, line.msg], ['test', 'info', 'hello']);
  assert.deepEqual(line.error, {
    type: 'PodwireError',
    message: 'it broke',
    code: 'BROKEN',
    cause: { type: 'PodwireError', message: 'because', code: 'DEEP' },
  });
  assert.ok(!Number.isNaN(Date.parse(line.time)));
});

test('readiness may fail where liveness does not', async () => {
  const health = new Health();
  health.add('store', () => undefined);
  health.add('sync', () => 'not yet', true);
  assert.deepEqual(await health.report('livez'), {
    ok: true,
    text: '[+]ping ok\n[+]store ok\nlivez check passed\n',
  });
  const ready = await health.report('readyz');
  assert.equal(ready.ok, false);
  assert.match(ready.text, /\[-\]sync failed: not yet/);
});

test('a registry of its own for each process', async () => {
  const registry = createRegistry({ labels: { node: 'a' } });
  new Counter({ name: 'x_total', help: 'x', registers: [registry] }).inc();
  assert.match(await registry.metrics(), /x_total\{node="a"\} 1/);
});
