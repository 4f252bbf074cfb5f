// A reconciler that changes its mind without end, to be killed: victim.ts NETNS.
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { createLogger } from '../../../src/observe/log.ts';
import { nat, overlay } from './states.ts';

const reconciler = new KernelReconciler({
  netns: Netns.open(process.argv[2]!),
  rooms: ['overlay', 'proxy'],
  iptablesBackend: 'nft',
  log: createLogger({ component: 'victim', level: 'fatal' }),
});
await reconciler.start();
process.stdout.write('started\n');
for (let round = 0; ; round++) {
  const state = overlay(20 + (round % 3) * 40);
  if (round % 4 === 3) state.links![0]!.vxlan!.port = 4789;
  reconciler.setDesired('overlay', state);
  reconciler.setDesired('proxy', nat(1 + (round % 5)));
  await reconciler.settled();
}
