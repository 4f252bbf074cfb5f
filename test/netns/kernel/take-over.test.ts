// What a predecessor left under our names: taken over when it is as wanted, left alone when it is somebody else's.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import { type KernelState, ROUTE_PROTOCOL } from '../../../src/kernel/state.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { NetnsLab, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';

const DESTINATIONS = ['10.1.2.0/24', 'fd00:1:2::/64'] as const;

function stateWith(gateways: readonly string[]): KernelState {
  return {
    routes: DESTINATIONS.map((destination, at) => ({
      destination,
      gateway: gateways[at]!,
      link: 'eth0',
      protocol: ROUTE_PROTOCOL.overlay,
    })),
  };
}

for (const { name, gateways, taken } of [
  { name: 'the same way', gateways: ['10.9.0.2', 'fd09::2'], taken: true },
  { name: 'another way', gateways: ['10.9.0.3', 'fd09::3'], taken: false },
])
  test(`a route without a mark that leads ${name} is ${taken ? 'taken over' : 'left alone'}`, {
    skip: SKIP_UNLESS_ROOT,
  }, async t => {
    const lab = new NetnsLab(`to${taken ? 1 : 0}`);
    t.after(() => lab.close());
    const [host, other] = [lab.namespace('h'), lab.namespace('o')];
    lab.wire(host, 'eth0', other, 'eth0');
    host.address('eth0', '10.9.0.1/24', 'fd09::1/64');
    for (const [at, destination] of DESTINATIONS.entries()) host.route(destination, gateways[at]!);
    const reconciler = new KernelReconciler({
      netns: host.netns,
      rooms: ['overlay'],
      lockDirectory: '/run',
      log: silentLogger(),
    });
    t.after(() => reconciler.stop());
    await reconciler.start();
    reconciler.setDesired('overlay', stateWith(['10.9.0.2', 'fd09::2']));
    if (taken) await reconciler.settled();
    else await assert.rejects(reconciler.settled(), { code: 'EEXIST' });
    const routes = host.rt
      .listRoutes()
      .filter(route => DESTINATIONS.some(text => text === route.destination));
    assert.deepEqual(
      routes.map(({ gateway, protocol }) => [gateway, protocol === ROUTE_PROTOCOL.overlay]),
      gateways.map(gateway => [gateway, taken]),
    );
  });
