// What a cluster with a real kube-apiserver has of ours beside its nodes: the network under them, controllers and scheduler.
import { join } from 'node:path';
import type { KubeObject } from '../../../src/api/types.ts';
import { type ChildHandle, spawnChild } from '../../../src/linux/exec.ts';
import { type LabNamespace, NetnsLab } from '../../harness/netns-lab.ts';
import type { RealControlPlane } from './real-control-plane.ts';

const PODWIRE = join(import.meta.dirname, '../../../src/cmd/podwire.ts');
const RBAC = { group: 'rbac.authorization.k8s.io', version: 'v1', namespaced: false } as const;
/** Kubernetes' own controllers have an identity each, ours have one together: it gets their roles. */
const CONTROLLERS = 'system:kube-controller-manager';
const CONTROLLER_ROLES = [
  ...['deployment-controller', 'replicaset-controller', 'endpoint-controller', 'endpointslice-controller'],
  ...['namespace-controller', 'pod-garbage-collector', 'generic-garbage-collector', 'node-controller'],
];

export interface Subject {
  kind: 'User' | 'Group';
  name: string;
}

export async function createRole(
  plane: RealControlPlane,
  name: string,
  rules: readonly object[],
): Promise<void> {
  const role: KubeObject & { rules: readonly object[] } = { metadata: { name }, rules };
  await plane.admin.create({ ...RBAC, plural: 'clusterroles', kind: 'ClusterRole' }, role);
}

export async function bindRole(plane: RealControlPlane, role: string, subject: Subject): Promise<void> {
  const apiGroup = RBAC.group;
  const binding: KubeObject & { roleRef: object; subjects: object[] } = {
    metadata: { name: `podwire:${role}` },
    roleRef: { apiGroup, kind: 'ClusterRole', name: role },
    subjects: [{ apiGroup, ...subject }],
  };
  await plane.admin.create({ ...RBAC, plural: 'clusterrolebindings', kind: 'ClusterRoleBinding' }, binding);
}

/** `podwire controllers` beside the API server. */
export class OurControllers {
  log = '';
  readonly #child: ChildHandle;

  private constructor(child: ChildHandle) {
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        this.log += chunk.toString('utf8');
      });
  }

  static async start(plane: RealControlPlane, namespace: LabNamespace): Promise<OurControllers> {
    for (const name of CONTROLLER_ROLES)
      await bindRole(plane, `system:controller:${name}`, { kind: 'User', name: CONTROLLERS });
    const { controllerManager, scheduler } = plane.pki.kubeconfigs;
    const args = [
      ...['--disable-warning=ExperimentalWarning', PODWIRE, 'controllers', '--kubeconfig', controllerManager],
      ...['--scheduler-kubeconfig', scheduler, '--cluster-cidr', '10.244.0.0/16'],
    ];
    const { netns } = namespace;
    return new OurControllers(
      spawnChild(process.execPath, args, { netns, stdio: ['ignore', 'pipe', 'pipe'] }),
    );
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
  }
}

/** Hosts on one switch, 10.99.0.0/24. */
export class Underlay {
  readonly lab: NetnsLab;
  readonly #switch: LabNamespace;
  #ports = 0;

  constructor(room: string) {
    this.lab = new NetnsLab(room);
    this.#switch = this.lab.namespace('sw');
    this.#switch.rt.addLink({ name: 'br0', kind: 'bridge', up: true });
  }

  host(name: string, address: string): LabNamespace {
    const host = this.lab.namespace(name);
    const port = `p${++this.#ports}`;
    this.lab.wire(host, 'eth0', this.#switch, port);
    this.#switch.rt.setLink(port, { master: 'br0', up: true });
    host.address('eth0', `${address}/24`);
    host.route('0.0.0.0/0', '10.99.0.254');
    return host;
  }
}
