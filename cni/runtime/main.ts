// The stand-in for the server: runs one plugin in a process of its own, for a launcher that found no server, or the DHCP
// daemon (`dhcp daemon`).
// Everything comes by environment and stdin; PODWIRE_CNI_PLUGIN is the launcher's name, PODWIRE_CNI_EXE its path.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { errorMessage } from '../../src/lib/errors.ts';
import { Netns } from '../../src/linux/netns.ts';
import { createLogger } from '../../src/observe/log.ts';
import { PLUGINS } from '../plugins.ts';
import { dispatch } from './dispatch.ts';
import { KeyedLocks } from './locks.ts';
import type { Site } from './plugin.ts';

/** Less than runtimes wait for a plugin. */
const REQUEST_TIMEOUT_MS = 120_000;

const environment = Object.fromEntries(
  Object.entries(process.env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
);
const plugin = environment.PODWIRE_CNI_PLUGIN ?? basename(process.argv[2] ?? '');
const exe = environment.PODWIRE_CNI_EXE ?? '';
delete environment.PODWIRE_CNI_PLUGIN;
delete environment.PODWIRE_CNI_EXE;

if (plugin === 'dhcp' && process.argv[2] === 'daemon') {
  const { runDhcpDaemon } = await import('../ipam/dhcp/command.ts');
  process.exit(await runDhcpDaemon(process.argv.slice(3)).catch(complain));
}

/** A program that people start by hand: what is wrong in one line. */
function complain(error: unknown): number {
  process.stderr.write(`dhcp daemon: ${errorMessage(error)}\n`);
  return 1;
}

const command = environment.CNI_COMMAND ?? '';
const stdin = command === '' || command === 'VERSION' ? '' : readFileSync(0, 'utf8');
const site = (): Site => ({
  hostNetns: Netns.current(),
  openPodNetns: () => Netns.open(environment.CNI_NETNS ?? ''),
  environment,
  plugins: PLUGINS,
  exe,
  signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  locks: new KeyedLocks(),
  log: createLogger({ component: 'cni', level: 'error' }),
  stderr: [],
});

const answer = await dispatch({ plugin, stdin, environment, site }, PLUGINS.get(plugin));
process.stderr.write(answer.stderr);
process.stdout.write(answer.stdout, () => process.exit(answer.exitCode));
