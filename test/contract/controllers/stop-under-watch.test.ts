// A server that stops while somebody watches and somebody writes: nothing is thrown, the watcher comes back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Informer } from '../../../src/client/informer.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { startControlPlane } from '../../harness/control-plane.ts';

test('stops and starts under watches and writes, five times', async () => {
  const plane = await startControlPlane();
  const seen = new Informer(plane.admin, RESOURCE.configMaps);
  seen.start();
  let writing = true;
  const written: string[] = [];
  const writer = async (name: string): Promise<void> => {
    for (let i = 0; writing; i++) {
      const options = { namespace: 'default', retries: 0 };
      await plane.controllers
        .create(RESOURCE.configMaps, { metadata: { name: `${name}-${i}` } }, 'default', options)
        .then(
          () => written.push(`${name}-${i}`),
          () => new Promise(resolve => setTimeout(resolve, 5)),
        );
    }
  };
  const writers = ['a', 'b', 'c', 'd'].map(writer);
  for (let round = 0; round < 5; round++) {
    await new Promise(resolve => setTimeout(resolve, 150));
    await plane.restart();
  }
  writing = false;
  await Promise.all(writers);
  const deadline = Date.now() + 10_000;
  const missing = (): string[] => written.filter(name => !seen.get(name, 'default'));
  while (missing().length > 0 && Date.now() < deadline) await new Promise(resolve => setTimeout(resolve, 20));
  assert.deepEqual(missing(), []);
  assert.ok(written.length > 20, `${written.length} objects were written`);
  await seen.stop();
  await plane.stop();
});
