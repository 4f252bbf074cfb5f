// The `podwire` command. Each subcommand is a file of its own and loads what it needs only when it runs.
import { Command } from 'commander';
import { PODWIRE_VERSION } from '../lib/version.ts';
import { agentCommand } from './agent.ts';
import { apiserverCommand } from './apiserver.ts';
import { bgpCommand } from './bgp.ts';
import { cniCommand } from './cni.ts';
import { controllersCommand } from './controllers.ts';
import { reportError } from './errors.ts';
import { explainCommand } from './explain.ts';
import { imagesCommand } from './images.ts';
import {
  diffCommand,
  downCommand,
  execCommand,
  logsCommand,
  statusCommand,
  supervisorCommand,
  upCommand,
} from './lab.ts';
import { overlayCommand } from './overlay.ts';
import { pkiCommand } from './pki.ts';
import { proxyCommand } from './proxy.ts';

const program = new Command('podwire')
  .description('A Kubernetes network data plane in TypeScript, and whole clusters on one machine')
  .version(PODWIRE_VERSION)
  .showHelpAfterError("(run 'podwire help COMMAND' for its options)")
  .configureHelp({ sortSubcommands: false })
  .addHelpText(
    'after',
    `
Start here:
  $ podwire up                     a three-node cluster with real containers and networking
  $ podwire status                 what runs
  $ podwire exec node1 -- ip route look at a node from inside
  $ podwire down                   take everything away again`,
  );

program.commandsGroup('A cluster on this machine:');
for (const command of [
  upCommand(),
  statusCommand(),
  logsCommand(),
  execCommand(),
  diffCommand(),
  overlayCommand(),
  proxyCommand(),
  explainCommand(),
  bgpCommand(),
  downCommand(),
])
  program.addCommand(command);
program.commandsGroup('The parts, for clusters on many machines:');
for (const command of [
  apiserverCommand(),
  controllersCommand(),
  agentCommand(),
  pkiCommand(),
  cniCommand(),
  imagesCommand(),
])
  program.addCommand(command);
program.addCommand(supervisorCommand(), { hidden: true });

try {
  // An arrow reads well in `podwire explain A -> B`, but looks like an option.
  await program.parseAsync(process.argv.filter(word => word !== '->'));
} catch (thrown) {
  reportError(thrown);
}
