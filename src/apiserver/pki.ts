// The cluster's certificates and kubeconfig files in one directory, under kubeadm's file names. Making them twice changes
// nothing: what is there and still good is kept, so that a restart invalidates no client.
//
//   ca ─┬─ apiserver (serving)            kubeconfig: admin.conf controller-manager.conf scheduler.conf
//       ├─ apiserver-kubelet-client                   kube-proxy.conf kubelet-<node>.conf
//       └─ kubelet-<node> (serving)
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  certificateServes,
  createCertificateAuthority,
  issueCertificate,
  type KeyPair,
  type LeafRequest,
} from './pki/certificate.ts';
import { renderKubeconfig } from './pki/kubeconfig-file.ts';

export { issueCertificate, issueClientCertificate, type KeyPair } from './pki/certificate.ts';
export { renderKubeconfig } from './pki/kubeconfig-file.ts';

export interface ClusterPkiOptions {
  clusterName?: string;
  /** Names and addresses of the API server, beside the usual kubernetes.default.svc… and localhost. */
  sans: readonly string[];
  /** URL in admin.conf, and in the components' files unless `componentServer` is given. */
  adminServer: string;
  componentServer?: string;
  nodes?: readonly NodeIdentity[];
  clusterDomain?: string;
}

export interface NodeIdentity {
  name: string;
  addresses: readonly string[];
  /** URL of the API server as this node reaches it; default `componentServer`. */
  server?: string;
}

/** Files of one certificate. */
export interface KeyPairFiles {
  cert: string;
  key: string;
}

export interface ClusterPki {
  ca: KeyPairFiles;
  apiserver: KeyPairFiles;
  kubeletClient: KeyPairFiles;
  kubeconfigs: { admin: string; controllerManager: string; scheduler: string; kubeProxy: string };
  nodes: Record<string, { kubeconfig: string; serving: KeyPairFiles }>;
}

/** Makes what is missing, out of date, or signed by another CA. Synchronous: it runs before anything else does. */
export function createClusterPki(directory: string, options: ClusterPkiOptions): ClusterPki {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const clusterName = options.clusterName ?? 'podwire';
  const componentServer = options.componentServer ?? options.adminServer;
  const files = (name: string): KeyPairFiles => ({
    cert: join(directory, `${name}.crt`),
    key: join(directory, `${name}.key`),
  });
  const ca = ensureKeyPair(
    files('ca'),
    () => true,
    () => createCertificateAuthority('kubernetes'),
  );

  const leaf = (name: string, request: LeafRequest): KeyPairFiles => {
    ensureKeyPair(
      files(name),
      pair => certificateServes(pair.cert, ca.cert, request.sans ?? []),
      () => issueCertificate(ca, request),
    );
    return files(name);
  };
  const kubeconfig = (
    name: string,
    server: string,
    user: { cn: string; organizations?: readonly string[] },
  ): string => {
    const file = join(directory, `${name}.conf`);
    if (kubeconfigServes(file, server, ca.cert)) return file;
    const credentials = issueCertificate(ca, { ...user, usages: ['client'] });
    writeSecret(file, renderKubeconfig({ clusterName, server, ca: ca.cert, userName: user.cn, credentials }));
    return file;
  };

  const nodes: ClusterPki['nodes'] = {};
  for (const node of options.nodes ?? [])
    nodes[node.name] = {
      kubeconfig: kubeconfig(`kubelet-${node.name}`, node.server ?? componentServer, {
        cn: `system:node:${node.name}`,
        organizations: ['system:nodes'],
      }),
      serving: leaf(`kubelet-${node.name}`, {
        cn: `system:node:${node.name}`,
        organizations: ['system:nodes'],
        sans: [node.name, ...node.addresses],
        usages: ['server'],
      }),
    };
  return {
    ca: files('ca'),
    apiserver: leaf('apiserver', {
      cn: 'kube-apiserver',
      sans: [...new Set([...serverNames(options.clusterDomain ?? 'cluster.local'), ...options.sans])],
      usages: ['server'],
    }),
    kubeletClient: leaf('apiserver-kubelet-client', {
      cn: 'kube-apiserver-kubelet-client',
      organizations: ['system:masters'],
      usages: ['client'],
    }),
    kubeconfigs: {
      admin: kubeconfig('admin', options.adminServer, {
        cn: 'kubernetes-admin',
        organizations: ['system:masters'],
      }),
      controllerManager: kubeconfig('controller-manager', componentServer, {
        cn: 'system:kube-controller-manager',
      }),
      scheduler: kubeconfig('scheduler', componentServer, { cn: 'system:kube-scheduler' }),
      kubeProxy: kubeconfig('kube-proxy', componentServer, { cn: 'system:kube-proxy' }),
    },
    nodes,
  };
}

function serverNames(domain: string): string[] {
  const service = 'kubernetes.default.svc';
  return [
    'localhost',
    '127.0.0.1',
    '::1',
    'kubernetes',
    'kubernetes.default',
    service,
    `${service}.${domain}`,
  ];
}

function ensureKeyPair(files: KeyPairFiles, good: (pair: KeyPair) => boolean, make: () => KeyPair): KeyPair {
  if (existsSync(files.cert) && existsSync(files.key)) {
    const pair = { cert: readFileSync(files.cert, 'utf8'), key: readFileSync(files.key, 'utf8') };
    if (good(pair)) return pair;
  }
  const pair = make();
  writeSecret(files.key, pair.key);
  writeSecret(files.cert, pair.cert, 0o644);
  return pair;
}

/** The file names this server and CA, and its certificate (first in the file after the CA) still has a month. */
function kubeconfigServes(file: string, server: string, ca: string): boolean {
  if (!existsSync(file)) return false;
  const text = readFileSync(file, 'utf8');
  const certificate = /client-certificate-data: *(\S+)/.exec(text)?.[1];
  if (certificate === undefined || !text.includes(`server: ${server}\n`)) return false;
  if (!text.includes(Buffer.from(ca, 'utf8').toString('base64'))) return false;
  return certificateServes(Buffer.from(certificate, 'base64').toString('utf8'), ca, []);
}

/** Written beside and moved over, so that a reader or a crash never sees half a file. */
function writeSecret(file: string, text: string, mode = 0o600): void {
  const beside = `${file}.tmp`;
  writeFileSync(beside, text, { mode });
  renameSync(beside, file);
}
