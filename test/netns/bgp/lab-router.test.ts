// A lab beside a real router, as docs/bgp.md says step by step: a BIRD top-of-rack router with a network behind it learns
// pods and Services and is reached by pods; a node run by calico-node's BIRD shares the mesh with ours.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { NeighbourView } from '../../../routing/bgp/looking-glass/views.ts';
import type { Pod, Stored } from '../../../src/api/types.ts';
import { probe } from '../../../src/lab/proof.ts';
import { nodePaths } from '../../../src/lab/spec.ts';
import { run } from '../../../src/linux/exec.ts';
import { Namespaces } from '../../harness/bgp/bench-net.ts';
import { LabWorld } from '../../harness/bgp/lab-world.ts';
import { BIRD, Bird, missing, TemporaryDirectory } from '../../harness/bgp/peers.ts';
import { docsBlocks } from '../../harness/docs.ts';
import { eventually, kubectlOk, LabDirectory, type UpReport } from '../../harness/lab.ts';

const skip = missing(BIRD, 'bird2');
const NAME = 'rack';
const TOR = { v4: '172.30.0.250', v6: 'fd00:172:30::fa' };
const BEHIND = { v4: '198.18.5.1', v6: '2001:db8:5::1' };
const EXTERNAL = '203.0.113.10';
const AS_IN_DOCS: Readonly<Record<string, string>> = {
  '10.1.0.254': TOR.v4,
  '2001:db8:1::254': TOR.v6,
  '10.1.0.11': '172.30.0.11',
  '10.1.0.12': '172.30.0.12',
};

const labs = new LabDirectory();
const directory = new TemporaryDirectory();
let lab: UpReport;
let world: LabWorld;
let tor: string;
const k = (...args: string[]) => kubectlOk(lab.kubeconfig, args);
const apply = (manifest: string) => kubectlOk(lab.kubeconfig, ['apply', '-f', '-'], manifest);

/** Commands of the page, as somebody would paste them. */
async function paste(commands: string): Promise<void> {
  const result = await run('bash', ['-e', '-c', commands], {
    env: { ...process.env, KUBECONFIG: lab.kubeconfig },
  });
  assert.equal(result.code, 0, `${commands}\n${result.stderr}`);
}

interface HelloPod {
  name: string;
  node: string;
  ips: string[];
}

async function pods(): Promise<HelloPod[]> {
  const list = JSON.parse(await k('get', 'pods', '-l', 'app=hello', '-o', 'json')) as {
    items: Stored<Pod>[];
  };
  return list.items
    .filter(({ metadata, status }) => metadata.deletionTimestamp === undefined && status?.phase === 'Running')
    .map(({ metadata, spec, status }) => ({
      name: metadata.name,
      node: spec?.nodeName ?? '',
      ips: (status?.podIPs ?? []).flatMap(({ ip }) => ip ?? []),
    }));
}

async function podAsks(name: string, node: string, url: string): Promise<string> {
  const pod = { metadata: { name, namespace: 'default' } } as Stored<Pod>;
  const at = lab.lab.nodes.find(one => one.name === node)!;
  return (await probe(nodePaths(at).agentSocket, url, pod)).body;
}

async function neighbours(node: string): Promise<NeighbourView[]> {
  const result = await labs.podwire(['bgp', 'neighbors', '--name', NAME, '--node', node, '-o', 'json']);
  assert.equal(result.code, 0, result.stderr);
  return JSON.parse(result.stdout) as NeighbourView[];
}

const url = (ip: string, port = 80): string => `http://${ip.includes(':') ? `[${ip}]` : ip}:${port}/`;
const torRoutes = (prefix: string): string[] =>
  world
    .routes(tor)
    .join('\n')
    .split(/\n(?=\S)/)
    .filter(route => route.startsWith(`${prefix} `));

