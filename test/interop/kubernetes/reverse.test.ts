// The other way round: Kubernetes' own kube-proxy and kube-controller-manager 1.20 at our API server, with the identities and
// rights that it gives them. They must start, stay, and do their work.
// We serve what today's Kubernetes serves: discovery.k8s.io/v1beta1 and policy/v1beta1 went in 1.25. So kube-proxy 1.20 is told
// to read Endpoints, kube-controller-manager's EndpointSlice controller waits forever beside the others, and kube-scheduler
// 1.20 waits for PodDisruptionBudgets v1beta1 and places nothing; from 1.21 on they ask for v1.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Pod, Stored } from '../../../src/api/types.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { type ControlPlane, registerNode, startControlPlane } from '../../harness/control-plane.ts';
import { ProxyNode } from '../../netns/proxy/node.ts';
import { service } from '../../unit/proxy/object-fixtures.ts';
import { bringIn, eventually } from '../overlay/flanneld-process.ts';
import { KubeProxyProcess } from './kube-proxy-process.ts';
import { skipWithout } from './peers.ts';
import { PeerProcess } from './real-control-plane.ts';

const skip = skipWithout('kube-proxy', 'kube-controller-manager');
const limits = { skip, timeout: 150_000 };

describe("Kubernetes' own programs at our API server", limits, () => {
  let plane: ControlPlane;
  const peers: PeerProcess[] = [];

  before(async () => {
    plane = await startControlPlane();
    await registerNode(plane.admin, 'node1');
    await registerNode(plane.admin, 'node2');
  });
  after(async () => {
    for (const peer of peers) await peer.stop();
    await plane?.stop();
  });

  const soon = <T>(what: string, look: () => Promise<T | undefined | false>, ms = 30_000): Promise<T> =>
    eventually(what, look, ms).catch(error => {
      throw new Error(`${error.message}\n${peers.map(({ log }) => log.slice(-4000)).join('\n')}`);
    });
  const kubeconfigOf = (name: string): string => plane.kubeconfig.replace(/admin\.conf$/, `${name}.conf`);

  test('kube-proxy: a Service works, and a change of its endpoints arrives', limits, async t => {
    const net = new ProxyNode('rev');
    await net.reconciler.stop();
    const end = bringIn(net.node, Number(new URL(plane.admin.config.server).port));
    const proxy = new KubeProxyProcess({
      namespace: net.node,
      whose: 'real',
      kubeconfig: kubeconfigOf('kube-proxy'),
      iptables: 'nft',
      fields: {
        mode: 'iptables',
        hostnameOverride: 'node1',
        featureGates: { EndpointSliceProxying: false },
        clusterCIDR: '10.244.0.0/16',
        conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
      },
    });
    t.after(async () => {
      await proxy.close();
      end();
      await net.close();
    });
    const port = [{ name: 'web', port: 80, protocol: 'TCP' }];
    const made = await plane.admin.create(RESOURCE.services, service('default/web', { ports: port }));
    const subsets = (ip: string) => ({ subsets: [{ addresses: [{ ip }], ports: port }] });
    await plane.admin.create(RESOURCE.endpoints, {
      metadata: { name: 'web', namespace: 'default' },
      ...subsets('10.244.1.3'),
    });
    proxy.start();
    await proxy.ready();
    const becomes = (wanted: string): Promise<unknown> =>
      eventually(wanted, async () => {
        const got = await net.client.outcome(made.spec?.clusterIP ?? '', 80, { timeoutMs: 500 });
        return got === wanted;
      }).catch(error => {
        throw new Error(`${error.message}\n${proxy.log.slice(-4000)}`);
      });
    await becomes('pod2');
    await plane.admin.patch(RESOURCE.endpoints, 'web', subsets('10.244.2.4'), {
      namespace: 'default',
      type: 'merge',
    });
    await becomes('far3');
    assert.doesNotMatch(proxy.log, /forbidden|Failed to (list|watch)/);
  });

  test('kube-controller-manager: Deployment to pods, endpoints of a Service, garbage', limits, async () => {
    const kubeconfig = kubeconfigOf('controller-manager');
    const manager = new PeerProcess('kube-controller-manager', [
      ...[`--kubeconfig=${kubeconfig}`, `--authentication-kubeconfig=${kubeconfig}`],
      ...[`--authorization-kubeconfig=${kubeconfig}`, '--bind-address=127.0.0.1', '--port=0'],
      ...['--secure-port=0', '--leader-elect=true', '--allocate-node-cidrs=true'],
      ...['--cluster-cidr=10.244.0.0/16'],
    ]);
    peers.push(manager);
    const labels = { app: 'a' };
    await plane.admin.create(RESOURCE.deployments, {
      metadata: { name: 'a', namespace: 'default' },
      spec: {
        replicas: 3,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: { containers: [{ name: 'c', image: 'none', ports: [{ containerPort: 80 }] }] },
        },
      },
    });
    await plane.admin.create(RESOURCE.services, {
      metadata: { name: 'a', namespace: 'default' },
      spec: { selector: labels, ports: [{ port: 80 }] },
    });
    const pods = async (): Promise<Stored<Pod>[]> =>
      (await plane.admin.list(RESOURCE.pods, { namespace: 'default', labelSelector: 'app=a' })).items;
    await soon('three pods', async () => (await pods()).length === 3);
    await soon('podCIDRs', async () =>
      (await plane.admin.list(RESOURCE.nodes)).items.every(({ spec }) => spec?.podCIDR),
    );
    for (const [n, { metadata }] of (await pods()).entries())
      await plane.admin.patch(
        RESOURCE.pods,
        metadata.name,
        {
          status: {
            phase: 'Running',
            podIP: `10.244.0.${n + 2}`,
            podIPs: [{ ip: `10.244.0.${n + 2}` }],
            conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: new Date().toISOString() }],
          },
        },
        { namespace: 'default', type: 'strategic', subresource: 'status' },
      );
    await soon('three endpoints', async () => {
      const { subsets } = await plane.admin.get(RESOURCE.endpoints, 'a', 'default');
      return subsets?.flatMap(({ addresses }) => addresses ?? []).length === 3;
    });
    await soon('the Deployment says three are ready', async () => {
      const { status } = await plane.admin.get(RESOURCE.deployments, 'a', 'default');
      return status?.readyReplicas === 3;
    });
    await plane.admin.delete(RESOURCE.deployments, 'a', {
      namespace: 'default',
      propagationPolicy: 'Background',
    });
    await soon('ReplicaSet gone', async () => {
      const { items } = await plane.admin.list(RESOURCE.replicaSets, { namespace: 'default' });
      return items.length === 0;
    });
  });
});
