// What a lab is: its name, size, addresses and directories, as plain data that every lab process can be told.
// A lab is one cluster on this machine; each node is a network namespace on a common underlay.
import { join } from 'node:path';
import { PodwireError } from '../lib/errors.ts';

export const DEFAULT_DIRECTORY = '/var/lib/podwire';
export const DEFAULT_NAME = 'lab';
export const DEFAULT_API_PORT = 6443;
/** A bridge of 2 cores carries this many containerd processes; more is a typing error rather than a wish. */
export const MAX_NODES = 50;

/** How pods of different nodes reach each other. */
export const OVERLAY_BACKENDS = ['vxlan', 'host-gw'] as const;
export type OverlayBackend = (typeof OVERLAY_BACKENDS)[number];

/** How nodes learn where pods are: an overlay from Node objects, or BGP with Calico's resources. */
export const ROUTINGS = ['vxlan', 'bgp'] as const;
export type Routing = (typeof ROUTINGS)[number];

export const PROXY_MODES = ['iptables', 'nftables', 'userspace'] as const;
export type ProxyMode = (typeof PROXY_MODES)[number];

export interface LabOptions {
  directory: string;
  name: string;
  nodes: number;
  /** Port on 127.0.0.1 for people; undefined: 6443 or the next free one. */
  apiPort?: number;
  families: ('ipv4' | 'ipv6')[];
  overlay: OverlayBackend;
  proxyMode: ProxyMode;
  routing: Routing;
}

export interface LabNode {
  name: string;
  netns: string;
  /** Underlay addresses, one a family, without prefix length. */
  addresses: string[];
  directory: string;
}

/** Everything that follows from the options; written to `lab.json` so that `status` and `down` need no flags. */
export interface LabSpec {
  version: 1;
  name: string;
  directory: string;
  families: ('ipv4' | 'ipv6')[];
  overlay: OverlayBackend;
  proxyMode: ProxyMode;
  routing: Routing;
  apiPort: number;
  underlayCidrs: string[];
  /** Addresses of the switch, one a family: every member's default gateway. */
  gateways: string[];
  clusterCidrs: string[];
  serviceCidrs: string[];
  switchNetns: string;
  controlPlane: LabNode;
  nodes: LabNode[];
}

const FAMILY = {
  ipv4: {
    underlay: '172.30.0.0/24',
    cluster: '10.244.0.0/16',
    service: '10.96.0.0/16',
    host: (n: number) => `172.30.0.${n}`,
  },
  ipv6: {
    underlay: 'fd00:172:30::/64',
    cluster: 'fd00:10:244::/56',
    service: 'fd00:10:96::/112',
    host: (n: number) => `fd00:172:30::${n.toString(16)}`,
  },
} as const;

/** Underlay host numbers: the switch, the control plane, then the nodes. */
const GATEWAY_HOST = 1;
const CONTROL_PLANE_HOST = 2;
const FIRST_NODE_HOST = 11;

/** `<directory>/labs/<name>` holds one cluster; `<directory>/cache` what several share. */
export function labDirectory(directory: string, name: string): string {
  return join(directory, 'labs', name);
}

export function cacheDirectory(directory: string): string {
  return join(directory, 'cache');
}

/** Throws PodwireError('INVALID_OPTION') that says what is wrong and what is allowed. */
export function validateLabName(name: string): void {
  if (!/^[a-z]([a-z0-9-]{0,14}[a-z0-9])?$/.test(name))
    throw new PodwireError(
      'INVALID_OPTION',
      `lab name '${name}': use 1 to 16 lower-case letters, digits and '-', beginning with a letter`,
    );
}

/** A dot cannot be in a lab's name, so no lab's prefix is another's. */
export function netnsName(lab: string, member: string): string {
  return `pw.${lab}.${member}`;
}

/** Plans a lab. Pure: nothing is looked at or made. */
export function planLab(options: LabOptions & { apiPort: number }): LabSpec {
  validateLabName(options.name);
  if (!Number.isInteger(options.nodes) || options.nodes < 1 || options.nodes > MAX_NODES)
    throw new PodwireError('INVALID_OPTION', `--nodes ${options.nodes}: use a number from 1 to ${MAX_NODES}`);
  const directory = labDirectory(options.directory, options.name);
  const families = options.families.map(family => FAMILY[family]);
  const member = (name: string, host: number): LabNode => ({
    name,
    netns: netnsName(options.name, name),
    addresses: families.map(family => family.host(host)),
    directory: join(directory, 'nodes', name),
  });
  return {
    version: 1,
    name: options.name,
    directory,
    families: options.families,
    overlay: options.overlay,
    proxyMode: options.proxyMode,
    routing: options.routing,
    apiPort: options.apiPort,
    underlayCidrs: families.map(family => family.underlay),
    gateways: families.map(family => family.host(GATEWAY_HOST)),
    clusterCidrs: families.map(family => family.cluster),
    serviceCidrs: families.map(family => family.service),
    switchNetns: netnsName(options.name, 'net'),
    controlPlane: member('cp', CONTROL_PLANE_HOST),
    nodes: Array.from({ length: options.nodes }, (_, i) => member(`node${i + 1}`, FIRST_NODE_HOST + i)),
  };
}

/** Files of one lab, all below its directory. */
export function labPaths(spec: Pick<LabSpec, 'directory'>) {
  const at = (...parts: string[]) => join(spec.directory, ...parts);
  return {
    spec: at('lab.json'),
    kubeconfig: at('kubeconfig'),
    pki: at('pki'),
    store: at('store'),
    logs: at('logs'),
    log: (component: string) => at('logs', `${component}.log`),
    supervisorSocket: at('supervisor.sock'),
    lock: at('lab.lock'),
  };
}

/** Files of one node, all below its directory. Kept short: a Unix socket's path may have 107 bytes. */
export function nodePaths(node: Pick<LabNode, 'directory'>) {
  const at = (...parts: string[]) => join(node.directory, ...parts);
  return {
    containerd: at('containerd'),
    containerdSocket: at('containerd', 'c.sock'),
    cniSocket: at('cni.sock'),
    cniConf: at('net.d'),
    ipam: at('ipam'),
    agentSocket: at('agent.sock'),
    podLogs: at('pods'),
    kubelet: at('kubelet'),
    xtablesLock: at('xtables.lock'),
    subnetEnv: at('subnet.env'),
  };
}
