// `kube-proxy`: takes upstream's flags and configuration file (proxy/config) and runs the daemon in src/agent. Exit
// status 0 after SIGTERM or a finished --cleanup, 1 when the work failed, 2 when it was called or configured wrongly.
import { readFileSync, unwatchFile, watchFile, writeFileSync } from 'node:fs';
import {
  type CommandLine,
  ConfigError,
  type ProxyConfiguration,
  parseConfigFile,
  parseFlags,
} from '../../proxy/config/config.ts';
import { usage } from '../../proxy/config/usage.ts';
import type { ClientConfig } from '../client/kubeconfig.ts';
import { errorMessage } from '../lib/errors.ts';
import { KUBERNETES_BUILD, PODWIRE_VERSION } from '../lib/version.ts';
import type { Logger } from '../observe/log.ts';

/** A file that a ConfigMap mounts is swapped by a symbolic link: only its content tells. */
const WATCH_MS = 1000;
/** klog's -v to a level of ours. */
const DEBUG_VERBOSITY = 4;

interface Called {
  command: CommandLine;
  configuration: ProxyConfiguration;
}

function readConfigFile(path: string): ProxyConfiguration {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new ConfigError([`--config: ${errorMessage(cause)}`], { cause });
  }
  try {
    return parseConfigFile(text);
  } catch (cause) {
    if (!(cause instanceof ConfigError)) throw cause;
    throw new ConfigError(
      cause.problems.map(problem => `${path}: ${problem}`),
      { cause },
    );
  }
}

/** Flags, and the file where --config names one: it wins over flags for the same fields, as upstream. */
function readCall(args: readonly string[]): Called {
  const { command, configuration } = parseFlags(args);
  return { command, configuration: command.config ? readConfigFile(command.config) : configuration };
}

async function clientConfig({ command, configuration }: Called, log: Logger): Promise<ClientConfig> {
  const { inClusterConfig, loadKubeconfig } = await import('../client/kubeconfig.ts');
  const kubeconfig = configuration.string('clientConnection.kubeconfig');
  if (!kubeconfig && !command.master) {
    log.info('neither --kubeconfig nor --master: taking the service account of the pod');
    return inClusterConfig();
  }
  const base: ClientConfig = kubeconfig ? loadKubeconfig(kubeconfig) : { server: command.master ?? '' };
  return command.master ? { ...base, server: command.master } : base;
}

/** Resolves with the new configuration when the file has one that can be read and says something else. */
function nextConfiguration(
  path: string,
  running: ProxyConfiguration,
  log: Logger,
  signal: AbortSignal,
): Promise<ProxyConfiguration> {
  const { promise, resolve } = Promise.withResolvers<ProxyConfiguration>();
  const look = (): void => {
    try {
      const read = readConfigFile(path);
      if (JSON.stringify(read.toObject()) === JSON.stringify(running.toObject())) return;
      unwatchFile(path, look);
      resolve(read);
    } catch (error) {
      const problems = error instanceof ConfigError ? error.problems : [errorMessage(error)];
      log.error({ problems }, 'the changed configuration is refused; the one before stays');
    }
  };
  watchFile(path, { interval: WATCH_MS }, look);
  signal.addEventListener('abort', () => unwatchFile(path, look), { once: true });
  return promise;
}

async function serve(called: Called): Promise<void> {
  const [{ KubeProxy }, { createLogger }] = await Promise.all([
    import('../agent/kube-proxy.ts'),
    import('../observe/log.ts'),
  ]);
  const ended = Promise.withResolvers<undefined>();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => ended.resolve(undefined));
  const { command } = called;
  let configuration: ProxyConfiguration | undefined = called.configuration;
  while (configuration) {
    const verbose = configuration.number('logging.verbosity') >= DEBUG_VERBOSITY;
    const log = createLogger({ component: 'kube-proxy', ...(verbose ? { level: 'debug' } : {}) });
    const stop = new AbortController();
    const proxy = new KubeProxy({
      configuration,
      client: await clientConfig({ command, configuration }, log),
      log,
    });
    try {
      await proxy.start(stop.signal);
      const changed: Promise<ProxyConfiguration> = command.config
        ? nextConfiguration(command.config, configuration, log, stop.signal)
        : new Promise<never>(() => {});
      configuration = await Promise.race([ended.promise, changed]);
      if (configuration) log.info('the configuration changed: starting anew, the rules stay meanwhile');
    } finally {
      stop.abort();
      await proxy.stop();
    }
  }
}

async function cleanup(): Promise<void> {
  const [{ cleanupRules }, { defaultHostDirectory }, { createLogger }] = await Promise.all([
    import('../../proxy/cleanup.ts'),
    import('../../proxy/backend/userspace/apply/host-directory.ts'),
    import('../observe/log.ts'),
  ]);
  const problems = await cleanupRules({
    relayDirectory: defaultHostDirectory(),
    log: createLogger({ component: 'kube-proxy', level: 'warn' }),
  });
  if (problems.length > 0) process.exitCode = 1;
}

async function initOnly(configuration: ProxyConfiguration): Promise<void> {
  const [{ applyConntrackSysctls, planConntrackSysctls }, { createLogger }, { availableParallelism }] =
    await Promise.all([
      import('../../proxy/node-settings.ts'),
      import('../observe/log.ts'),
      import('node:os'),
    ]);
  const wanted = planConntrackSysctls(configuration, availableParallelism());
  applyConntrackSysctls(wanted, createLogger({ component: 'kube-proxy' }));
}

async function main(args: readonly string[]): Promise<void> {
  if (args.some(arg => /^--?(help|h)$/.test(arg))) {
    process.stdout.write(usage());
    return;
  }
  const called = readCall(args);
  const { command, configuration } = called;
  if (command.version) process.stdout.write(`Kubernetes ${KUBERNETES_BUILD} (podwire ${PODWIRE_VERSION})\n`);
  else if (command['write-config-to']) writeFileSync(command['write-config-to'], configuration.toYaml());
  else if (command.cleanup) await cleanup();
  else if (command['init-only']) await initOnly(configuration);
  else await serve(called);
}

try {
  await main(process.argv.slice(2));
} catch (thrown) {
  const problems = thrown instanceof ConfigError ? thrown.problems : [errorMessage(thrown)];
  for (const problem of problems) process.stderr.write(`kube-proxy: ${problem}\n`);
  if (thrown instanceof ConfigError) process.stderr.write("kube-proxy: see 'kube-proxy --help'\n");
  if (process.env.PODWIRE_DEBUG && thrown instanceof Error) process.stderr.write(`${thrown.stack}\n`);
  process.exitCode = thrown instanceof ConfigError ? 2 : 1;
}
