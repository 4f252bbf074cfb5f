// `podwire apiserver`: the Kubernetes API on the embedded store.
import { join } from 'node:path';
import { Command } from 'commander';
import { PodwireError } from '../lib/errors.ts';
import { collect, parseCount } from './lab-options.ts';
import { untilSignal } from './signals.ts';

interface Flags {
  dataDir: string;
  pkiDir: string;
  listen: string[];
  listenFd?: number;
  advertiseAddress?: string;
  serviceCidr: string[];
  tokenAuthFile?: string;
}

export function apiserverCommand(): Command {
  return new Command('apiserver')
    .description('run the API server; its certificates come from `podwire pki`')
    .requiredOption('--data-dir <directory>', 'where the store lives')
    .requiredOption('--pki-dir <directory>', 'certificates and keys')
    .option('--listen <address:port>', 'where to serve; repeat or separate by commas', collect, [])
    .option('--listen-fd <descriptor>', 'serve on an inherited listening socket, too', parseCount)
    .option(
      '--advertise-address <address>',
      'address of Service default/kubernetes (default: the first --listen)',
    )
    .option('--token-auth-file <file>', "bearer tokens: Kubernetes' static token file")
    .option('--service-cidr <cidr>', 'service addresses, one a family', collect, [])
    .action(async (flags: Flags) => {
      const addresses = flags.listen.map(parseListen);
      const listeners = [...addresses, ...(flags.listenFd === undefined ? [] : [{ fd: flags.listenFd }])];
      if (listeners.length === 0)
        throw new PodwireError('INVALID_OPTION', '--listen is missing: say where to serve');
      const [{ startApiServer }, { createLogger }] = await Promise.all([
        import('../apiserver/main.ts'),
        import('../observe/log.ts'),
      ]);
      const inPki = (name: string) => join(flags.pkiDir, name);
      let server: { stop(): Promise<void> } | undefined;
      await untilSignal(async () => {
        server = await startApiServer({
          dataDir: flags.dataDir,
          tls: {
            certFile: inPki('apiserver.crt'),
            keyFile: inPki('apiserver.key'),
            clientCaFile: inPki('ca.crt'),
          },
          kubeletClient: {
            certFile: inPki('apiserver-kubelet-client.crt'),
            keyFile: inPki('apiserver-kubelet-client.key'),
            caFile: inPki('ca.crt'),
          },
          listeners,
          tokenFile: flags.tokenAuthFile,
          advertiseAddress: flags.advertiseAddress ?? addresses[0]?.address,
          serviceCidrs: flags.serviceCidr.length > 0 ? flags.serviceCidr : ['10.96.0.0/16'],
          log: createLogger({ component: 'apiserver' }),
        });
      });
      await server?.stop();
    });
}

/** `10.0.0.1:6443` or `[fd00::1]:6443`. */
export function parseListen(text: string): { address: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text);
  const address = match?.[1] ?? match?.[2];
  if (!match || address === undefined || Number(match[3]) > 65_535)
    throw new PodwireError(
      'INVALID_OPTION',
      `--listen ${text}: use ADDRESS:PORT or [ADDRESS]:PORT, such as 0.0.0.0:6443`,
    );
  return { address, port: Number(match[3]) };
}
