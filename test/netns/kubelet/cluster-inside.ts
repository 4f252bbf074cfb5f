// Inside the node's namespace: our API server and the whole Kubelet against the node's containerd. The pod is bound by
// hand, as there is no scheduler here.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Node, Pod } from '../../../src/api/types.ts';
import { startApiServer } from '../../../src/apiserver/main.ts';
import { createClusterPki } from '../../../src/apiserver/pki.ts';
import { KubeClient } from '../../../src/client/client.ts';
import { loadKubeconfig } from '../../../src/client/kubeconfig.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { Kubelet } from '../../../src/kubelet/kubelet.ts';
import { run, spawnChild } from '../../../src/linux/exec.ts';
import { silentLogger } from '../../../src/observe/log.ts';

const [directory, socket, cgroup, nodeIp] = process.argv.slice(2) as [string, string, string, string];
const log = silentLogger();
const NODE = 'node-a';

const pki = createClusterPki(join(directory, 'pki'), {
  sans: ['127.0.0.1'],
  adminServer: 'https://127.0.0.1:6443',
  nodes: [{ name: NODE, addresses: [nodeIp] }],
});
const api = await startApiServer({
  dataDir: directory,
  tls: { certFile: pki.apiserver.cert, keyFile: pki.apiserver.key, clientCaFile: pki.ca.cert },
  listeners: [{ address: '127.0.0.1', port: 6443 }],
  serviceCidrs: ['10.96.0.0/16'],
  kubeletClient: { certFile: pki.kubeletClient.cert, keyFile: pki.kubeletClient.key, caFile: pki.ca.cert },
  log,
});
const admin = new KubeClient(loadKubeconfig(pki.kubeconfigs.admin));
const nodeFiles = pki.nodes[NODE]!;
const nodeClient = new KubeClient(loadKubeconfig(nodeFiles.kubeconfig));
const read = (path: string) => readFileSync(path, 'utf8');
const kubelet = new Kubelet({
  client: nodeClient,
  nodeName: NODE,
  nodeIps: [nodeIp],
  criSocket: socket,
  podLogDir: join(directory, 'logs'),
  stateDir: join(directory, 'kubelet'),
  cgroupParent: cgroup,
  clusterDns: ['10.96.0.10'],
  serving: {
    address: nodeIp,
    port: 10250,
    cert: read(nodeFiles.serving.cert),
    key: read(nodeFiles.serving.key),
    clientCa: read(pki.ca.cert),
  },
  log,
});

async function until<T>(
  what: string,
  test: () => Promise<T | undefined | false>,
  timeoutMs = 15_000,
): Promise<T> {
  const from = performance.now();
  let last: unknown;
  for (;;) {
    try {
      const value = await test();
      if (value) return value;
    } catch (thrown) {
      last = thrown;
    }
    if (performance.now() - from > timeoutMs)
      throw new Error(`not within ${timeoutMs} ms: ${what}`, { cause: last });
    await new Promise(resolve => setTimeout(resolve, 10));
  }
}

const conditionIs = (object: Node | Pod, type: string) =>
  object.status?.conditions?.some(condition => condition.type === type && condition.status === 'True');

async function kubectl(args: string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await run('kubectl', ['--kubeconfig', pki.kubeconfigs.admin, ...args], {
    env: { ...process.env, HOME: directory },
    input,
  });
  assert.equal(code, 0, `kubectl ${args.join(' ')}: ${stderr}`);
  return stdout;
}

try {
  const from = performance.now();
  await kubelet.start();
  const node = await until('node is Ready', async () => {
    const found = await admin.get(RESOURCE.nodes, NODE);
    return conditionIs(found, 'Ready') && found;
  });
  console.log(`node Ready after ${Math.round(performance.now() - from)} ms`);
  assert.equal(node.metadata.labels?.['kubernetes.io/hostname'], NODE);
  assert.deepEqual(node.status?.addresses?.[0], { type: 'InternalIP', address: nodeIp });
  await until(
    'lease',
    async () => (await admin.get(RESOURCE.leases, NODE, 'kube-node-lease')).spec?.renewTime,
  );

  const created = performance.now();
  await admin.create(RESOURCE.pods, {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'hello', namespace: 'default' },
    spec: {
      nodeName: NODE,
      containers: [
        {
          name: 'hello',
          image: 'localhost/podwire/hello:1',
          command: ['/bin/sh', '-c', 'echo "$KUBERNETES_SERVICE_HOST"; echo out; exec /bin/hello'],
        },
      ],
    },
  });
  await until('pod is Ready', async () =>
    conditionIs(await admin.get(RESOURCE.pods, 'hello', 'default'), 'Ready'),
  );
  console.log(`pod Ready after ${Math.round(performance.now() - created)} ms`);

  if (existsSync('/usr/bin/kubectl') || existsSync('/usr/local/bin/kubectl')) {
    assert.equal(await kubectl(['logs', 'hello']), '10.96.0.1\nout\n');
    assert.equal(await kubectl(['logs', 'hello', '--tail=1']), 'out\n');
    assert.equal(await kubectl(['exec', 'hello', '--', 'echo', 'from inside']), 'from inside\n');
    // Input ends, and its end reaches the command; so does a command's own exit code come back.
    assert.equal(await kubectl(['exec', '-i', 'hello', '--', 'cat'], 'to and fro\n'), 'to and fro\n');
    await assert.rejects(kubectl(['exec', 'hello', '--', 'sh', '-c', 'exit 7']), /exit code 7/);
    const file = join(directory, 'copied');
    writeFileSync(file, 'x'.repeat(300_000));
    await kubectl(['cp', file, 'hello:/tmp/copied']);
    assert.match(await kubectl(['exec', 'hello', '--', 'wc', '-c', '/tmp/copied']), /^300000 /);
    const forward = spawnChild('kubectl', [
      '--kubeconfig',
      pki.kubeconfigs.admin,
      'port-forward',
      'hello',
      '18080:8080',
    ]);
    await until('port-forward answers', async () =>
      (await (await fetch('http://127.0.0.1:18080/')).text()).startsWith('hello '),
    );
    forward.kill();
    const following = kubectl(['logs', '-f', 'hello']);
    await admin.delete(RESOURCE.pods, 'hello', { namespace: 'default' });
    assert.match(await following, /^10\.96\.0\.1\nout\n/);
    console.log('kubectl logs and exec work');
  } else {
    await admin.delete(RESOURCE.pods, 'hello', { namespace: 'default' });
  }
  const deleted = performance.now();
  await until('pod is gone', async () => {
    const list = await admin.list(RESOURCE.pods, { namespace: 'default' });
    return list.items.length === 0;
  });
  console.log(`pod gone after ${Math.round(performance.now() - deleted)} ms`);
} finally {
  await kubelet.stop();
  await nodeClient.close();
  await admin.close();
  await api.stop();
}
