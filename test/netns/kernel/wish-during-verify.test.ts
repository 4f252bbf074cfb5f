// A wish that changes while the kernel is being compared is no drift: nothing was mended, and nobody is told of a repair.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { KernelReconciler, type Repair } from '../../../src/kernel/reconciler.ts';
import type { KernelState } from '../../../src/kernel/state.ts';
import { createNetns, deleteNetns, Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const NAME = `pwt-kernel-wish-${process.pid}`;
const ROUNDS = 10;
const repairs: Repair[] = [];
let netns: Netns;
let reconciler: KernelReconciler;

before(async () => {
  if (skip) return;
  netns = Netns.open(createNetns(NAME));
  reconciler = new KernelReconciler({
    netns,
    rooms: ['proxy'],
    iptablesBackend: 'nft',
    log: silentLogger(),
    onRepair: repair => repairs.push(repair),
  });
  await reconciler.start();
});

after(async () => {
  if (skip) return;
  await reconciler.stop();
  netns.close();
  deleteNetns(NAME);
});

const wish = (n: number): KernelState => ({
  addresses: [{ link: 'lo', address: `10.0.0.${n}/32` }],
  xtables: [
    {
      family: 4,
      table: 'nat',
      ownedPrefixes: ['PWT-'],
      chains: [
        { name: 'PWT-ALWAYS', rules: [`-d 10.1.0.${n}/32 -j PWT-${n}`] },
        { name: `PWT-${n}`, rules: ['-j RETURN'] },
      ],
      jumps: [],
    },
  ],
});

test('no repair is reported for what was asked for meanwhile', { skip }, async () => {
  reconciler.setDesired('proxy', wish(1));
  await reconciler.settled();
  for (let n = 2; n < 2 + ROUNDS; n++) {
    const verified = reconciler.verify();
    // The dump of the chains takes a program's start: this falls into it.
    await new Promise(resolve => setTimeout(resolve, n));
    reconciler.setDesired('proxy', wish(n));
    assert.deepEqual(await verified, []);
    await reconciler.settled();
    assert.deepEqual(await reconciler.diff(), []);
  }
  assert.deepEqual(repairs, []);
});
