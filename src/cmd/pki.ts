// `podwire pki`: certificates and kubeconfig files for a cluster on many machines.
import { Command } from 'commander';
import { PodwireError } from '../lib/errors.ts';
import { collect } from './lab-options.ts';

interface Flags {
  dir: string;
  server: string;
  san: string[];
  node: string[];
}

export function pkiCommand(): Command {
  return new Command('pki')
    .description('make certificates and kubeconfig files; what is there and good is kept')
    .requiredOption('--dir <directory>', 'where to put them')
    .requiredOption('--server <url>', 'URL under which everybody reaches the API server')
    .option(
      '--san <name>',
      'another name or address of the API server; repeat or separate by commas',
      collect,
      [],
    )
    .option(
      '--node <name=address>',
      'a node and its address; repeat',
      (text: string, all: string[]) => [...all, text],
      [],
    )
    .action(async (flags: Flags) => {
      const { createClusterPki } = await import('../apiserver/pki.ts');
      const url = URL.parse(flags.server);
      if (url?.protocol !== 'https:')
        throw new PodwireError('INVALID_OPTION', `--server ${flags.server}: use an https:// URL`);
      const pki = createClusterPki(flags.dir, {
        sans: [...new Set([url.hostname.replace(/^\[|\]$/g, ''), ...flags.san])],
        adminServer: flags.server,
        nodes: flags.node.map(parseNode),
      });
      console.log(`kubeconfig for people: ${pki.kubeconfigs.admin}`);
      for (const [name, node] of Object.entries(pki.nodes)) console.log(`node ${name}: ${node.kubeconfig}`);
    });
}

function parseNode(text: string): { name: string; addresses: string[] } {
  const [name, addresses] = text.split('=');
  if (!name || !addresses)
    throw new PodwireError(
      'INVALID_OPTION',
      `--node ${text}: use NAME=ADDRESS[,ADDRESS], such as node1=192.168.56.11`,
    );
  return { name, addresses: addresses.split(',') };
}
