// A cluster whose kube-apiserver is the real one and everything else is ours: node agents with the identity and the rights
// of kubelets (Node authorizer, NodeRestriction), controllers and scheduler with those of Kubernetes' own.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Deployment, Pod, Stored } from '../../../src/api/types.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { HELLO_IMAGE, HELLO_PORT } from '../../../src/lab/images.ts';
import { kubectlOk } from '../../harness/lab.ts';
import { eventually } from '../overlay/flanneld-process.ts';
import { AgentNode, SKIP_WITHOUT_CONTAINERD } from './agent-node.ts';
import { OurControllers, Underlay } from './our-parts.ts';
import { skipWithout } from './peers.ts';
import { RealControlPlane } from './real-control-plane.ts';

const skip = skipWithout('kube-apiserver') || SKIP_WITHOUT_CONTAINERD;
const limits = { skip, timeout: 220_000 };
const SERVER = '10.99.0.100';
const NODES = [1, 2].map(n => ({ name: `node${n}`, addresses: [`10.99.0.${n}`] }));

function hello(replicas: number, text = 'one'): Deployment {
  const labels = { app: 'hello' };
  return {
    metadata: { name: 'hello', namespace: 'default' },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels: { ...labels, text } },
        spec: { containers: [{ name: 'hello', image: HELLO_IMAGE, ports: [{ containerPort: HELLO_PORT }] }] },
      },
    },
  };
}

