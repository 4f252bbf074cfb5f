// A lab whose mesh becomes a star: first around reflectors that podwire chooses, then around those of docs/bgp.md. Pods and
// Services are reached without encapsulation all the time.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { NeighbourView, StatusView } from '../../../routing/bgp/looking-glass/views.ts';
import type { Pod, Stored } from '../../../src/api/types.ts';
import { run } from '../../../src/linux/exec.ts';
import { Namespaces } from '../../harness/bgp/bench-net.ts';
import { LabWorld } from '../../harness/bgp/lab-world.ts';
import { docsBlocks } from '../../harness/docs.ts';
import { eventually, kubectlOk, LabDirectory, type UpReport } from '../../harness/lab.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const NAME = 'star';
const NODES = 5;
const labs = new LabDirectory();
let lab: UpReport;
let world: LabWorld;
const k = (...args: string[]) => kubectlOk(lab.kubeconfig, args);

interface NodeStatus {
  node: string;
  status: StatusView;
}

async function bgp<T>(...args: string[]): Promise<T> {
  const result = await labs.podwire(['bgp', ...args, '--name', NAME, '-o', 'json']);
  assert.equal(result.code, 0, result.stderr);
  return JSON.parse(result.stdout) as T;
}

/** Peers of a node by node name, those with a session in both families that is up. */
async function peersOf(node: string): Promise<string[]> {
  const views = await bgp<NeighbourView[]>('neighbors', '--node', node);
  assert.ok(
    views.every(({ state }) => state === 'Established'),
    `${node}: ${views.map(({ name, state }) => `${name} ${state}`).join(', ')}`,
  );
  return [...new Set(views.map(({ name }) => name.split(':')[1]!))].sort();
}

async function allPeers(): Promise<Record<string, string[]>> {
  const entries = lab.lab.nodes.map(async ({ name }) => [name, await peersOf(name)] as const);
  return Object.fromEntries(await Promise.all(entries));
}

/** Each node's sessions when a star stands around these. */
function star(reflectors: readonly string[]): Record<string, string[]> {
  const names = lab.lab.nodes.map(({ name }) => name);
  return Object.fromEntries(
    names.map(name => [
      name,
      (reflectors.includes(name) ? names : reflectors).filter(one => one !== name).toSorted(),
    ]),
  );
}

async function untilStar(reflectors: readonly string[]): Promise<void> {
  const wanted = star(reflectors);
  await eventually('the star', async () => {
    assert.deepEqual(await allPeers(), wanted);
    return true;
  });
}

/** Every node has every other one's blocks in its kernel, by way of that node itself. */
async function untilRouted(): Promise<void> {
  const nodes = await bgp<NodeStatus[]>('status');
  await eventually('all routes everywhere', async () => {
    for (const { name, netns } of lab.lab.nodes) {
      const routes = world.routes(netns).join('\n');
      for (const other of nodes)
        for (const { prefix } of other.node === name ? [] : other.status.announced) {
          const address = lab.lab.nodes.findIndex(one => one.name === other.node) + 11;
          const via = prefix.includes(':') ? `fd00:172:30::${address.toString(16)}` : `172.30.0.${address}`;
          assert.match(routes, new RegExp(`^${prefix} via ${via} dev eth0`, 'm'), `${name} has ${prefix}`);
        }
    }
    return true;
  });
}

async function podOn(node: string): Promise<string> {
  const list = JSON.parse(await k('get', 'pods', '-l', 'app=hello', '-o', 'json')) as {
    items: Stored<Pod>[];
  };
  return list.items.find(({ spec }) => spec?.nodeName === node)!.status!.podIP!;
}

/** Requests between two nodes while something changes. */
async function askingMeanwhile(from: string, to: string, change: () => Promise<void>): Promise<void> {
  const { netns } = lab.lab.nodes.find(({ name }) => name === from)!;
  const end = world.keepAsking(netns, `http://${await podOn(to)}:8080/`);
  await change();
  await new Promise(resolve => setTimeout(resolve, 500));
  const asked = await end();
  assert.deepEqual(asked.failures, [], JSON.stringify(asked));
  assert.ok(asked.slowestMs < 1000, `a lost segment: ${JSON.stringify(asked)}`);
}

