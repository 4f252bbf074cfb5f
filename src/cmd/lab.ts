// The lab commands: up, status, logs, exec, down, and the hidden supervisor.
import { createReadStream, existsSync, globSync, watchFile } from 'node:fs';
import { basename, join } from 'node:path';
import { Command, Option } from 'commander';
import colors from 'picocolors';
import type { Operation } from '../kernel/diff.ts';
import {
  DEFAULT_DIRECTORY,
  DEFAULT_NAME,
  type LabSpec,
  OVERLAY_BACKENDS,
  type OverlayBackend,
  PROXY_MODES,
  type ProxyMode,
  ROUTINGS,
  type Routing,
} from '../lab/spec.ts';
import { PodwireError } from '../lib/errors.ts';
import { collect, type LabSelector, labCommand, parseCount, requireRoot } from './lab-options.ts';

/** dist/: this file is dist/lib/*.js when built. */
const DIST = join(import.meta.dirname, '..');
const EXAMPLE = join(DIST, '..', 'examples', 'hello.yaml');
const CRDS = join(DIST, '..', 'deploy', 'crds');

interface UpFlags extends LabSelector {
  nodes?: number;
  apiPort?: number;
  family: string[];
  overlay?: OverlayBackend;
  proxyMode?: ProxyMode;
  routing?: Routing;
  manifest: string;
  timeout: number;
  output?: string;
}

export function upCommand(): Command {
  return labCommand('up')
    .description('start a cluster on this machine and prove that its network works')
    .option('--nodes <count>', 'how many nodes (default 3)', parseCount)
    .option('--api-port <port>', 'port on 127.0.0.1 (default 6443, or the next free one)', parseCount)
    .addOption(
      new Option(
        '--overlay <backend>',
        'how pods of different nodes reach each other (default vxlan)',
      ).choices(OVERLAY_BACKENDS),
    )
    .addOption(
      new Option('--proxy-mode <mode>', 'how Services are served (default iptables)').choices(PROXY_MODES),
    )
    .addOption(
      new Option(
        '--routing <how>',
        "vxlan: as --overlay says; bgp: Calico's IP pools and routes by BGP, no encapsulation (default vxlan)",
      ).choices(ROUTINGS),
    )
    .option('--family <family>', 'ipv4, ipv6, or both', collect, [])
    .option('--manifest <file>', 'what to apply and prove; holds a Service', EXAMPLE)
    .option('--timeout <seconds>', 'give up after this long', parseCount, 120)
    .option('-o, --output <format>', 'json: the result as one JSON object on standard output')
    .action(async (flags: UpFlags) => {
      requireRoot('up');
      const { bringUp } = await import('../lab/up.ts');
      const { Progress } = await import('../lab/progress.ts');
      const { formatProof } = await import('../lab/proof.ts');
      const progress = new Progress();
      process.once('SIGINT', () => {
        const down = `podwire down${labFlags(flags.dir, flags.name)}`;
        process.stderr.write(`\nInterrupted; what was started goes on. '${down}' takes it away.\n`);
        process.exit(130);
      });
      const result = await bringUp(
        {
          directory: flags.dir,
          name: flags.name,
          nodes: flags.nodes,
          apiPort: flags.apiPort,
          families: parseFamilies(flags.family),
          overlay: flags.overlay,
          proxyMode: flags.proxyMode,
          routing: flags.routing,
          crdDirectory: CRDS,
          distDirectory: DIST,
          manifest: flags.manifest,
          timeoutMs: flags.timeout * 1000,
        },
        progress,
      );
      const failed = result.rows.filter(row => row.error !== undefined).length;
      if (failed > 0) process.exitCode = 1;
      if (flags.output === 'json') {
        console.log(JSON.stringify({ ...result, phases: progress.times, totalSeconds: progress.elapsed() }));
        return;
      }
      console.log(formatProof(result.rows));
      console.log(
        failed > 0
          ? colors.red(`${failed} of ${result.rows.length} requests failed; 'podwire status' shows the parts`)
          : `First answer through the Service after ${colors.bold(`${result.firstAnswerSeconds.toFixed(1)} s`)}.`,
      );
      console.log(goOn(result.lab, result.kubeconfig, flags.dir));
    });
}

function parseFamilies(values: string[]): ('ipv4' | 'ipv6')[] {
  const wanted = values.length > 0 ? values : ['ipv4', 'ipv6'];
  const wrong = wanted.find(value => value !== 'ipv4' && value !== 'ipv6');
  if (wrong !== undefined)
    throw new PodwireError('INVALID_OPTION', `--family ${wrong}: use ipv4, ipv6, or ipv4,ipv6`);
  return [...new Set(wanted)] as ('ipv4' | 'ipv6')[];
}

/** The flags that select a lab other than the default one. */
function labFlags(directory: string, name: string): string {
  const dir = directory === DEFAULT_DIRECTORY ? '' : ` --dir ${directory}`;
  return name === DEFAULT_NAME ? dir : `${dir} --name ${name}`;
}

function goOn(lab: LabSpec, kubeconfig: string, directory: string): string {
  const name = labFlags(directory, lab.name);
  const podwire = join(DIST, 'bin', 'podwire');
  return [
    '',
    'Go on with:',
    `  export KUBECONFIG=${kubeconfig}`,
    '  kubectl get pods -o wide',
    `  ${podwire} status${name}`,
    `  ${podwire} exec${name} ${lab.nodes[0]!.name} -- ip route`,
    `  ${podwire} down${name}`,
  ].join('\n');
}

