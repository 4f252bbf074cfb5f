// `podwire cni`: cnitool's verbs on podwire's runner, and the resident server.
//
//   podwire cni add|check|del|gc|status|version NETWORK [NETNS]     as cnitool: NETCONFPATH, CNI_PATH, CNI_IFNAME,
//                                                                   CNI_ARGS, CAP_ARGS and CNI_CONTAINERID in the environment
//   podwire cni serve [--socket PATH] [--no-dhcp]                   answers launchers until it is told to stop, and keeps
//                                                                   the leases of the dhcp plugin
//   podwire cni dhcp [--socketpath PATH] …                          keeps the leases only
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { createLogger } from '../src/observe/log.ts';
import { runDhcpDaemon } from './ipam/dhcp/command.ts';
import { DEFAULT_DHCP_SOCKET, DEFAULT_DHCP_STATE } from './ipam/dhcp/config.ts';
import { errorJson, toCniError } from './runtime/errors.ts';
import { Fields, type JsonObject } from './runtime/fields.ts';
import { findNetworkList } from './runtime/network-list.ts';
import type { Attachment } from './runtime/plugin.ts';
import { CniRunner, DEFAULT_CACHE_DIR, type RuntimeRequest } from './runtime/runner.ts';
import { CniServer, DEFAULT_CNI_SOCKET } from './runtime/server.ts';

const USAGE = `usage: podwire cni add|check|del NETWORK NETNS
       podwire cni gc NETWORK [CONTAINER/IFNAME ...]     what is not named is removed
       podwire cni status|version NETWORK
       podwire cni serve [--socket PATH] [--no-dhcp]
       podwire cni dhcp [--socketpath PATH] [--statedir DIR] [--pidfile PATH] [--hostprefix DIR] [--broadcast]
                        [--timeout 10s] [--resendmax 62s]
environment: NETCONFPATH (/etc/cni/net.d), CNI_PATH, CNI_IFNAME (eth0), CNI_ARGS, CAP_ARGS (JSON), CNI_CONTAINERID,
             PODWIRE_CNI_SOCKET (${DEFAULT_CNI_SOCKET}), CNI_CACHE_DIR (${DEFAULT_CACHE_DIR})
`;

type Environment = Readonly<Record<string, string | undefined>>;

/** Runs the command and returns the exit status. Results go to stdout, errors as CNI's JSON to stderr. */
export async function runCniCommand(
  argv: readonly string[],
  environment: Environment = process.env,
): Promise<number> {
  const [verb, ...rest] = argv;
  try {
    if (verb === 'serve') return await serve(rest, environment);
    if (verb === 'dhcp') return await runDhcpDaemon(rest);
    const [network, ...operands] = rest;
    if (verb === undefined || network === undefined) return usage();
    return await runVerb(verb, network, operands, environment);
  } catch (thrown) {
    process.stderr.write(`${JSON.stringify(errorJson(toCniError(thrown)), null, 4)}\n`);
    return 1;
  }
}

function usage(): number {
  process.stderr.write(USAGE);
  return 2;
}

/** The plugins that were built beside this program come first. */
function pluginPath(environment: Environment): string[] {
  const given = environment.CNI_PATH ?? '';
  if (given !== '') return given.split(':').filter(part => part !== '');
  return [join(dirname(process.argv[1] ?? ''), '../cni'), '/opt/cni/bin', '/usr/lib/cni'];
}

async function runVerb(
  verb: string,
  network: string,
  operands: readonly string[],
  environment: Environment,
): Promise<number> {
  const list = findNetworkList(environment.NETCONFPATH || '/etc/cni/net.d', network);
  const runner = new CniRunner({
    path: pluginPath(environment),
    cacheDir: environment.CNI_CACHE_DIR || DEFAULT_CACHE_DIR,
  });
  const netns = operands[0];
  switch (verb) {
    case 'add':
    case 'check':
    case 'del': {
      if (netns === undefined) return usage();
      const request = makeRequest(netns, environment);
      if (verb === 'add') print(await runner.add(list, request));
      else await runner[verb](list, request);
      return 0;
    }
    case 'gc':
      await runner.gc(list, operands.map(readAttachment));
      return 0;
    case 'status':
      await runner.status(list);
      return 0;
    case 'version':
      for (const [type, versions] of await runner.versions(list))
        process.stdout.write(`${type}: ${versions.join(' ')}\n`);
      return 0;
    default:
      return usage();
  }
}

function print(result: JsonObject): void {
  process.stdout.write(`${JSON.stringify(result, null, 4)}\n`);
}

/** The container's name follows from the namespace, as cnitool does it, so that add and del need not be told. */
function makeRequest(netns: string, environment: Environment): RuntimeRequest {
  const capabilities = environment.CAP_ARGS ? Fields.parse(environment.CAP_ARGS, 'CAP_ARGS').object : {};
  const args = (environment.CNI_ARGS ?? '')
    .split(';')
    .filter(pair => pair !== '')
    .map((pair): [string, string] => {
      const equals = pair.indexOf('=');
      return equals < 0 ? [pair, ''] : [pair.slice(0, equals), pair.slice(equals + 1)];
    });
  return {
    containerId:
      environment.CNI_CONTAINERID ||
      `cnitool-${createHash('sha512').update(netns).digest('hex').slice(0, 20)}`,
    netns,
    ifName: environment.CNI_IFNAME || 'eth0',
    args,
    capabilities: { ...capabilities },
  };
}

function readAttachment(text: string): Attachment {
  const slash = text.indexOf('/');
  return slash < 0
    ? { containerId: text, ifName: 'eth0' }
    : { containerId: text.slice(0, slash), ifName: text.slice(slash + 1) };
}

async function serve(argv: readonly string[], environment: Environment): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { socket: { type: 'string' }, 'no-dhcp': { type: 'boolean', default: false } },
  });
  const socketPath = values.socket ?? (environment.PODWIRE_CNI_SOCKET || DEFAULT_CNI_SOCKET);
  const server = new CniServer({
    socketPath,
    ...(values['no-dhcp'] ? {} : { dhcp: { socketPath: DEFAULT_DHCP_SOCKET, stateDir: DEFAULT_DHCP_STATE } }),
    log: createLogger({ component: 'cni' }),
  });
  await server.start();
  await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  await server.stop();
  return 0;
}
