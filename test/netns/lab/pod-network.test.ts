// Pods of a lab with a host port and bandwidth limits: containerd hands both to the plugins of the lab's list.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { run } from '../../../src/linux/exec.ts';
import { eventually, kubectl, kubectlOk, LabDirectory } from '../../harness/lab.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const labs = new LabDirectory();
const HOST_PORT = 18080;

const POD = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: {
    name: 'limited',
    annotations: {
      'kubernetes.io/ingress-bandwidth': '10M',
      'kubernetes.io/egress-bandwidth': '20M',
    },
  },
  spec: {
    nodeName: 'node1',
    terminationGracePeriodSeconds: 0,
    containers: [
      {
        name: 'hello',
        image: 'localhost/podwire/hello:1',
        ports: [{ containerPort: 8080, hostPort: HOST_PORT }],
      },
    ],
  },
};

describe('host ports and bandwidth in a lab', { skip }, () => {
  after(() => labs.remove());

  test('both work with the pod and are gone with it', async () => {
    const lab = await labs.up('podnet', '--nodes', '2');
    const created = await kubectl(lab.kubeconfig, ['apply', '-f', '-'], JSON.stringify(POD));
    assert.equal(created.code, 0, created.stderr);
    await kubectlOk(lab.kubeconfig, ['wait', '--for=condition=Ready', 'pod/limited', '--timeout=30s']);
    const node1 = `/run/netns/${lab.lab.nodes[0]!.netns}`;
    const node2 = `/run/netns/${lab.lab.nodes[1]!.netns}`;
    const in1 = async (...command: string[]): Promise<string> =>
      (await run(command[0]!, command.slice(1), { netnsPath: node1, timeoutMs: 10_000 })).stdout;

    const nodeIp = await kubectlOk(lab.kubeconfig, [
      'get',
      'node',
      'node1',
      '-o',
      'jsonpath={.status.addresses[0].address}',
    ]);
    const answer = await eventually('an answer on the host port', async () => {
      const ask = `exec 3<>/dev/tcp/${nodeIp}/${HOST_PORT}; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
      const got = await run('bash', ['-c', ask], { netnsPath: node2, timeoutMs: 5_000 });
      return got.code === 0 ? got.stdout : undefined;
    });
    assert.match(answer, /limited/);

    const shapers = await in1('tc', 'qdisc', 'show');
    assert.match(shapers, /tbf .* rate 10Mbit/, 'what the pod receives');
    assert.match(shapers, /tbf .* rate 20Mbit/, 'what the pod sends');

    await kubectlOk(lab.kubeconfig, ['delete', 'pod', 'limited', '--now']);
    await eventually('the node is as before', async () => {
      const ports = await in1('nft', 'list', 'table', 'inet', 'podwire_cni');
      const left = await in1('tc', 'qdisc', 'show');
      return !ports.includes(String(HOST_PORT)) && !left.includes('tbf') ? true : undefined;
    });
  });
});
