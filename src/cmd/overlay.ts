// `podwire overlay status`: a node's overlay as it is now, from the agent of a lab's node or from flanneld on this machine.
import { existsSync } from 'node:fs';
import { Command } from 'commander';
import type { OverlayReport } from '../agent/overlay-report.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import { type LabSelector, labCommand } from './lab-options.ts';

/** Where `podwire flanneld` listens unless told otherwise. */
const FLANNELD_SOCKET = '/run/podwire/overlay.sock';
/** Probing many peers that do not answer takes a while. */
const PROBE_TIMEOUT_MS = 120_000;

interface StatusFlags extends LabSelector {
  probe?: boolean;
  output?: string;
  socket?: string;
}

export function overlayCommand(): Command {
  return new Command('overlay').description('look at the network between nodes').addCommand(statusCommand());
}

function statusCommand(): Command {
  return labCommand('status')
    .description("show a node's peers: subnets, public IPs, VTEP MACs, last change")
    .argument('[node]', "node1, node2, … (default: every node of the lab, or this machine's flanneld)")
    .option('--probe', 'try whether each peer can be reached')
    .option('--socket <path>', "a flanneld's --admin-socket, instead of a lab")
    .option('-o, --output <format>', 'json')
    .action(async (name: string | undefined, flags: StatusFlags) => {
      const { formatOverlay, isHealthy } = await import('./overlay-table.ts');
      const { askAdmin } = await import('../lab/admin-client.ts');
      const path = flags.probe ? '/overlay?probe' : '/overlay';
      const sockets = await findSockets(name, flags);
      const answers = await Promise.allSettled(
        sockets.map(({ socket }) =>
          askAdmin<OverlayReport>(socket, 'GET', path, undefined, flags.probe ? PROBE_TIMEOUT_MS : undefined),
        ),
      );
      const reports = answers.flatMap(answer => (answer.status === 'fulfilled' ? [answer.value] : []));
      if (flags.output === 'json')
        console.log(JSON.stringify(name === undefined ? reports : (reports[0] ?? null)));
      else if (reports.length > 0)
        console.log(reports.map(report => formatOverlay(report, Date.now())).join('\n\n'));
      const failed = answers.flatMap((answer, at) =>
        answer.status === 'rejected' ? [`${sockets[at]?.node}: ${errorMessage(answer.reason)}`] : [],
      );
      if (failed.length > 0) throw new PodwireError('OVERLAY_STATUS', failed.join('; '));
      if (!reports.every(isHealthy)) process.exitCode = 1;
    });
}

async function findSockets(
  name: string | undefined,
  flags: StatusFlags,
): Promise<{ node: string; socket: string }[]> {
  if (flags.socket !== undefined) return [{ node: 'flanneld', socket: flags.socket }];
  const { readLabRecord, requireLab } = await import('../lab/record.ts');
  const { nodePaths } = await import('../lab/spec.ts');
  const here = readLabRecord(flags.dir, flags.name);
  if (!here && name === undefined && existsSync(FLANNELD_SOCKET))
    return [{ node: 'flanneld', socket: FLANNELD_SOCKET }];
  const lab = here ?? requireLab(flags.dir, flags.name);
  const nodes = lab.nodes.filter(node => name === undefined || node.name === name);
  if (nodes.length === 0)
    throw new PodwireError(
      'INVALID_OPTION',
      `there is no node '${name}'; there are ${lab.nodes.map(node => node.name).join(', ')}`,
    );
  return nodes.map(node => ({ node: node.name, socket: nodePaths(node).agentSocket }));
}
