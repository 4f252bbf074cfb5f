// `podwire cni`: cnitool's verbs and the resident server; cni/command.ts reads its own arguments.
import { Command } from 'commander';

export function cniCommand(): Command {
  return new Command('cni')
    .description(
      'run CNI plugins as cnitool does (add, check, del, gc, status, version), or their resident server (serve, dhcp)',
    )
    .usage('VERB [ARG ...]')
    .argument('[args...]', "a verb and what it needs; 'podwire cni' alone lists them")
    .allowUnknownOption()
    .action(async (args: string[]) => {
      const { runCniCommand } = await import('../../cni/command.ts');
      process.exitCode = await runCniCommand(args);
    });
}
