// A link that goes down takes its routes along, IPv4 ones without a notification; also those that name only a gateway.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { NetnsLab, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';

const DESTINATION = '10.70.0.0/24';

async function soon(done: () => boolean): Promise<number> {
  const from = performance.now();
  while (!done()) {
    assert.ok(performance.now() - from < 5000, 'not within five seconds');
    await new Promise(resolve => setTimeout(resolve, 10));
  }
  return performance.now() - from;
}

for (const named of [false, true])
  test(`a route by gateway ${named ? 'and link' : 'alone'} is back as soon as its link is`, {
    skip: SKIP_UNLESS_ROOT,
  }, async () => {
    const lab = new NetnsLab('down');
    const host = lab.namespace('h');
    lab.wire(host, 'eth0', lab.namespace('r'), 'eth0');
    host.address('eth0', '10.69.0.1/24');
    const reconciler = new KernelReconciler({ netns: host.netns, log: silentLogger() });
    try {
      await reconciler.start();
      reconciler.setDesired('bgp', {
        routes: [
          {
            ...{ destination: DESTINATION, gateway: '10.69.0.2', protocol: 214, metric: 1024 },
            ...(named ? { link: 'eth0' } : {}),
          },
        ],
      });
      await reconciler.settled();
      const there = (): boolean => host.rt.listRoutes({ protocol: 214 }).length === 1;
      assert.ok(there());
      host.rt.setLink('eth0', { up: false });
      assert.ok(!there());
      // Long enough for retries to have become rare.
      await new Promise(resolve => setTimeout(resolve, 2000));
      host.rt.setLink('eth0', { up: true });
      assert.ok((await soon(there)) < 700);
      host.rt.delAddress({ link: 'eth0', address: '10.69.0.1/24' });
      assert.ok(!there());
      await new Promise(resolve => setTimeout(resolve, 500));
      host.address('eth0', '10.69.0.1/24');
      assert.ok((await soon(there)) < 700);
    } finally {
      await reconciler.stop();
      lab.close();
    }
  });