describe('a lab with a top-of-rack router (docs/bgp.md)', { skip }, () => {
  before(async () => {
    lab = await labs.up(NAME, '--nodes', '2', '--routing', 'bgp');
    world = new LabWorld(NAME);
    tor = world.join('tor', `${TOR.v4}/24`, `${TOR.v6}/64`);
    for (const address of [`${BEHIND.v4}/32`, `${BEHIND.v6}/128`])
      Namespaces.command('ip', '-n', tor, 'addr', 'add', address, 'dev', 'lo');
    await world.serve(tor, '::', 80);
    const [router = '', commands = ''] = docsBlocks('bgp.md', 'Top-of-rack routers', AS_IN_DOCS);
    new Bird(world.namespaces, tor, directory.path, `log stderr all;\n${router}`);
    await paste(commands);
  });
  after(async () => {
    await world.namespaces.killChildren();
    world[Symbol.dispose]();
    await labs.remove();
    directory[Symbol.dispose]();
  });

  test('sessions with password, TTL security and BFD, from both nodes', async () => {
    for (const node of ['node1', 'node2']) {
      const view = await eventually(`${node} and the router`, async () => {
        const found = (await neighbours(node)).find(({ name }) => name.startsWith('rack-2:'));
        return found?.state === 'Established' && found.bfd?.state === 'Up' ? found : undefined;
      });
      assert.equal(view.kind, 'external');
    }
    const table = await labs.podwire(['bgp', 'neighbors', '--name', NAME, '--node', 'node1']);
    assert.match(table.stdout, /rack-2:172\.30\.0\.250.*Established.*Up \d+ ms/);
  });

  test('the router reaches every pod, in both families, and pods reach what is behind it; nothing is encapsulated', async () => {
    const list = await pods();
    assert.equal(new Set(list.map(({ node }) => node)).size, 2);
    for (const { ips, name, node } of list) {
      assert.equal(ips.length, 2);
      for (const ip of ips)
        assert.match(await eventually(ip, () => world.fetch(tor, url(ip, 8080))), new RegExp(name), ip);
      for (const ip of Object.values(BEHIND))
        await eventually(`${name} asks ${ip}`, async () => {
          const client = await podAsks(name, node, url(ip));
          return client === '' ? undefined : client;
        });
    }
    assert.ok(
      world.routes(tor).some(route => /^10\.244\.\S+\/26 via 172\.30\.0\.11 dev eth0 proto bird/.test(route)),
    );
    const node1 = await labs.podwire(['exec', '--name', NAME, 'node1', '--', 'ip', 'route']);
    assert.match(node1.stdout, /^198\.18\.5\.0\/24 via 172\.30\.0\.250 dev eth0 proto 214/m);
  });

  test('Services: the ranges by every node, externalTrafficPolicy Local by nodes with a ready endpoint', async () => {
    const [commands = ''] = docsBlocks('bgp.md', 'Services');
    await paste(commands);
    const clusterIp = (await k('get', 'service', 'hello', '-o', 'jsonpath={.spec.clusterIP}')).trim();
    await apply(`apiVersion: v1
kind: Service
metadata: { name: outside }
spec:
  selector: { app: hello }
  externalIPs: [${EXTERNAL}]
  ports: [{ port: 80, targetPort: 8080 }]
---
apiVersion: v1
kind: Service
metadata: { name: near }
spec:
  selector: { app: near }
  type: LoadBalancer
  externalTrafficPolicy: Local
  externalIPs: [203.0.113.20]
  ports: [{ port: 80, targetPort: 8080 }]
`);
    assert.match(await eventually('cluster IP', () => world.fetch(tor, url(clusterIp))), /hello/);
    assert.match(await eventually('external IP', () => world.fetch(tor, url(EXTERNAL))), /hello/);
    assert.deepEqual(torRoutes('203.0.113.20'), [], 'no endpoint, no address');
    const [one] = await pods();
    await k('label', 'pod', one!.name, 'app=near', '--overwrite');
    const address = one!.node === 'node1' ? '172.30.0.11' : '172.30.0.12';
    const route = await eventually('its address', async () => torRoutes('203.0.113.20')[0]);
    assert.match(route, new RegExp(`via ${address} `), 'only where the endpoint is');
    // The replacement of the pod that was taken out.
    await k('rollout', 'status', 'deploy/hello', '--timeout=60s');
    await k('delete', 'pod', one!.name, '--wait=true', '--timeout=60s');
    await eventually('gone with its endpoint', async () =>
      torRoutes('203.0.113.20').length === 0 ? true : undefined,
    );
  });

  test('drain: the Service leaves the node before its pods stop, and no request fails on its way', async () => {
    await k('rollout', 'status', 'deploy/hello', '--timeout=60s');
    const end = world.keepAsking(tor, url(EXTERNAL));
    await new Promise(resolve => setTimeout(resolve, 500));
    await k('cordon', 'node2');
    await eventually('one way is left', async () => {
      const routes = torRoutes('203.0.113.0/24');
      return routes.length === 1 && !routes[0]!.includes('172.30.0.12') ? true : undefined;
    });
    const running = (await pods()).filter(({ node }) => node === 'node2');
    assert.ok(running.length > 0, 'its pods still run');
    await new Promise(resolve => setTimeout(resolve, 300));
    const asked = await end();
    assert.deepEqual(asked.failures, [], JSON.stringify(asked));
    assert.ok(asked.asked > 20);
    await k('drain', 'node2', '--ignore-daemonsets', '--force', '--timeout=60s');
    await k('rollout', 'status', 'deploy/hello', '--timeout=60s');
    assert.match(await world.fetch(tor, url(EXTERNAL)), /hello/);
    await k('uncordon', 'node2');
    await eventually('both ways', async () =>
      torRoutes('203.0.113.0/24')[0]?.includes('172.30.0.12') ? true : undefined,
    );
  });

  test('kill -9 of an agent with BFD: BIRD keeps the routes, no request fails', async () => {
    const target = (await pods()).find(({ node }) => node === 'node1')!;
    const end = world.keepAsking(tor, url(target.ips[0]!, 8080));
    await new Promise(resolve => setTimeout(resolve, 500));
    const processes = await run('ps', ['-eo', 'pid,args']);
    const line = processes.stdout
      .split('\n')
      .find(text => text.includes(' agent ') && text.includes(lab.lab.directory) && text.includes('node1'));
    process.kill(Number(line!.trim().split(' ')[0]), 'SIGKILL');
    await new Promise(resolve => setTimeout(resolve, 1500));
    await eventually('the session is back', async () => {
      const view = (await neighbours('node1')).find(({ name }) => name.startsWith('rack-2:'));
      return view?.state === 'Established' && view.bfd?.state === 'Up' ? true : undefined;
    });
    const asked = await end();
    assert.deepEqual(asked.failures, [], JSON.stringify(asked));
    // A segment that is lost costs a retransmission timer: 1 s for the first, 200 ms for others.
    assert.ok(asked.slowestMs < 1000, JSON.stringify(asked));
  });

  test('the router falls silent: its routes leave the nodes in under a second (3 × 100 ms)', async () => {
    const has = (): boolean =>
      Namespaces.command('ip', '-n', lab.lab.nodes[0]!.netns, 'route', 'show', '198.18.5.0/24') !== '';
    await eventually('the route', async () => (has() ? true : undefined));
    // The faster interval is agreed on some packets after the path came up (RFC 5880 section 6.8.3).
    await eventually('the fast interval', async () => {
      const view = (await neighbours('node1')).find(({ name }) => name.startsWith('rack-2:'));
      return view?.bfd?.detectionMs === 300 ? true : undefined;
    });
    world.setPort(0, 'down');
    const since = performance.now();
    while (has() && performance.now() - since < 5000) await new Promise(resolve => setTimeout(resolve, 5));
    const took = performance.now() - since;
    world.setPort(0, 'up');
    assert.ok(took < 1000, `it lived on for ${took.toFixed(0)} ms`);
    await eventually('the route again', async () => (has() ? true : undefined));
  });

  test('contradictory pools, peers and filters: an Event on each object, and the rest goes on', async () => {
    await apply(`apiVersion: crd.projectcalico.org/v1
kind: IPPool
metadata: { name: overlapping }
spec: { cidr: 10.244.128.0/17 }
---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: { name: unclear }
spec: { nodeSelector: "rack ==", peerIP: 172.30.0.99, asNumber: 65009 }
---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: { name: unfiltered }
spec: { peerIP: 172.30.0.98, asNumber: 65009, filters: [nowhere] }
---
apiVersion: crd.projectcalico.org/v1
kind: BGPPeer
metadata: { name: secretive }
spec: { peerIP: 172.30.0.97, asNumber: 65009, password: { secretKeyRef: { name: none, key: none } } }
`);
    const wanted = {
      'IPPool/overlapping': 'CIDROverlap',
      'BGPPeer/unclear': 'InvalidSelector',
      'BGPPeer/unfiltered': 'FilterNotFound',
      'BGPPeer/secretive': 'PasswordMissing',
    };
    await eventually('Events', async () => {
      const list = JSON.parse(await k('get', 'events', '-A', '-o', 'json')) as {
        items: { reason: string; involvedObject: { kind: string; name: string } }[];
      };
      const told = list.items.map(
        ({ reason, involvedObject: { kind, name } }) => `${kind}/${name} ${reason}`,
      );
      const missingEvents = Object.entries(wanted).filter(
        ([object, reason]) => !told.includes(`${object} ${reason}`),
      );
      if (missingEvents.length > 0) throw new Error(`not told: ${missingEvents.join('; ')}`);
      return true;
    });
    await k('delete', 'ippool', 'overlapping');
    await k('delete', 'bgppeer', 'unclear', 'unfiltered', 'secretive');
    const [one] = await pods();
    assert.match(await world.fetch(tor, url(one!.ips[0]!, 8080)), /hello/);
  });

  test('CalicoNodeStatus: written for this node, in the classes asked for, again and again', async () => {
    await apply(`apiVersion: crd.projectcalico.org/v1
kind: CalicoNodeStatus
metadata: { name: look-at-node1 }
spec: { node: node1, classes: [Agent, BGP, Routes], updatePeriodSeconds: 1 }
---
apiVersion: crd.projectcalico.org/v1
kind: CalicoNodeStatus
metadata: { name: once }
spec: { node: node2, classes: [BGP], updatePeriodSeconds: 0 }
`);
    interface Body {
      lastUpdated: string;
      agent?: { birdV4: { state: string }; birdV6: { state: string } };
      bgp?: { numberEstablishedV4: number; peersV4: { peerIP: string; type: string; state: string }[] };
      routes?: { routesV4: { destination: string; gateway: string; learnedFrom: { sourceType: string } }[] };
    }
    const read = async (name: string): Promise<Body | undefined> =>
      (JSON.parse(await k('get', 'caliconodestatus', name, '-o', 'json')) as { status?: Body }).status;
    const first = await eventually('a status', () => read('look-at-node1'));
    assert.equal(first.agent?.birdV4.state, 'Ready');
    assert.deepEqual(
      first.bgp?.peersV4.map(({ peerIP, type, state }) => `${peerIP} ${type} ${state}`).sort(),
      ['172.30.0.12 NodeMesh Established', '172.30.0.250 NodePeer Established'],
    );
    const route = first.routes?.routesV4.find(({ destination }) => destination === '198.18.5.0/24');
    assert.equal(route?.gateway, TOR.v4);
    assert.equal(route?.learnedFrom.sourceType, 'BGPPeer');
    await eventually('the next one', async () =>
      (await read('look-at-node1'))?.lastUpdated === first.lastUpdated ? undefined : true,
    );
    const once = await eventually('the other node', () => read('once'));
    assert.deepEqual(Object.keys(once).sort(), ['bgp', 'lastUpdated']);
    await new Promise(resolve => setTimeout(resolve, 1500));
    assert.equal((await read('once'))?.lastUpdated, once.lastUpdated);
    const metrics = await run('curl', [
      ...['-sS', '--unix-socket', nodePaths(lab.lab.nodes[0]!).agentSocket],
      'http://agent/metrics',
    ]);
    assert.match(metrics.stdout, /^podwire_bgp_session_up\{peer="rack-2:172\.30\.0\.250",[^}]*\} 1$/m);
    assert.match(metrics.stdout, /^podwire_bgp_bfd_up\{[^}]*\} 1$/m);
  });

  test('a node that calico-node runs: one mesh with ours, pods talk with each other, LOCAL_PREF as Calico sends it', async () => {
    const other = world.join('calico', '172.30.0.60/24');
    const pod = world.namespaces.add('calico-pod');
    // As Calico wires a pod: a link of its own, the gateway 169.254.1.1 answered by proxy ARP.
    world.namespaces.connect(other, pod, 'cali', '169.254.1.1/32', '10.244.250.5/32');
    for (const [netns, ...args] of [
      [other, 'route', 'add', '10.244.250.5/32', 'dev', 'calia'],
      [pod, 'route', 'add', '169.254.1.1/32', 'dev', 'calib'],
      [pod, 'route', 'add', 'default', 'via', '169.254.1.1'],
    ])
      Namespaces.command('ip', '-n', netns!, ...args);
    const forward = ['sysctl', '-qw', 'net.ipv4.ip_forward=1'];
    assert.equal((await run('nsenter', [`--net=/run/netns/${other}`, ...forward])).code, 0);
    await world.serve(pod, '0.0.0.0', 8080);
    // What calico-node has written by the time its BIRD starts.
    await apply(`apiVersion: v1
kind: Node
metadata:
  name: calico1
  annotations: { projectcalico.org/IPv4Address: 172.30.0.60/24 }
spec: { unschedulable: true }
---
apiVersion: crd.projectcalico.org/v1
kind: BlockAffinity
metadata: { name: calico1-10-244-250-0-26 }
spec: { cidr: 10.244.250.0/26, node: calico1, state: confirmed, type: host, deleted: "false" }
`);
    const bird = new Bird(world.namespaces, other, directory.path, calicoBird());
    const list = await pods();
    for (const { ips, name, node } of list) {
      assert.match(
        await eventually(`${name} from there`, () => world.fetch(pod, url(ips[0]!, 8080))),
        new RegExp(name),
      );
      assert.equal(
        await eventually(`${name} to there`, () => podAsks(name, node, url('10.244.250.5', 8080))),
        ips[0],
        'with its own address',
      );
    }
    const block = world
      .routes(other)
      .find(route => route.startsWith('10.244.') && route.includes('172.30.0.11'))!;
    assert.match(await bird.ask(`show route ${block.split(' ')[0]} all`), /BGP\.local_pref: 2147482623/);
    // BIRD restarts as calico-node does: gracefully, and nobody notices.
    const target = list.find(({ node }) => node === 'node1')!;
    const end = world.keepAsking(pod, url(target.ips[0]!, 8080));
    await new Promise(resolve => setTimeout(resolve, 300));
    bird.child.kill('SIGKILL');
    await new Promise(resolve => bird.child.once('exit', resolve));
    const again = new Bird(world.namespaces, other, directory.path, calicoBird(), ['-R']);
    await eventually('the mesh again', async () =>
      (await again.ask('show protocols')).match(/Mesh_\S+\s+BGP\s+\S+\s+up/g)?.length === 2
        ? true
        : undefined,
    );
    const asked = await end();
    assert.deepEqual(asked.failures, [], JSON.stringify(asked));
  });
});

