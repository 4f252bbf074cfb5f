// `podwire controllers`: the scheduler and the controllers in one process, each with its own identity.
import { Command } from 'commander';
import { PodwireError } from '../lib/errors.ts';
import type { ElectionTimes, Part } from './elected.ts';
import { collect } from './lab-options.ts';
import { untilSignal } from './signals.ts';

interface Flags {
  kubeconfig: string;
  schedulerKubeconfig?: string;
  clusterCidr: string[];
  leaderElect: boolean;
  leaderElectLeaseDuration: number;
  leaderElectRenewDeadline: number;
  leaderElectRetryPeriod: number;
}

/** `15s`, `1m30s`, `500ms`, in milliseconds. */
function parseDuration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  const scale: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  const total = parts.reduce((sum, [, count, unit]) => sum + Number(count) * scale[unit!]!, 0);
  if (parts.map(([part]) => part).join('') !== text || total <= 0)
    throw new PodwireError('INVALID_OPTION', `${JSON.stringify(text)} is no duration such as 15s or 1m30s`);
  return total;
}

/** As client-go demands it: each must leave room for the next. */
function electionTimes(flags: Flags): ElectionTimes {
  const times = {
    leaseDurationMs: flags.leaderElectLeaseDuration,
    renewDeadlineMs: flags.leaderElectRenewDeadline,
    retryPeriodMs: flags.leaderElectRetryPeriod,
  };
  if (times.leaseDurationMs <= times.renewDeadlineMs || times.renewDeadlineMs <= times.retryPeriodMs * 1.2)
    throw new PodwireError(
      'INVALID_OPTION',
      'the lease duration must be longer than the renew deadline, and that longer than 1.2 retry periods',
    );
  return times;
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
    .option('--leader-elect', 'wait for the lead before working, where several run', false)
    .option(
      '--leader-elect-lease-duration <duration>',
      'others wait so long for a silent leader',
      parseDuration,
      15_000,
    )
    .option(
      '--leader-elect-renew-deadline <duration>',
      'a leader that cannot renew gives up',
      parseDuration,
      10_000,
    )
    .option('--leader-elect-retry-period <duration>', 'between attempts', parseDuration, 2_000)
    .action(async (flags: Flags) => {
      const times = electionTimes(flags);
      const [
        { KubeClient },
        { loadKubeconfig },
        { createLogger },
        { Scheduler },
        { ControllerManager },
        { runElected },
      ] = await Promise.all([
        import('../client/client.ts'),
        import('../client/kubeconfig.ts'),
        import('../observe/log.ts'),
        import('../scheduler/scheduler.ts'),
        import('../controllers/manager.ts'),
        import('./elected.ts'),
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
      const log = createLogger({ component: 'leader-election' });
      const parts: { part: Part; client: typeof managerClient; lease: string }[] = [
        { part: manager, client: managerClient, lease: 'kube-controller-manager' },
        { part: scheduler, client: schedulerClient, lease: 'kube-scheduler' },
      ];
      const elected: Promise<void>[] = [];
      await untilSignal(async signal => {
        if (!flags.leaderElect) await Promise.all(parts.map(({ part }) => part.start(signal)));
        // Ended by this process itself: everything else stops in order, too.
        const onLost = (): void => {
          process.exitCode = 1;
          process.kill(process.pid, 'SIGTERM');
        };
        if (flags.leaderElect)
          for (const { part, client, lease } of parts)
            elected.push(runElected(part, { client, lease, times, log, signal, onLost }));
        await Promise.all(elected);
      });
      if (flags.leaderElect) await Promise.all(elected);
      else await Promise.all(parts.map(({ part }) => part.stop()));
      await Promise.all([managerClient.close(), schedulerClient.close()]);
    });
}