export function statusCommand(): Command {
  return labCommand('status')
    .description('show the processes, nodes and pods of a lab')
    .option('-o, --output <format>', 'json')
    .action(async (flags: LabSelector & { output?: string }) => {
      const { labStatus, formatStatus } = await import('../lab/status.ts');
      const { requireLab } = await import('../lab/record.ts');
      const status = await labStatus(requireLab(flags.dir, flags.name));
      console.log(flags.output === 'json' ? JSON.stringify(status) : formatStatus(status));
      if (!status.healthy) process.exitCode = 1;
    });
}

export function logsCommand(): Command {
  return labCommand('logs')
    .description(
      'print the log of a component: apiserver, controllers, agent-NODE, containerd-NODE, supervisor',
    )
    .argument('[component]', 'which; without it, what there is')
    .option('-f, --follow', 'go on printing')
    .action(async (component: string | undefined, flags: LabSelector & { follow?: boolean }) => {
      const { requireLab } = await import('../lab/record.ts');
      const { labPaths } = await import('../lab/spec.ts');
      const lab = requireLab(flags.dir, flags.name);
      const paths = labPaths(lab);
      const names = globSync('*.log', { cwd: paths.logs })
        .map(file => basename(file, '.log'))
        .sort();
      if (component === undefined) {
        console.log(names.join('\n'));
        return;
      }
      if (!names.includes(component))
        throw new PodwireError(
          'INVALID_OPTION',
          `there is no component '${component}'; there are ${names.join(', ')}`,
        );
      await printFile(paths.log(component), flags.follow ?? false);
    });
}

async function printFile(path: string, follow: boolean): Promise<void> {
  let offset = 0;
  const printRest = async () => {
    if (!existsSync(path)) return;
    for await (const chunk of createReadStream(path, { start: offset })) {
      offset += (chunk as Buffer).length;
      process.stdout.write(chunk as Buffer);
    }
  };
  await printRest();
  if (!follow) return;
  const STAT_INTERVAL_MS = 250;
  watchFile(path, { interval: STAT_INTERVAL_MS }, () => void printRest());
}

export function execCommand(): Command {
  return labCommand('exec')
    .description("run a command inside a node's network namespace: podwire exec node1 -- ip route")
    .argument('<node>', 'node1, node2, … or cp, or net (the switch)')
    .argument('<command...>', 'the command and its arguments')
    .action(async (node: string, command: string[], flags: LabSelector) => {
      requireRoot('exec');
      const { requireLab } = await import('../lab/record.ts');
      const { spawnChild } = await import('../linux/exec.ts');
      const { netnsPath } = await import('../lab/components.ts');
      const lab = requireLab(flags.dir, flags.name);
      const members = new Map([lab.controlPlane, ...lab.nodes].map(member => [member.name, member.netns]));
      members.set('net', lab.switchNetns);
      const netns = members.get(node);
      if (netns === undefined)
        throw new PodwireError(
          'INVALID_OPTION',
          `there is no node '${node}'; there are ${[...members.keys()].join(', ')}`,
        );
      const [program, ...args] = command as [string, ...string[]];
      const child = spawnChild(program, args, {
        netnsPath: netnsPath(netns),
        stdio: ['inherit', 'inherit', 'inherit'],
      });
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
      const exit = await child.exited;
      process.exitCode = exit.code ?? 1;
    });
}

export function diffCommand(): Command {
  return labCommand('diff')
    .description("compare a node's kernel with what is desired; prints what would be changed")
    .argument('<node>', 'node1, node2, …')
    .option('-o, --output <format>', 'json')
    .action(async (name: string, flags: LabSelector & { output?: string }) => {
      const { requireLab } = await import('../lab/record.ts');
      const { nodePaths } = await import('../lab/spec.ts');
      const { askAdmin } = await import('../lab/admin-client.ts');
      const { formatDiff } = await import('../lab/diff.ts');
      const lab = requireLab(flags.dir, flags.name);
      const node = lab.nodes.find(candidate => candidate.name === name);
      if (!node)
        throw new PodwireError(
          'INVALID_OPTION',
          `there is no node '${name}'; there are ${lab.nodes.map(candidate => candidate.name).join(', ')}`,
        );
      const operations = await askAdmin<Operation[]>(nodePaths(node).agentSocket, 'GET', '/diff');
      console.log(flags.output === 'json' ? JSON.stringify(operations) : formatDiff(name, operations));
      if (operations.length > 0) process.exitCode = 1;
    });
}

export function downCommand(): Command {
  return labCommand('down')
    .description('take a lab away: processes, containers, mounts, namespaces, files')
    .option('--purge', 'the shared image cache too')
    .action(async (flags: LabSelector & { purge?: boolean }) => {
      requireRoot('down');
      const { takeDown } = await import('../lab/down.ts');
      const { cacheDirectory } = await import('../lab/spec.ts');
      const removed = await takeDown(flags.dir, flags.name);
      if (flags.purge) {
        const { rmSync } = await import('node:fs');
        rmSync(cacheDirectory(flags.dir), { recursive: true, force: true });
      }
      const nothing = !removed.existed && removed.processes + removed.mounts + removed.namespaces === 0;
      console.log(
        nothing
          ? `There was no lab '${flags.name}'.`
          : `Lab '${flags.name}' is gone: ${removed.processes} processes, ${removed.mounts} mounts, ${removed.namespaces} namespaces.`,
      );
    });
}

/** Runs in the background from `up` until `down`; descriptor 3 is the listener on 127.0.0.1. */
export function supervisorCommand(): Command {
  return new Command('supervise').argument('<lab.json>').action(async (file: string) => {
    const { runSupervisor } = await import('../lab/supervisor.ts');
    const { readLabFile } = await import('../lab/record.ts');
    await runSupervisor(readLabFile(file), join(DIST, 'bin', 'podwire'));
  });
}
