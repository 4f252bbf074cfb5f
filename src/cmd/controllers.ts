// `podwire controllers`: the scheduler and the controllers in one process, each with its own identity.
import { Command } from 'commander';
import { collect } from './lab-options.ts';
import { untilSignal } from './signals.ts';

interface Flags {
  kubeconfig: string;
  schedulerKubeconfig?: string;
  clusterCidr: string[];
}

export function controllersCommand(): Command {
  return new Command('controllers')
    .description('run the scheduler and the controllers')
    .requiredOption('--kubeconfig <file>', 'credentials of the controllers')
    .option(
      '--scheduler-kubeconfig <file>',
      'credentials of the scheduler (default: those of the controllers)',
    )
    .option(
      '--cluster-cidr <cidr>',
      'pod addresses of the cluster, one a family; repeat or separate by commas',
      collect,
      [],
    )
    .action(async (flags: Flags) => {
      const [{ KubeClient }, { loadKubeconfig }, { createLogger }, { Scheduler }, { ControllerManager }] =
        await Promise.all([
          import('../client/client.ts'),
          import('../client/kubeconfig.ts'),
          import('../observe/log.ts'),
          import('../scheduler/scheduler.ts'),
          import('../controllers/manager.ts'),
        ]);
      const connect = (file: string, userAgent: string) =>
        new KubeClient(loadKubeconfig(file), { userAgent });
      const managerClient = connect(flags.kubeconfig, 'podwire-controllers');
      const schedulerClient = connect(flags.schedulerKubeconfig ?? flags.kubeconfig, 'podwire-scheduler');
      const manager = new ControllerManager({
        client: managerClient,
        log: createLogger({ component: 'controllers' }),
        clusterCidrs: flags.clusterCidr,
      });
      const scheduler = new Scheduler({
        client: schedulerClient,
        log: createLogger({ component: 'scheduler' }),
      });
      await untilSignal(async signal => {
        await Promise.all([manager.start(signal), scheduler.start(signal)]);
      });
      await Promise.all([manager.stop(), scheduler.stop()]);
      await Promise.all([managerClient.close(), schedulerClient.close()]);
    });
}