/** confd's bird.cfg and bird_ipam.cfg (projectcalico/calico node/filesystem/etc/calico/confd/templates), for BIRD 2. */
function calicoBird(): string {
  const mesh = ['172.30.0.11', '172.30.0.12']
    .map(
      address => `protocol bgp Mesh_${address.replaceAll('.', '_')} from bgp_template {
  neighbor ${address} as 64512;
  ${address > '172.30.0.60' ? 'passive on;' : ''}
}`,
    )
    .join('\n');
  return `router id 172.30.0.60;
log stderr all;
function calico_aggr() {
  if ( net = 10.244.250.0/26 ) then { accept; }
  if ( net ~ 10.244.250.0/26 ) then { reject; }
}
filter calico_export_to_bgp_peers { bgp_local_pref = 2147482623; calico_aggr();
  if ( net ~ 10.244.0.0/16 ) then { accept; } reject; }
filter calico_kernel_programming { if ( net ~ 10.244.0.0/16 ) then { accept; } accept; }
protocol kernel { learn; persist; scan time 2; graceful restart; merge paths on;
  ipv4 { import all; export filter calico_kernel_programming; }; }
protocol device { scan time 2; }
protocol direct { ipv4; interface -"cali*", -"kube-ipvs*", "*"; }
protocol static { ipv4; route 10.244.250.0/26 blackhole; }
template bgp bgp_template {
  local 172.30.0.60 as 64512; multihop; graceful restart;
  connect delay time 2; connect retry time 5; error wait time 5,30;
  ipv4 { import all; add paths on; gateway recursive; export filter calico_export_to_bgp_peers; };
}
${mesh}
`;
}
