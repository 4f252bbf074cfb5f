// The relay as a process of its own, so that it outlives the daemon that tells it what to do:
//   relay-host DIRECTORY BUILD LINGER_MS
// It ends by itself: told so, or when no daemon came for LINGER_MS, or with nothing left to do and nobody to ask.
import { parseArgs } from 'node:util';
import { errorMessage, PodwireError } from '../../../../src/lib/errors.ts';
import { createLogger } from '../../../../src/observe/log.ts';
import { RelayHost } from './host-server.ts';

const log = createLogger({ component: 'relay-host' });
try {
  const [directory, build, linger] = parseArgs({ allowPositionals: true }).positionals;
  const lingerMs = Number(linger);
  if (!directory || !build || !Number.isInteger(lingerMs) || lingerMs < 0)
    throw new PodwireError('INVALID_OPTION', 'called otherwise than relay-host DIRECTORY BUILD LINGER_MS');
  // The terminal of whoever started the daemon is not ours to hear of.
  process.on('SIGHUP', () => {});
  const host = new RelayHost({ directory, build, lingerMs, log });
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => host.stop());
  await host.run();
  process.exitCode = 0;
} catch (error) {
  log.error(errorMessage(error));
  process.exitCode = 1;
}