describe('nodes, controllers and scheduler of ours at a real kube-apiserver', limits, () => {
  let underlay: Underlay;
  let plane: RealControlPlane;
  let controllers: OurControllers | undefined;
  const nodes: AgentNode[] = [];

  before(async () => {
    underlay = new Underlay('k8c');
    const namespace = underlay.host('cp', SERVER);
    plane = await RealControlPlane.start({ nodes: NODES, home: { namespace, address: SERVER } });
    controllers = await OurControllers.start(plane, namespace);
    for (const { name, addresses } of NODES) {
      const address = addresses[0]!;
      const node = new AgentNode({ name, address, namespace: underlay.host(name, address), plane });
      nodes.push(node);
      await node.start();
    }
  });

  after(async () => {
    for (const node of nodes) await node.close();
    await controllers?.stop();
    await plane?.stop();
    underlay?.lab.close();
  });

  const logs = (): string =>
    [controllers?.log ?? '', ...nodes.map(({ log }) => log)].map(log => log.slice(-3000)).join('\n');
  const soon = <T>(what: string, look: () => Promise<T | undefined | false>, ms = 25_000): Promise<T> =>
    eventually(what, look, ms).catch(error => {
      throw new Error(`${error.message}\n${logs()}`);
    });
  const pods = async (): Promise<Stored<Pod>[]> =>
    (await plane.admin.list(RESOURCE.pods, { namespace: 'default', labelSelector: 'app=hello' })).items;
  const ready = (pod: Pod): boolean =>
    pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;

  test(
    'nodes register, become Ready, renew their leases, get podCIDRs, join the overlay',
    limits,
    async () => {
      for (const { name } of NODES) {
        const node = await soon(`${name} is Ready`, async () => {
          const found = await plane.admin.get(RESOURCE.nodes, name).catch(() => undefined);
          const condition = found?.status?.conditions?.find(({ type }) => type === 'Ready');
          return condition?.status === 'True' && found?.spec?.podCIDR ? found : undefined;
        });
        assert.match(node.spec?.podCIDR ?? '', /^10\.244\.\d+\.0\/24$/);
        const lease = await soon(`the lease of ${name}`, async () =>
          plane.admin.get(RESOURCE.leases, name, 'kube-node-lease').catch(() => undefined),
        );
        assert.ok(lease.spec?.renewTime);
      }
    },
  );

  test('a Deployment runs on both nodes, a Service leads to every pod from every node', limits, async () => {
    await plane.admin.create(RESOURCE.deployments, hello(4));
    const running = await soon('four pods are ready', async () => {
      const found = await pods();
      return found.length === 4 && found.every(ready) ? found : undefined;
    });
    assert.equal(new Set(running.map(({ spec }) => spec?.nodeName)).size, 2);
    const service = await plane.admin.create(RESOURCE.services, {
      metadata: { name: 'hello', namespace: 'default' },
      spec: { selector: { app: 'hello' }, ports: [{ port: 80, targetPort: HELLO_PORT }] },
    });
    const slices = await soon('endpoints', async () => {
      const { items } = await plane.admin.list(RESOURCE.endpointSlices, {
        namespace: 'default',
        labelSelector: 'kubernetes.io/service-name=hello',
      });
      return items.flatMap(({ endpoints }) => endpoints ?? []).length === 4 ? items : undefined;
    });
    const endpoints = slices.flatMap(slice => slice.endpoints);
    assert.ok(endpoints.every(one => one.nodeName?.startsWith('node') && one.conditions?.ready));
    for (const node of nodes) {
      const answered = new Set<string>();
      await soon(`all pods answer ${node.name}`, async () => {
        const text = await node.http(service.spec?.clusterIP ?? '', 80).catch(() => '');
        const name = /hello-\w+-\w+/.exec(text)?.[0];
        if (name) answered.add(name);
        return answered.size === 4;
      });
    }
  });

  test('kubectl logs and exec through the real kube-apiserver reach our kubelet', limits, async () => {
    const [pod] = await pods();
    const name = pod!.metadata.name;
    const kubeconfig = plane.pki.kubeconfigs.admin;
    assert.equal(await kubectlOk(kubeconfig, ['exec', name, '--', 'echo', 'from inside']), 'from inside\n');
    await kubectlOk(kubeconfig, ['logs', name]);
  });

  test('a pod reaches the API server by its Service, kubernetes.default', limits, async () => {
    const [pod] = await pods();
    const answer = await kubectlOk(plane.pki.kubeconfigs.admin, [
      ...['exec', pod!.metadata.name, '--', 'sh', '-c', 'nc -w 2 10.96.0.1 443 </dev/null && echo open'],
    ]);
    assert.match(answer, /open/);
  });

  test('a new template rolls out', limits, async () => {
    await plane.admin.patch(
      RESOURCE.deployments,
      'hello',
      { spec: hello(4, 'two').spec },
      { type: 'merge', namespace: 'default' },
    );
    await soon('only new pods', async () => {
      const found = await pods();
      return found.length === 4 && found.every(pod => ready(pod) && pod.metadata.labels?.text === 'two');
    });
    await kubectlOk(plane.pki.kubeconfigs.admin, ['rollout', 'status', 'deployment/hello', '--timeout=30s']);
  });

  test('an agent killed and started again leaves its pods alone', limits, async () => {
    const before = (await pods()).map(({ metadata }) => metadata.uid).sort();
    await nodes[0]!.stopAgent('SIGKILL');
    nodes[0]!.startAgent();
    await soon('the node is Ready again', async () => {
      const { status } = await plane.admin.get(RESOURCE.nodes, 'node1');
      return status?.conditions?.some(({ type, status: value }) => type === 'Ready' && value === 'True');
    });
    assert.deepEqual((await pods()).map(({ metadata }) => metadata.uid).sort(), before);
  });

  test('a deleted Deployment goes with all that it owns', limits, async () => {
    await plane.admin.delete(RESOURCE.deployments, 'hello', {
      namespace: 'default',
      propagationPolicy: 'Foreground',
    });
    await soon('no pod left', async () => (await pods()).length === 0);
    await soon('no ReplicaSet left', async () => {
      const { items } = await plane.admin.list(RESOURCE.replicaSets, { namespace: 'default' });
      return items.length === 0;
    });
  });

  test('a namespace is emptied and goes', limits, async () => {
    await plane.admin.create(RESOURCE.namespaces, { metadata: { name: 'passing' } });
    await plane.admin.create(RESOURCE.configMaps, { metadata: { name: 'one', namespace: 'passing' } });
    await plane.admin.delete(RESOURCE.namespaces, 'passing');
    await soon('the namespace is gone', async () => {
      const { items } = await plane.admin.list(RESOURCE.namespaces);
      return !items.some(({ metadata }) => metadata.name === 'passing');
    });
  });

  test('nobody was forbidden anything', limits, () => {
    const forbidden = [controllers?.log ?? '', ...nodes.map(({ log }) => log)]
      .flatMap(log => log.split('\n'))
      .filter(line => / is forbidden: /.test(line));
    assert.deepEqual(forbidden, []);
  });
});
