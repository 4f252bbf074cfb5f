// A cluster with --routing bgp: pods and Services of three nodes reach each other by plain routes that podwire's speakers
// exchange, with addresses from Calico's IP pools; a killed agent costs no packet.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { NeighbourView, StatusView } from '../../../routing/bgp/looking-glass/views.ts';
import type { Pod, Stored } from '../../../src/api/types.ts';
import { probe } from '../../../src/lab/proof.ts';
import { nodePaths } from '../../../src/lab/spec.ts';
import { run, spawnChild } from '../../../src/linux/exec.ts';
import { eventually, kubectlOk, LabDirectory, type UpReport } from '../../harness/lab.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const NAME = 'bgp';
const labs = new LabDirectory();
let lab: UpReport;
const k = (...args: string[]) => kubectlOk(lab.kubeconfig, args);

async function bgp<T>(...args: string[]): Promise<T> {
  const result = await labs.podwire(['bgp', ...args, '--name', NAME, '-o', 'json']);
  assert.equal(result.code, 0, result.stderr);
  return JSON.parse(result.stdout) as T;
}

const inNode = (node: string, ...command: string[]) =>
  labs.podwire(['exec', '--name', NAME, node, '--', ...command]);

/** Name, node and IPv4 address of each pod of the example. */
async function pods(): Promise<{ name: string; node: string; ip: string }[]> {
  const path = '{range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{"\\n"}{end}';
  const text = await k('get', 'pods', '-l', 'app=hello', '-o', `jsonpath=${path}`);
  return text
    .trim()
    .split('\n')
    .map(line => {
      const [name = '', node = '', ip = ''] = line.split(' ');
      return { name, node, ip };
    });
}

/** A hundred requests, one after the other every 30 ms, each with a connection of its own; none may take 2 s. */
const REQUESTS = `
const [, url] = process.argv;
let failed = 0;
for (let i = 0; i < 100; i++) {
  await fetch(url, { headers: { connection: 'close' }, signal: AbortSignal.timeout(2000) })
    .then(answer => answer.text())
    .catch(() => failed++);
  await new Promise(resolve => setTimeout(resolve, 30));
}
console.log('failed ' + failed + ' of 100');
`;