describe('a lab with route reflectors (docs/bgp.md)', { skip }, () => {
  let automatic: string[] = [];

  before(async () => {
    lab = await labs.up(NAME, '--nodes', String(NODES), '--routing', 'bgp');
    world = new LabWorld(NAME);
    await k('scale', 'deploy/hello', `--replicas=${NODES}`);
    await k('rollout', 'status', 'deploy/hello', '--timeout=90s');
  });
  after(async () => {
    await world.namespaces.killChildren();
    world[Symbol.dispose]();
    await labs.remove();
  });

  test('a mesh above its limit becomes a star around three nodes, and nobody notices', async () => {
    const everybody = lab.lab.nodes.map(({ name }) => name);
    await untilStar(everybody);
    // Patient intervals: a machine that runs five nodes is a busy one.
    const nodeMeshBFD = { minimumSendInterval: '1s', minimumReceiveInterval: '1s' };
    const limit = JSON.stringify({ spec: { automaticReflectorsAbove: 4, nodeMeshBFD } });
    await askingMeanwhile('node1', 'node4', async () => {
      await k('patch', 'bgpconfiguration', 'default', '--type=merge', '-p', limit);
      automatic = await eventually('three reflectors', async () => {
        const nodes = (await bgp<NodeStatus[]>('status')).filter(
          ({ status }) => status.clusterId === '0.0.0.1',
        );
        return nodes.length === 3 ? nodes.map(({ node }) => node) : undefined;
      });
      await untilStar(automatic);
    });
    await untilRouted();
    const sessions = (await allPeers())[everybody.find(name => !automatic.includes(name))!]!;
    assert.equal(sessions.length, 3);
  });

  test('nodeMeshBFD: every path is watched', async () => {
    await eventually('BFD', async () => {
      const views = await bgp<NeighbourView[]>('neighbors', '--node', 'node1');
      assert.deepEqual([...new Set(views.map(({ bfd }) => bfd?.state))], ['Up']);
      assert.deepEqual([...new Set(views.map(({ bfd }) => bfd?.multihop))], [false], 'one subnet');
      return true;
    });
  });

  test('reflectors of the user: the commands of the page, step by step, without a lost request', async () => {
    const blocks = docsBlocks('bgp.md', 'Route reflectors of your choice', { 'rr-1 rr-2': 'node1 node2' });
    await askingMeanwhile('node3', 'node5', async () => {
      const result = await run('bash', ['-e', '-c', blocks.join('')], {
        env: { ...process.env, KUBECONFIG: lab.kubeconfig },
      });
      assert.equal(result.code, 0, result.stderr);
      await untilStar(['node1', 'node2']);
    });
    await untilRouted();
  });

  test('pods and Services in both families, over the star; nothing is encapsulated', async () => {
    const service = JSON.parse(await k('get', 'service', 'hello', '-o', 'json')) as {
      spec: { clusterIPs: string[] };
    };
    const list = JSON.parse(await k('get', 'pods', '-l', 'app=hello', '-o', 'json')) as {
      items: Stored<Pod>[];
    };
    for (const { name, netns } of lab.lab.nodes) {
      for (const ip of service.spec.clusterIPs)
        assert.match(await world.fetch(netns, `http://${ip.includes(':') ? `[${ip}]` : ip}/`), /hello/, name);
      for (const { metadata, status } of list.items)
        for (const { ip = '' } of status?.podIPs ?? []) {
          const at = `http://${ip.includes(':') ? `[${ip}]` : ip}:8080/`;
          assert.match(await world.fetch(netns, at), new RegExp(metadata.name), `${name} asks ${ip}`);
        }
      assert.equal(Namespaces.command('ip', '-n', netns, '-d', 'link', 'show', 'type', 'vxlan'), '');
    }
  });

  test('a reflector dies with its node: the other one carries on, and its routes go by BFD', async () => {
    const { netns } = lab.lab.nodes.find(({ name }) => name === 'node3')!;
    const spec = '{"spec":{"bfd":{"minimumSendInterval":"100ms","minimumReceiveInterval":"100ms"}}}';
    await k('patch', 'bgppeer', 'to-reflectors', '--type=merge', '-p', spec);
    await eventually('BFD', async () => {
      const views = await bgp<NeighbourView[]>('neighbors', '--node', 'node3');
      return views.every(({ bfd }) => bfd?.detectionMs === 300) ? true : undefined;
    });
    const target = await podOn('node4');
    const node1 = (await bgp<NodeStatus[]>('status', '--node', 'node1'))[0]!.status;
    const block = node1.announced.find(({ prefix }) => prefix.endsWith('/26'))!.prefix;
    const has = (): boolean => Namespaces.command('ip', '-n', netns, 'route', 'show', block) !== '';
    assert.ok(has());
    Namespaces.command('ip', '-n', `pw.${NAME}.net`, 'link', 'set', 'p-node1', 'down');
    const since = performance.now();
    while (has() && performance.now() - since < 8000) await new Promise(resolve => setTimeout(resolve, 5));
    const took = performance.now() - since;
    assert.ok(took < 1000, `the dead node's block lived on for ${took.toFixed(0)} ms`);
    assert.match(await world.fetch(netns, `http://${target}:8080/`), /hello/);
    Namespaces.command('ip', '-n', `pw.${NAME}.net`, 'link', 'set', 'p-node1', 'up');
    await eventually('it is back', async () => (has() ? true : undefined));
  });
});
