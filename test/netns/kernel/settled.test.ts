// What one room cannot have must not keep the others waiting.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import { createNetns, deleteNetns, Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const NAME = `pwt-kernel-settled-${process.pid}`;
let netns: Netns;
let reconciler: KernelReconciler;

before(async () => {
  if (skip) return;
  netns = Netns.open(createNetns(NAME));
  reconciler = new KernelReconciler({ netns, rooms: ['overlay', 'dns'], log: silentLogger() });
  await reconciler.start();
});

after(async () => {
  if (skip) return;
  await reconciler.stop();
  netns.close();
  deleteNetns(NAME);
});

test('a failure of one room rejects for that room and for all, not for another', { skip }, async () => {
  reconciler.setDesired('dns', { addresses: [{ link: 'nowhere', address: '10.0.0.1/32' }] });
  reconciler.setDesired('overlay', { links: [{ name: 'lo', kind: 'existing', up: true }] });
  await reconciler.settled('overlay');
  await assert.rejects(reconciler.settled('dns'), { code: 'ENODEV' });
  await assert.rejects(reconciler.settled(), { code: 'ENODEV' });
  reconciler.setDesired('dns', { addresses: [{ link: 'lo', address: '10.0.0.1/32' }] });
  await reconciler.settled('dns');
});

test('what nobody will apply any more rejects', { skip }, async () => {
  const other = new KernelReconciler({ netns, rooms: ['overlay'], log: silentLogger() });
  await other.start();
  const waiting = assert.rejects(
    (() => {
      other.setDesired('overlay', { links: [{ name: 'lo', kind: 'existing', up: true }] });
      return other.settled();
    })(),
    { code: 'STOPPED' },
  );
  await other.stop();
  await assert.rejects(other.settled(), { code: 'STOPPED' });
  await waiting;
});