describe('podwire up --routing bgp', { skip }, () => {
  before(async () => {
    lab = await labs.up(NAME, '--nodes', '3', '--routing', 'bgp');
  });
  after(() => labs.remove());

  test('every node and a pod on every node reach the Service, in both families', () => {
    assert.deepEqual(
      lab.rows.filter(row => row.error !== undefined),
      [],
    );
    assert.equal(new Set(lab.rows.map(row => row.from)).size, 6);
    assert.ok(lab.rows.some(row => row.to.includes('fd00:')));
  });

  test('every node owns a block, announces it and has the others in its kernel', async () => {
    const nodes = await bgp<{ node: string; status: StatusView }[]>('status');
    assert.equal(nodes.length, 3);
    for (const { node, status } of nodes) {
      const kernel =
        (await inNode(node, 'ip', 'route')).stdout + (await inNode(node, 'ip', '-6', 'route')).stdout;
      assert.equal(status.neighbours.established, 4, `${node}: two peers, a session for each family`);
      const blocks = status.announced.map(({ prefix }) => prefix);
      assert.ok(
        blocks.some(prefix => prefix.endsWith('/26')) && blocks.some(prefix => prefix.endsWith('/122')),
      );
      for (const other of nodes.filter(one => one.node !== node))
        for (const { prefix } of other.status.announced)
          assert.match(
            kernel,
            new RegExp(`^${prefix} via \\S+ dev eth0 proto 214`, 'm'),
            `${node} has ${prefix}`,
          );
    }
    assert.match(await k('get', 'blockaffinities'), /node1 +confirmed/);
    const why = await labs.podwire(['bgp', 'why', (await pods())[0]!.ip, '--name', NAME, '--node', 'node1']);
    assert.match(why.stdout, /best/);
  });

  test('nothing is encapsulated: pods talk with their own addresses on the underlay', async () => {
    const list = await pods();
    const local = list.find(({ node }) => node === 'node1')!;
    const remote = list.find(({ node }) => node !== 'node1')!;
    const links = await inNode('node1', 'ip', '-d', 'link', 'show', 'type', 'vxlan');
    assert.equal(links.stdout, '', 'no VXLAN device');
    const filter = `udp port 8472 or udp port 4789 or proto 4 or (host ${local.ip} and host ${remote.ip})`;
    const dump = spawnChild('tcpdump', ['-n', '-l', '-i', 'eth0', ...filter.split(' ')], {
      netnsPath: `/run/netns/${lab.lab.nodes[0]!.netns}`,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let seen = '';
    dump.stdout?.on('data', (chunk: Buffer) => {
      seen += chunk.toString();
    });
    let ready = '';
    dump.stderr?.on('data', (chunk: Buffer) => {
      ready += chunk.toString();
    });
    await eventually('tcpdump', async () => (ready.includes('listening on') ? true : undefined));
    const pod = { metadata: { name: local.name, namespace: 'default' } } as Stored<Pod>;
    const answer = await probe(nodePaths(lab.lab.nodes[0]!).agentSocket, `http://${remote.ip}:8080/`, pod);
    assert.equal(answer.status, 200);
    await eventually('packets', async () => (seen.includes(remote.ip) ? true : undefined), 5000);
    dump.kill('SIGTERM');
    await dump.exited;
    assert.match(
      seen,
      new RegExp(`${local.ip.replaceAll('.', '\\.')}\\.\\d+ > ${remote.ip.replaceAll('.', '\\.')}\\.8080`),
    );
    assert.doesNotMatch(seen, /VXLAN|OTV|\.4789|ipip|IP-ENCAP/i);
  });

  test('an address is given back when its pod goes', async () => {
    const [first] = await pods();
    await k('delete', 'pod', first!.name, '--wait=true', '--timeout=60s');
    await eventually('the handle goes', async () => {
      const handles = await k('get', 'ipamhandles', '-o', 'name');
      return handles.trim().split('\n').length === 3 ? true : undefined;
    });
    await k('rollout', 'status', 'deploy/hello', '--timeout=60s');
  });

  test('kill -9 of an agent: traffic through the node goes on, and it finds its peers again', async () => {
    const list = await pods();
    const target = list.find(({ node }) => node === 'node2')!;
    const requests = spawnChild(
      process.execPath,
      ['--input-type=module', '-e', REQUESTS, `http://${target.ip}:8080/`],
      {
        netnsPath: `/run/netns/${lab.lab.nodes[0]!.netns}`,
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let said = '';
    requests.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    await new Promise(resolve => setTimeout(resolve, 500));
    const processes = await run('ps', ['-eo', 'pid,args']);
    const line = processes.stdout
      .split('\n')
      .find(text => text.includes(' agent ') && text.includes(lab.lab.directory) && text.includes('node2'));
    assert.ok(line, 'the agent of node2 is found by its state directory');
    process.kill(Number(line.trim().split(' ')[0]), 'SIGKILL');
    await requests.exited;
    assert.match(said, /^failed 0 of 100$/m);
    await eventually('sessions', async () => {
      const neighbours = await bgp<NeighbourView[]>('neighbors', '--node', 'node2');
      return neighbours.every(({ state }) => state === 'Established') ? true : undefined;
    });
    const diff = await labs.podwire(['diff', '--name', NAME, 'node2']);
    assert.equal(diff.code, 0, diff.stdout);
  });

  test('nodeMeshPassword: set, changed and taken away without a session that ends', async () => {
    const secret = async (password: string): Promise<void> => {
      const flags = ['--dry-run=client', '-o', 'yaml', `--from-literal=mesh=${password}`];
      const made = await k('-n', 'kube-system', 'create', 'secret', 'generic', 'mesh-password', ...flags);
      await kubectlOk(lab.kubeconfig, ['apply', '-f', '-'], made);
    };
    const patch = (value: unknown) =>
      k(
        ...['patch', 'bgpconfiguration', 'default', '--type=merge', '-p'],
        JSON.stringify({ spec: { nodeMeshPassword: value } }),
      );
    const times = async () =>
      (await bgp<NeighbourView[]>('neighbors', '--node', 'node1')).map(
        ({ state, timesEstablished }) => `${state} ${timesEstablished}`,
      );
    const before = await times();
    /** Sessions that are heard: each received a keepalive or more under the key of now. */
    const logged = async (): Promise<number> =>
      (await labs.podwire(['logs', 'agent-node1', '--name', NAME])).stdout.split('another password').length -
      1;
    await secret('first');
    await patch({ secretKeyRef: { name: 'mesh-password', key: 'mesh' } });
    await eventually('four sessions with it', async () => ((await logged()) === 4 ? true : undefined));
    await secret('second');
    await eventually('another one', async () => ((await logged()) === 8 ? true : undefined));
    await patch(null);
    await eventually('and none', async () => ((await logged()) === 12 ? true : undefined));
    const block = async (): Promise<string[]> =>
      (await bgp<{ prefix: string }[]>('routes', '--node', 'node1')).map(({ prefix }) => prefix);
    assert.ok((await block()).length >= 6);
    assert.deepEqual(await times(), before, 'the same sessions');
  });

  test('a pool with vxlanMode Always: the same pods, through vxlan.calico, and back', async () => {
    const mode = (value: string) =>
      k('patch', 'ippool', 'default-ipv4-ippool', '--type=merge', '-p', `{"spec":{"vxlanMode":"${value}"}}`);
    const list = await pods();
    const local = list.find(({ node }) => node === 'node1')!;
    const remote = list.find(({ node }) => node === 'node3')!;
    const pod = { metadata: { name: local.name, namespace: 'default' } } as Stored<Pod>;
    const reach = async () => {
      const answer = await probe(nodePaths(lab.lab.nodes[0]!).agentSocket, `http://${remote.ip}:8080/`, pod);
      return answer.status === 200 ? true : undefined;
    };
    const routed = async (through: string) => {
      const { stdout } = await inNode('node1', 'ip', 'route', 'get', remote.ip);
      return stdout.includes(`dev ${through}`) ? true : undefined;
    };
    await mode('Always');
    await eventually('the route through the tunnel', () => routed('vxlan.calico'));
    await eventually('the remote pod', reach);
    await mode('Never');
    await eventually('the plain route', () => routed('eth0'));
    await eventually('the remote pod', reach);
  });
});
