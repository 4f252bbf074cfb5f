// `podwire explain`: what the service proxy does with a packet, and why.
import type { Command } from 'commander';
import { PodwireError } from '../lib/errors.ts';
import { type LabSelector, labCommand } from './lab-options.ts';

interface Flags extends LabSelector {
  protocol?: string;
  node?: string;
  output?: string;
}

export function explainCommand(): Command {
  return labCommand('explain')
    .description('say what becomes of a packet: podwire explain POD|NODE|IP SERVICE:PORT|IP:PORT')
    .argument('<from>', 'pod, namespace/pod, node, or an address')
    .argument(
      '<to...>',
      'service:port, namespace/service:port, or address:port; an arrow before it is welcome',
    )
    .option('--protocol <protocol>', 'TCP, UDP or SCTP (default: what the Service has)')
    .option('--node <node>', 'whose proxy to ask, when <from> is an address of nowhere')
    .option('-o, --output <format>', 'json')
    .addHelpText(
      'after',
      `
Examples:
  $ podwire explain hello-7c75fbd4d5-x2x9k '->' hello:80
  $ podwire explain node1 default/hello:http
  $ podwire explain 192.0.2.7 172.30.0.11:30080 --node node1`,
    )
    .action(async (from: string, rest: string[], flags: Flags) => {
      const [to, ...more] = rest.filter(word => word !== '→');
      if (to === undefined || more.length > 0)
        throw new PodwireError('INVALID_OPTION', 'name one target, such as hello:80');
      const { requireLab } = await import('../lab/record.ts');
      const { explainInLab } = await import('../lab/explain.ts');
      const { formatExplanation } = await import('../explain/service.ts');
      const { protocol, node } = flags;
      const explanations = await explainInLab(requireLab(flags.dir, flags.name), {
        from,
        to,
        protocol,
        node,
      });
      console.log(
        flags.output === 'json'
          ? JSON.stringify(explanations)
          : explanations.map(formatExplanation).join('\n\n'),
      );
      if (explanations.some(each => each.verdict !== 'forwarded')) process.exitCode = 1;
    });
}
