// What a lab needs before its processes start: programs, image template, certificates, each node's directories.
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { joinHostPort } from '../../proxy/model/types.ts';
import { createClusterPki } from '../apiserver/pki.ts';
import { nthAddress, requireCidr } from '../lib/cidr.ts';
import { hasCode, PodwireError } from '../lib/errors.ts';
import { formatIp } from '../lib/ip.ts';
import { listenTcp } from '../linux/listen.ts';
import { UNDERLAY_API_PORT } from './components.ts';
import { cloneTemplateRoot, containerdPaths, writeContainerdConfig } from './containerd.ts';
import { DEFAULT_API_PORT, type LabSpec, labPaths, nodePaths } from './spec.ts';

/** Program → Debian package. */
const PROGRAMS: Record<string, string> = {
  containerd: 'containerd',
  'containerd-shim-runc-v2': 'containerd',
  runc: 'runc',
  iptables: 'iptables',
  'iptables-restore': 'iptables',
  nsenter: 'util-linux',
};
const PORT_ATTEMPTS = 50;

/** Throws PodwireError('MISSING_PROGRAM') that names everything missing and the command that installs it. */
export function requirePrograms(path = `${process.env.PATH}:/usr/sbin:/sbin`): void {
  const has = (program: string) => path.split(':').some(directory => isExecutable(join(directory, program)));
  const missing = Object.keys(PROGRAMS).filter(program => !has(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(program => PROGRAMS[program]!))];
  throw new PodwireError(
    'MISSING_PROGRAM',
    `missing: ${missing.join(', ')}. Install with 'npm run setup' in the checkout, or: apt-get install ${packages.join(' ')}`,
  );
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Listens on 127.0.0.1. A port asked for must be free; otherwise the first free one from 6443 on is taken. */
export function openApiListener(wanted: number | undefined): { fd: number; port: number } {
  const first = wanted ?? DEFAULT_API_PORT;
  const last = wanted ?? first + PORT_ATTEMPTS;
  for (let port = first; port <= last; port++) {
    try {
      return { fd: listenTcp({ address: '127.0.0.1', port, backlog: 512 }), port };
    } catch (thrown) {
      if (!hasCode(thrown, 'EADDRINUSE')) throw thrown;
    }
  }
  throw new PodwireError(
    'PORT_TAKEN',
    wanted === undefined
      ? `no free port from ${first} to ${last} on 127.0.0.1 for the API server; choose one with --api-port`
      : `port ${wanted} on 127.0.0.1 is taken; choose another with --api-port, or leave the flag out`,
  );
}

/** Certificates and kubeconfig files; what is there and good is kept. */
export function preparePki(spec: LabSpec): string {
  const { controlPlane } = spec;
  const pki = createClusterPki(labPaths(spec).pki, {
    clusterName: `podwire-${spec.name}`,
    sans: [controlPlane.name, ...controlPlane.addresses, ...spec.serviceCidrs.map(firstServiceAddress)],
    adminServer: `https://127.0.0.1:${spec.apiPort}`,
    componentServer: `https://${joinHostPort(controlPlane.addresses[0]!, UNDERLAY_API_PORT)}`,
    nodes: spec.nodes.map(node => ({ name: node.name, addresses: node.addresses })),
  });
  return pki.kubeconfigs.admin;
}

/** The address of Service default/kubernetes: the first of the range. */
function firstServiceAddress(cidr: string): string {
  return formatIp(nthAddress(requireCidr(cidr), 1)!);
}

export function prepareNodes(spec: LabSpec, template: string, cniBinDir: string): void {
  for (const node of spec.nodes) {
    const paths = nodePaths(node);
    for (const directory of [paths.cniConf, paths.ipam, paths.podLogs, paths.kubelet])
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    const containerd = containerdPaths(paths.containerd);
    if (!existsSync(containerd.root)) cloneTemplateRoot(template, containerd.root);
    writeContainerdConfig({ directory: paths.containerd, cniBinDir, cniConfDir: paths.cniConf });
  }
}
