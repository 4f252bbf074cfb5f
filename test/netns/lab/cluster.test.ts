// A whole cluster from `podwire up` to `podwire down`, driven by the real kubectl: issue by issue what a newcomer does.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { run, spawnChild } from '../../../src/linux/exec.ts';
import { eventually, kubectl, kubectlOk, LabDirectory, type UpReport } from '../../harness/lab.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const labs = new LabDirectory();
let lab: UpReport;
const k = (...args: string[]) => kubectlOk(lab.kubeconfig, args);
const apply = (manifest: string) => kubectl(lab.kubeconfig, ['apply', '-f', '-'], manifest);

describe('podwire up', { skip }, () => {
  before(async () => {
    lab = await labs.up('e2e', '--nodes', '3');
  });
  after(() => labs.remove());

  test('every node and a pod on every node reach the Service, in both families', () => {
    assert.equal(lab.rows.filter(row => row.error !== undefined).length, 0, JSON.stringify(lab.rows));
    const sources = new Set(lab.rows.map(row => row.from));
    assert.equal(sources.size, 6, 'three nodes and three pods ask');
    assert.ok(
      lab.rows.some(row => row.to.includes('fd00:')) && lab.rows.some(row => row.to.includes('10.96.')),
    );
  });

  test('pods are spread over the nodes', async () => {
    const nodes = await k('get', 'pods', '-l', 'app=hello', '-o', 'jsonpath={.items[*].spec.nodeName}');
    assert.deepEqual(nodes.split(' ').sort(), ['node1', 'node2', 'node3']);
  });

  test('packets between nodes are VXLAN on the underlay, port 8472', async () => {
    const [node1] = lab.lab.nodes;
    const dump = spawnChild('tcpdump', ['-n', '-l', '-c', '2', '-i', 'eth0', 'udp', 'port', '8472'], {
      netnsPath: `/run/netns/${node1!.netns}`,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let seen = '';
    dump.stdout?.on('data', (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await new Promise(resolve => setTimeout(resolve, 500));
    const ips = (
      await k(
        'get',
        'pods',
        '-l',
        'app=hello',
        '-o',
        'jsonpath={range .items[*]}{.spec.nodeName}={.status.podIP} {end}',
      )
    )
      .trim()
      .split(' ')
      .map(pair => pair.split('='));
    const remote = ips.find(([node]) => node !== 'node1')![1]!;
    const answer = await labs.podwire([
      'exec',
      '--name',
      'e2e',
      'node1',
      '--',
      'busybox',
      'wget',
      '-qO-',
      `http://${remote}:8080/`,
    ]);
    assert.equal(answer.code, 0, answer.stderr);
    const timer = setTimeout(() => dump.kill('SIGKILL'), 5000);
    await dump.exited;
    clearTimeout(timer);
    assert.match(seen, /\.8472: OTV|\.8472: VXLAN|8472/);
  });

  test('a pod reaches the Service by its DNS name', async () => {
    const [pod] = (
      await k('get', 'pods', '-l', 'app=hello', '-o', 'jsonpath={.items[*].metadata.name}')
    ).split(' ');
    const answer = await eventually('DNS', async () => {
      const result = await kubectl(lab.kubeconfig, [
        'exec',
        pod!,
        '--',
        'nslookup',
        'hello.default.svc.cluster.local',
      ]);
      return result.code === 0 ? result.stdout : undefined;
    });
    assert.match(answer, /10\.96\.\d+\.\d+/);
  });

  test('a node port answers on every node, TCP and UDP', async () => {
    const [node1, node2] = lab.lab.nodes;
    const inNode = (node: { netns: string } | undefined, script: string) =>
      spawnChild(process.execPath, ['-e', script], {
        netnsPath: `/run/netns/${node!.netns}`,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
    const echo = inNode(
      node2,
      "const s = require('dgram').createSocket('udp4'); s.on('message', (m, r) => s.send(m, r.port, r.address)); s.bind(7000)",
    );
    try {
      assert.equal((await apply(NODE_PORTS)).code, 0);
      for (const address of ['172.30.0.11', '172.30.0.12', '172.30.0.13']) {
        const url = `http://${address}:30080/`;
        await eventually(`TCP at ${address}`, async () => {
          const wget = ['busybox', 'timeout', '1', 'busybox', 'wget', '-qO-', url];
          const answer = await labs.podwire(['exec', '--name', 'e2e', 'node1', '--', ...wget]);
          return answer.stdout.startsWith('hello-') ? true : undefined;
        });
        await eventually(`UDP at ${address}`, async () => {
          const ask = inNode(
            node1,
            `const s = require('dgram').createSocket('udp4'); setTimeout(process.exit, 500); s.on('message', m => { console.log(String(m)); process.exit() }); s.send('ping', 30007, '${address}')`,
          );
          let said = '';
          ask.stdout?.on('data', (chunk: Buffer) => {
            said += chunk.toString();
          });
          await ask.exited;
          return said === 'ping\n' ? true : undefined;
        });
      }
    } finally {
      echo.kill('SIGKILL');
      await k('delete', 'svc/udp', 'svc/hello-port', 'endpointslice/udp-1', '--ignore-not-found');
    }
  });

  describe('real kubectl', () => {
    test('get, describe, logs, scale, label, delete', async () => {
      assert.match(await k('get', 'nodes', '-o', 'wide'), /node1\s+Ready/);
      assert.match(await k('get', 'pods', '-o', 'wide'), /hello-\S+\s+1\/1\s+Running\s+0/);
      assert.match(
        await k('get', 'svc,endpointslices,endpoints,deploy,rs,ns,cm,secret', '-A'),
        /service\/hello/,
      );
      assert.match(await k('describe', 'node', 'node1'), /PodCIDR:\s+10\.244\./);
      assert.match(await k('describe', 'svc', 'hello'), /Endpoints:\s+(10\.244\.|\[fd00:10:244:)/);
      await k('scale', 'deployment/hello', '--replicas=5');
      await k('rollout', 'status', 'deployment/hello', '--timeout=60s');
      assert.match(await k('get', 'deployment', 'hello'), /hello\s+5\/5/);
      await k('scale', 'deployment/hello', '--replicas=3');
      await k('create', 'configmap', 'settings', '--from-literal=colour=blue');
      assert.equal(await k('get', 'cm', 'settings', '-o', 'jsonpath={.data.colour}'), 'blue');
      await k('create', 'secret', 'generic', 'key', '--from-literal=a=b');
      await k('label', 'cm', 'settings', 'team=net');
      assert.match(await k('get', 'cm', '-l', 'team=net', '-o', 'name'), /settings/);
      await k('delete', 'cm/settings', 'secret/key');
    });

    test('logs show what a container wrote', async () => {
      const manifest = pod('talker', { command: ['/bin/sh', '-c', 'echo one; echo two; sleep 3600'] });
      assert.equal((await apply(manifest)).code, 0);
      await k('wait', '--for=condition=Ready', 'pod/talker', '--timeout=30s');
      assert.equal(await k('logs', 'talker'), 'one\ntwo\n');
      assert.equal(await k('logs', 'talker', '--tail=1'), 'two\n');
      await k('delete', 'pod', 'talker', '--grace-period=0', '--force');
    });

    test('a rolling update replaces every pod and the Service answers throughout', async () => {
      const before = await k('get', 'pods', '-l', 'app=hello', '-o', 'name');
      await k('set', 'env', 'deployment/hello', 'ROUND=2');
      await k('rollout', 'status', 'deployment/hello', '--timeout=60s');
      const now = await eventually('old pods gone', async () => {
        const names = (await k('get', 'pods', '-l', 'app=hello', '-o', 'name')).trim().split('\n');
        return names.length === 3 ? names : undefined;
      });
      assert.equal(now.filter(name => before.includes(name)).length, 0);
    });
  });

  describe('bad input', () => {
    test('a malformed manifest: kubectl shows what is wrong and where', async () => {
      const unknown = await apply(pod('bad', {}).replace('containers:', 'kontainers:'));
      assert.notEqual(unknown.code, 0);
      assert.match(unknown.stderr, /unknown field "spec\.kontainers"/);
      const invalid = await apply(
        'apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 123456}]}\n',
      );
      assert.notEqual(invalid.code, 0);
      assert.match(invalid.stderr, /spec\.ports\[0\]\.port.*between 1 and 65535/);
    });

    test('an unknown image is named, and the others live', async () => {
      const manifest = pod('noimage', { image: 'localhost/podwire/nothere:1', imagePullPolicy: 'Never' });
      assert.equal((await apply(manifest)).code, 0);
      await eventually('the reason', async () => {
        const reason = await k(
          'get',
          'pod',
          'noimage',
          '-o',
          'jsonpath={.status.containerStatuses[0].state.waiting.reason}',
        );
        return reason === 'ErrImageNeverPull' ? reason : undefined;
      });
      assert.match(await k('get', 'deployment', 'hello'), /3\/3/);
      await k('delete', 'pod', 'noimage', '--grace-period=0', '--force');
    });

    test('up twice checks the lab that is there', async () => {
      assert.equal((await labs.up('e2e')).alreadyUp, true);
      const other = await labs.podwire(['up', '--name', 'e2e', '--nodes', '5']);
      assert.equal(other.code, 2);
      assert.match(other.stderr, /exists with --nodes 3, not 5/);
    });

    test('a port that is taken', async () => {
      const result = await labs.podwire(['up', '--name', 'second', '--api-port', String(lab.lab.apiPort)]);
      assert.equal(result.code, 1);
      assert.match(result.stderr, /port \d+ on 127\.0\.0\.1 is taken; choose another/);
      assert.doesNotMatch(result.stderr, / at .*\.js/);
    });

    test('up without root says one clear sentence', async () => {
      const result = await run('setpriv', [
        '--reuid=65534',
        '--clear-groups',
        'sh',
        '-c',
        `exec ${process.execPath} --version`,
      ]);
      assert.equal(result.code, 0, 'the pinned Node can be run by others');
      const { PODWIRE } = await import('../../harness/lab.ts');
      const up = await run('setpriv', ['--reuid=65534', '--clear-groups', PODWIRE, 'up']);
      assert.equal(up.code, 1);
      assert.match(up.stderr, /needs root/);
      assert.equal(up.stderr.trim().split('\n').length, 1);
    });
  });
});

function pod(
  name: string,
  container: { image?: string; command?: string[]; imagePullPolicy?: string },
): string {
  const { image = 'localhost/podwire/hello:1', imagePullPolicy = 'Never', command } = container;
  return [
    'apiVersion: v1',
    'kind: Pod',
    `metadata: {name: ${name}}`,
    'spec:',
    '  terminationGracePeriodSeconds: 0',
    '  containers:',
    `  - {name: main, image: "${image}", imagePullPolicy: ${imagePullPolicy}${command ? `, command: ${JSON.stringify(command)}` : ''}}`,
    '',
  ].join('\n');
}

/** UDP goes to a Service without selector: its slice names a program on node2. */
const NODE_PORTS = `
apiVersion: v1
kind: Service
metadata: {name: udp}
spec: {type: NodePort, ports: [{port: 7, targetPort: 7000, protocol: UDP, nodePort: 30007}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: udp-1, labels: {kubernetes.io/service-name: udp}}
addressType: IPv4
ports: [{name: "", port: 7000, protocol: UDP}]
endpoints: [{addresses: [172.30.0.12], conditions: {ready: true}, nodeName: node2}]
---
apiVersion: v1
kind: Service
metadata: {name: hello-port}
spec: {type: NodePort, selector: {app: hello}, ports: [{port: 80, targetPort: http, nodePort: 30080}]}
`;
