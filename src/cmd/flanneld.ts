// `flanneld`: flannel's daemon by flannel's flags, so that a DaemonSet of flannel's needs another image and nothing else.
import { Flanneld } from '../agent/flanneld.ts';
import { PODWIRE_VERSION } from '../lib/version.ts';
import { reportError } from './errors.ts';
import { FLANNELD_FLAGS, readFlanneldOptions } from './flanneld-flags.ts';
import { describeFlags, parseGoFlags } from './go-flags.ts';
import { untilSignal } from './signals.ts';

async function runFlanneld(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const { values, problems } = parseGoFlags(FLANNELD_FLAGS, argv, { env, envPrefix: 'FLANNELD' });
  if (values.help || values.h) {
    process.stdout.write(`Usage: flanneld [OPTION]...\n${describeFlags(FLANNELD_FLAGS)}\n`);
    return;
  }
  if (values.version) {
    process.stderr.write(`podwire ${PODWIRE_VERSION}\n`);
    return;
  }
  const options = readFlanneldOptions(values, env, problems);
  if (values.v >= 4) process.env.PODWIRE_LOG_LEVEL = 'debug';
  const flanneld = await Flanneld.create(options);
  try {
    await untilSignal(signal => flanneld.start(signal));
  } finally {
    await flanneld.stop();
  }
}

try {
  await runFlanneld(process.argv.slice(2), process.env);
} catch (thrown) {
  reportError(thrown);
  process.exit();
}
