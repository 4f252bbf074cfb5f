// `podwire bgp`: the looking glass of nodes that run with --routing bgp, by their agents' admin sockets: the nodes of a lab,
// or with --socket the agent of this machine.
import { Command, Option } from 'commander';
import type { NeighbourView, PathView, StatusView, WhyView } from '../../routing/bgp/looking-glass/views.ts';
import { PodwireError } from '../lib/errors.ts';
import { type LabSelector, labCommand } from './lab-options.ts';

interface Flags extends LabSelector {
  node?: string;
  socket?: string;
  output?: 'json';
}

interface Target {
  node: string;
  socket: string;
}

export function bgpCommand(): Command {
  return new Command('bgp')
    .description('BGP as the nodes see it: sessions, routes, and why a route is or is not used')
    .addCommand(statusCommand())
    .addCommand(neighboursCommand())
    .addCommand(routesCommand())
    .addCommand(whyCommand());
}

function viewCommand(name: string): Command {
  return labCommand(name)
    .option('--node <node>', 'which node (default: the first; status: all)')
    .option(
      '--socket <path>',
      "an agent's admin socket instead of a lab, such as /var/lib/podwire/agent/agent.sock",
    )
    .addOption(new Option('-o, --output <format>', 'json').choices(['json']));
}

function statusCommand(): Command {
  return viewCommand('status')
    .description('every node: who it is, its sessions, what it announces')
    .action(async (flags: Flags) => {
      const { formatBgpStatus } = await import('./bgp-table.ts');
      const nodes = await Promise.all(
        (await targets(flags)).map(async target => ({
          node: target.node,
          status: await ask<StatusView>(target, '/bgp/status'),
        })),
      );
      print(flags, nodes, () => formatBgpStatus(nodes));
    });
}

function neighboursCommand(): Command {
  return viewCommand('neighbors')
    .alias('neighbours')
    .description('the sessions of a node, with their last errors')
    .action(async (flags: Flags) => {
      const { formatNeighbours } = await import('./bgp-table.ts');
      const neighbours = await ask<NeighbourView[]>(await target(flags), '/bgp/neighbors');
      print(flags, neighbours, () => formatNeighbours(neighbours));
    });
}

function routesCommand(): Command {
  return viewCommand('routes')
    .description('the paths a node knows (* best, = used with it)')
    .argument('[prefix]', 'only this prefix and what is inside it')
    .action(async (prefix: string | undefined, flags: Flags) => {
      const { formatRoutes } = await import('./bgp-table.ts');
      const query = prefix === undefined ? '' : `?prefix=${encodeURIComponent(prefix)}`;
      const paths = await ask<PathView[]>(await target(flags), `/bgp/routes${query}`);
      print(flags, paths, () => formatRoutes(paths));
    });
}

function whyCommand(): Command {
  return viewCommand('why')
    .description('which path of a prefix was chosen, why others were not, and to whom it is announced')
    .argument('<prefix>', 'a prefix or an address')
    .action(async (prefix: string, flags: Flags) => {
      const { formatWhy } = await import('./bgp-table.ts');
      const asked = await target(flags);
      const why = await ask<WhyView>(asked, `/bgp/why?prefix=${encodeURIComponent(prefix)}`);
      print(flags, why, () => formatWhy(asked.node, why));
      if (!why.found) process.exitCode = 1;
    });
}

function print(flags: Flags, value: unknown, format: () => string): void {
  console.log(flags.output === 'json' ? JSON.stringify(value) : format());
}

async function ask<T>(target: Target, path: string): Promise<T> {
  const { askAdmin } = await import('../lab/admin-client.ts');
  return askAdmin<T>(target.socket, 'GET', path);
}

async function target(flags: Flags): Promise<Target> {
  return (await targets(flags))[0]!;
}

async function targets(flags: Flags): Promise<Target[]> {
  if (flags.socket !== undefined) return [{ node: 'this node', socket: flags.socket }];
  const { requireLab } = await import('../lab/record.ts');
  const { nodePaths } = await import('../lab/spec.ts');
  const lab = requireLab(flags.dir, flags.name);
  if (lab.routing !== 'bgp')
    throw new PodwireError(
      'INVALID_OPTION',
      `lab '${lab.name}' runs without BGP; 'podwire up --routing bgp' makes one with it`,
    );
  const nodes = lab.nodes.filter(({ name }) => flags.node === undefined || name === flags.node);
  if (nodes.length === 0)
    throw new PodwireError(
      'INVALID_OPTION',
      `there is no node '${flags.node}'; there are ${lab.nodes.map(({ name }) => name).join(', ')}`,
    );
  return nodes.map(node => ({ node: node.name, socket: nodePaths(node).agentSocket }));
}
