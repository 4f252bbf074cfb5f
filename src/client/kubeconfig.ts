// Where the API server is and who we are: from a kubeconfig file, or from the files Kubernetes puts into every pod.
// Source: client-go tools/clientcmd/api/v1 types (Config, Cluster, AuthInfo, Context); rest.InClusterConfig.
import { readFileSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { parse } from 'yaml';
import { errorMessage, PodwireError } from '../lib/errors.ts';

export interface ClientConfig {
  /** `https://10.0.0.1:6443`; a path is kept as a prefix. */
  server: string;
  /** PEM. */
  ca?: string;
  /** PEM, client certificate chain. */
  cert?: string;
  /** PEM. */
  key?: string;
  token?: string;
  /** Read again every minute: Kubernetes rotates the tokens of pods. */
  tokenFile?: string;
  /** Namespace of the context, `default` when absent. */
  namespace?: string;
  insecureSkipTlsVerify?: boolean;
  tlsServerName?: string;
  /** Connect to this Unix socket; `server` then only names the host and the scheme. */
  socketPath?: string;
}

interface KubeconfigFile {
  'current-context'?: string;
  contexts?: { name: string; context?: { cluster?: string; user?: string; namespace?: string } }[];
  clusters?: { name: string; cluster?: Record<string, string | boolean | undefined> }[];
  users?: { name: string; user?: Record<string, unknown> }[];
}

const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

function refuse(file: string, why: string): PodwireError {
  return new PodwireError('KUBECONFIG', `kubeconfig ${file}: ${why}`);
}

/** The value under `field-data` (base64), else the content of the file that `field` names. */
function material(file: string, entry: Record<string, unknown>, field: string): string | undefined {
  const data = entry[`${field}-data`];
  if (typeof data === 'string' && data !== '') return Buffer.from(data, 'base64').toString('utf8');
  const path = entry[field];
  if (typeof path !== 'string' || path === '') return undefined;
  const full = isAbsolute(path) ? path : join(dirname(file), path);
  try {
    return readFileSync(full, 'utf8');
  } catch (error) {
    throw refuse(file, `${field}: ${errorMessage(error)}`);
  }
}

/** Reads one kubeconfig file. `context` overrides `current-context`. */
export function loadKubeconfig(file: string, options: { context?: string } = {}): ClientConfig {
  let parsed: KubeconfigFile | null;
  try {
    parsed = parse(readFileSync(file, 'utf8')) as KubeconfigFile | null;
  } catch (error) {
    throw refuse(file, errorMessage(error));
  }
  if (parsed === null || typeof parsed !== 'object') throw refuse(file, 'the file is empty');
  const contextName = options.context ?? parsed['current-context'];
  if (!contextName) throw refuse(file, 'no current-context; choose one with kubectl config use-context');
  const context = parsed.contexts?.find(entry => entry.name === contextName)?.context;
  if (!context) throw refuse(file, `context ${contextName} is not in the file`);
  const cluster = parsed.clusters?.find(entry => entry.name === context.cluster)?.cluster;
  if (!cluster) throw refuse(file, `cluster ${context.cluster} of context ${contextName} is not in the file`);
  const user = parsed.users?.find(entry => entry.name === context.user)?.user ?? {};
  if (typeof cluster.server !== 'string' || !URL.canParse(cluster.server))
    throw refuse(file, `cluster ${context.cluster} has no usable server address`);
  for (const unsupported of ['exec', 'auth-provider', 'username'])
    if (user[unsupported] !== undefined)
      throw refuse(
        file,
        `user ${context.user}: ${unsupported} is not supported; use a client certificate or a token`,
      );
  const tokenFile = typeof user.tokenFile === 'string' ? user.tokenFile : undefined;
  return {
    server: cluster.server,
    ca: material(file, cluster, 'certificate-authority'),
    cert: material(file, user, 'client-certificate'),
    key: material(file, user, 'client-key'),
    token: typeof user.token === 'string' ? user.token : undefined,
    tokenFile: tokenFile && !isAbsolute(tokenFile) ? join(dirname(file), tokenFile) : tokenFile,
    namespace: context.namespace,
    insecureSkipTlsVerify: cluster['insecure-skip-tls-verify'] === true,
    tlsServerName: typeof cluster['tls-server-name'] === 'string' ? cluster['tls-server-name'] : undefined,
  };
}

/** The configuration of a program that runs in a pod. `directory` and `env` are for tests. */
export function inClusterConfig(directory = SERVICE_ACCOUNT_DIR, env = process.env): ClientConfig {
  const host = env.KUBERNETES_SERVICE_HOST;
  const port = env.KUBERNETES_SERVICE_PORT;
  if (!host || !port)
    throw new PodwireError(
      'NOT_IN_CLUSTER',
      'KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: not in a pod; give a kubeconfig instead',
    );
  try {
    return {
      server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
      ca: readFileSync(join(directory, 'ca.crt'), 'utf8'),
      tokenFile: join(directory, 'token'),
      namespace: readFileSync(join(directory, 'namespace'), 'utf8').trim(),
    };
  } catch (error) {
    throw new PodwireError('NOT_IN_CLUSTER', `service account of the pod: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}
