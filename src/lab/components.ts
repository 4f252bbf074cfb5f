// The processes of a lab: which programs run where, with which flags. Pure: a table from the lab's plan.
import { join } from 'node:path';
import { joinHostPort } from '../../proxy/model/types.ts';
import { CONTAINERD_ENV } from './containerd.ts';
import type { LabNode, LabSpec } from './spec.ts';
import { labPaths, nodePaths } from './spec.ts';

/** Marks every process of a lab, and whatever it starts, in /proc/PID/environ: how `down` finds what is left. */
export const LAB_MARKER = 'PODWIRE_LAB';

/** The API server's port on the underlay, as everywhere in Kubernetes. */
export const UNDERLAY_API_PORT = 6443;

/** The descriptor under which the API server inherits the listener on 127.0.0.1. */
export const LISTENER_FD = 3;

export interface ComponentSpec {
  name: string;
  command: string;
  args: string[];
  netnsPath: string;
  env: Record<string, string>;
  /** Inherits the supervisor's listening socket on 127.0.0.1 as LISTENER_FD. */
  inheritsListener?: boolean;
  /** Components with a lower number are stopped first: agents before what they talk to. */
  stopOrder: number;
}

export function netnsPath(name: string): string {
  return `/run/netns/${name}`;
}

/** `podwire` is the absolute path of dist/bin/podwire. */
export function planComponents(spec: LabSpec, podwire: string): ComponentSpec[] {
  const paths = labPaths(spec);
  const env = { [LAB_MARKER]: spec.directory };
  const flag = (name: string, values: string[]) => values.flatMap(value => [`--${name}`, value]);
  const { controlPlane } = spec;
  const control: ComponentSpec[] = [
    {
      name: 'apiserver',
      command: podwire,
      args: [
        'apiserver',
        ...['--data-dir', paths.store, '--pki-dir', paths.pki, '--listen-fd', String(LISTENER_FD)],
        ...flag(
          'listen',
          controlPlane.addresses.map(address => joinHostPort(address, UNDERLAY_API_PORT)),
        ),
        ...['--advertise-address', controlPlane.addresses[0]!],
        ...flag('service-cidr', spec.serviceCidrs),
      ],
      netnsPath: netnsPath(controlPlane.netns),
      env,
      inheritsListener: true,
      stopOrder: 3,
    },
    {
      name: 'controllers',
      command: podwire,
      args: [
        'controllers',
        ...['--kubeconfig', join(paths.pki, 'controller-manager.conf')],
        ...['--scheduler-kubeconfig', join(paths.pki, 'scheduler.conf')],
        ...flag('cluster-cidr', spec.clusterCidrs),
      ],
      netnsPath: netnsPath(controlPlane.netns),
      env,
      stopOrder: 2,
    },
  ];
  return [...control, ...spec.nodes.flatMap(node => planNode(spec, node, podwire, env))];
}

function planNode(
  spec: LabSpec,
  node: LabNode,
  podwire: string,
  env: Record<string, string>,
): ComponentSpec[] {
  const lab = labPaths(spec);
  const paths = nodePaths(node);
  const flag = (name: string, values: string[]) => values.flatMap(value => [`--${name}`, value]);
  return [
    {
      name: `containerd-${node.name}`,
      command: 'containerd',
      args: ['--config', join(paths.containerd, 'config.toml')],
      netnsPath: netnsPath(node.netns),
      // The CNI launcher finds this node's agent through containerd's environment.
      env: { ...env, ...CONTAINERD_ENV, PODWIRE_CNI_SOCKET: paths.cniSocket },
      stopOrder: 4,
    },
    {
      name: `agent-${node.name}`,
      command: podwire,
      args: [
        'agent',
        ...['--kubeconfig', join(lab.pki, `kubelet-${node.name}.conf`)],
        ...['--proxy-kubeconfig', join(lab.pki, 'kube-proxy.conf')],
        ...['--node-name', node.name],
        ...flag('node-ip', node.addresses),
        ...['--state-dir', node.directory],
        ...['--containerd-socket', paths.containerdSocket],
        ...['--serving-cert', join(lab.pki, `kubelet-${node.name}.crt`)],
        ...['--serving-key', join(lab.pki, `kubelet-${node.name}.key`)],
        ...['--client-ca', join(lab.pki, 'ca.crt')],
        ...flag('cluster-cidr', spec.clusterCidrs),
        ...flag('service-cidr', spec.serviceCidrs),
        ...['--overlay', spec.overlay, '--proxy-mode', spec.proxyMode],
        ...['--routing', spec.routing],
        ...['--cgroup-parent', cgroupParent(spec, node.name)],
      ],
      netnsPath: netnsPath(node.netns),
      env: { ...env, XTABLES_LOCKFILE: paths.xtablesLock },
      stopOrder: 1,
    },
  ];
}

/** Every container of the lab lives below `/podwire/<lab>` in each cgroup hierarchy. */
export function cgroupParent(spec: Pick<LabSpec, 'name'>, nodeName?: string): string {
  return nodeName === undefined ? `/podwire/${spec.name}` : `/podwire/${spec.name}/${nodeName}`;
}
