// The real kube-proxy 1.20 as the oracle of ours: the same random Services from one real kube-apiserver, four nodes alike, one
// with the real one (iptables mode) and three with ours (each mode); then the same connections on each. What comes back
// must be the same, or differ by name (oracle-differences.ts). The rules' names are compared as text.
// A failure prints the seed; PODWIRE_SEED repeats it.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { EndpointSlice, KubeObject, Service } from '../../../src/api/types.ts';
import { RESOURCE, type TypedRef } from '../../../src/client/resources.ts';
import type { LabNamespace } from '../../harness/netns-lab.ts';
import { NODE_IP, ProxyNode } from '../../netns/proxy/node.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { bringIn, eventually } from '../overlay/flanneld-process.ts';
import { KubeProxyProcess } from './kube-proxy-process.ts';
import { NAMESPACE, type OracleCluster, randomCluster, type Target } from './oracle-cluster.ts';
import { type Comparison, type Contestant, explain, isSame, type Observation } from './oracle-differences.ts';
import { chainsOf, servicePicture } from './oracle-rules.ts';
import { skipWithout } from './peers.ts';
import { RealControlPlane } from './real-control-plane.ts';

const limits = { skip: skipWithout('kube-apiserver', 'kube-proxy'), timeout: 200_000 };
const CONTESTANTS = ['iptables', 'nftables', 'userspace'] as const;
const SEED = Number(process.env.PODWIRE_SEED ?? Date.now() % 1_000_000);
const CLUSTERS = 4;
const ASKED_TIMES = 3;
const TIMEOUT_MS = 1000;
const MARKER = '10.96.9.9';

interface Contest {
  net: ProxyNode;
  proxy: KubeProxyProcess;
  /** Another machine, behind a link of its own: to 1.20, whatever comes in by a bridge is a pod of this node. */
  client: LabNamespace;
}

function addClient({ lab, node }: ProxyNode): LabNamespace {
  const client = lab.namespace('wan');
  lab.wire(client, 'eth0', node, 'wan');
  node.address('wan', '10.7.0.1/24');
  client.address('eth0', '10.7.0.2/24');
  client.route('0.0.0.0/0', '10.7.0.1');
  return client;
}

let plane: RealControlPlane;
const contests = new Map<Contestant | 'real', Contest>();
const ends: (() => void)[] = [];

/** What a kubelet 1.20 has done beforehand: packets with the mark for dropping are dropped. */
async function playKubelet(node: LabNamespace): Promise<void> {
  for (const line of [
    '-t nat -A KUBE-MARK-DROP -j MARK --or-mark 0x8000',
    '-t filter -N KUBE-FIREWALL',
    '-t filter -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP',
    '-t filter -I INPUT -j KUBE-FIREWALL',
    '-t filter -I OUTPUT -j KUBE-FIREWALL',
  ]) {
    const { code, stderr } = await node.run('iptables-nft', line.split(' '));
    assert.equal(code, 0, stderr);
  }
}

before(async () => {
  if (limits.skip) return;
  plane = await RealControlPlane.start({ featureGates: 'EndpointSliceTerminatingCondition=true' });
  const { admin, pki } = plane;
  await admin.create(RESOURCE.nodes, { metadata: { name: 'node' }, spec: { podCIDRs: ['10.244.1.0/24'] } });
  await admin.patch(
    RESOURCE.nodes,
    'node',
    { status: { addresses: [{ type: 'InternalIP', address: NODE_IP.v4 }] } },
    { type: 'strategic', subresource: 'status' },
  );
  await admin.create(RESOURCE.namespaces, { metadata: { name: NAMESPACE } });
  for (const [index, who] of (['real', ...CONTESTANTS] as const).entries()) {
    const net = new ProxyNode(`or${index}`);
    await net.reconciler.stop();
    ends.push(bringIn(net.node, plane.port));
    await net.node.run('sysctl', ['-qw', 'net.ipv4.icmp_ratelimit=0']);
    const proxy = new KubeProxyProcess({
      namespace: net.node,
      whose: who === 'real' ? 'real' : 'ours',
      kubeconfig: pki.kubeconfigs.kubeProxy,
      iptables: 'nft',
      fields: {
        mode: who === 'real' ? 'iptables' : who,
        clusterCIDR: '10.244.0.0/16',
        conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
      },
    });
    contests.set(who, { net, proxy, client: addClient(net) });
    proxy.start();
  }
  for (const { proxy } of contests.values()) await proxy.ready(60_000);
  await playKubelet(contests.get('real')!.net.node);
});

after(async () => {
  for (const { net, proxy } of contests.values()) {
    await proxy.close();
    await net.close();
  }
  for (const end of ends) end();
  await plane?.stop();
});

async function removeAll<T extends KubeObject>(ref: TypedRef<T>): Promise<void> {
  const { items } = await plane.admin.list(ref, { namespace: NAMESPACE });
  for (const { metadata } of items) await plane.admin.delete(ref, metadata.name, { namespace: NAMESPACE });
}

/** Creates the cluster in place of the one before; resolves when all four kernels have it. */
async function apply(cluster: OracleCluster, round: number): Promise<void> {
  const { admin } = plane;
  await removeAll(RESOURCE.endpointSlices);
  await removeAll(RESOURCE.services);
  for (const { status, ...made } of cluster.services) {
    const { metadata } = await admin.create(RESOURCE.services, made);
    if (status)
      await admin.patch(
        RESOURCE.services,
        metadata.name,
        { status },
        { namespace: NAMESPACE, type: 'merge', subresource: 'status' },
      );
  }
  for (const made of cluster.slices) await admin.create(RESOURCE.endpointSlices, made);
  // Both watches are in order: who has this one, has all before it.
  const marker = `${NAMESPACE}/marker`;
  await admin.create(
    RESOURCE.services,
    service(marker, { clusterIP: MARKER, ports: [{ port: 80 + round }] }),
  );
  await admin.create(RESOURCE.endpointSlices, {
    ...slice(marker, [endpoint('10.244.1.2', { node: 'node' })], [{ name: '', port: 80 }]),
  });
  for (const [who, { net, proxy }] of contests)
    await eventually(
      'the marker',
      async () => (await net.pods[1]!.outcome(MARKER, 80 + round, { timeoutMs: 500 })) === 'pod1',
      60_000,
    ).catch(error => {
      throw new Error(`${who}: ${error.message}\n${proxy.log.slice(-3000)}`);
    });
}

type Origin = {
  kind: Comparison['origin'];
  name: string;
  of(contest: Contest): LabNamespace;
  source?: string;
};
const ORIGINS: readonly Origin[] = [
  { kind: 'pod', name: 'pod1', of: ({ net }) => net.pods[0]!, source: '10.244.1.2' },
  { kind: 'pod', name: 'pod3', of: ({ net }) => net.pods[2]!, source: '10.244.1.4' },
  { kind: 'client', name: 'client', of: ({ client }) => client, source: '10.7.0.2' },
  { kind: 'node', name: 'node', of: ({ net }) => net.node },
];

async function observe(contest: Contest, origin: Origin, { address, port }: Target): Promise<Observation> {
  const servers = new Set<string>();
  const seen = new Set<boolean>();
  for (let n = 0; n < ASKED_TIMES; n++)
    try {
      const { server, client } = await origin.of(contest).ask(address, port, { timeoutMs: TIMEOUT_MS });
      servers.add(server);
      // A pod that meets itself is masqueraded whatever the policy: what is compared is everybody else.
      if (origin.source && server !== origin.name) seen.add(client !== origin.source);
    } catch (error) {
      const { code = String(error) } = error as NodeJS.ErrnoException;
      return { outcome: servers.size > 0 ? `answer, then ${code}` : code, servers };
    }
  const [masqueraded, ...more] = seen;
  assert.deepEqual(more, [], `${origin.name} → ${address}:${port} is masqueraded or not, as it happens`);
  return { outcome: 'answer', servers, ...(masqueraded === undefined ? {} : { masqueraded }) };
}

function allowedServers(made: EndpointSlice): Set<string> {
  const number = (address = ''): string =>
    `${address.startsWith('10.244.1.') ? 'pod' : 'far'}${Number(address.split('.')[3]) - 1}`;
  return new Set(
    made.endpoints
      .filter(({ conditions }) => conditions?.ready || conditions?.serving)
      .map(({ addresses }) => number(addresses[0])),
  );
}

describe('the real kube-proxy as the oracle', limits, () => {
  const named = new Map<string, number>();
  let compared = 0;

  for (let n = 0; n < CLUSTERS; n++)
    test(`random cluster, seed ${SEED + n}`, limits, async t => {
      const cluster = randomCluster(SEED + n, NODE_IP.v4);
      await apply(cluster, n);
      const unmeant: string[] = [];
      const objects = new Map<string, { service: Service; slice: EndpointSlice }>(
        cluster.services.map((one, i) => [
          `${one.metadata?.namespace}/${one.metadata?.name}`,
          { service: one, slice: cluster.slices[i]! },
        ]),
      );
      const look = async (who: Contestant | 'real', origin: Origin): Promise<Observation[]> =>
        Promise.all(cluster.targets.map(target => observe(contests.get(who)!, origin, target)));
      for (const origin of ORIGINS) {
        const real = await look('real', origin);
        for (const contestant of CONTESTANTS) {
          const ours = await look(contestant, origin);
          for (const [i, target] of cluster.targets.entries()) {
            const comparison: Comparison = {
              contestant,
              origin: origin.kind,
              target,
              ...objects.get(target.service)!,
              real: real[i]!,
              ours: ours[i]!,
            };
            compared++;
            const strangers = [...ours[i]!.servers].filter(
              server => !allowedServers(comparison.slice).has(server),
            );
            const name = isSame(comparison) ? undefined : explain(comparison);
            if (name) named.set(name, (named.get(name) ?? 0) + 1);
            else if (!isSame(comparison) || strangers.length > 0) unmeant.push(tell(comparison, origin));
          }
        }
      }
      t.diagnostic(`${compared} comparisons so far`);
      assert.deepEqual(unmeant, []);
    });

  test('iptables-save: the same chain names, hashes, endpoints and affinity', limits, async () => {
    const key = `${NAMESPACE}/text`;
    const port = { name: 'web', port: 80, protocol: 'TCP' };
    const all = ['10.244.1.2', '10.244.1.3', '10.244.2.2'].map(ip =>
      endpoint(ip, { node: ip.startsWith('10.244.1.') ? 'node' : 'far' }),
    );
    await apply(
      {
        services: [
          service(key, {
            type: 'LoadBalancer',
            clusterIP: '10.96.8.1',
            ports: [{ ...port, nodePort: 31_500 }],
            externalTrafficPolicy: 'Local',
            sessionAffinity: 'ClientIP',
            loadBalancerSourceRanges: ['10.9.0.0/24'],
            loadBalancer: [{ ip: '198.51.100.200' }],
          }),
        ],
        slices: [{ ...slice(key, all, [port]), addressType: 'IPv4' }],
        targets: [],
      },
      CLUSTERS,
    );
    const picture = async (who: 'real' | 'iptables') => {
      const { stdout } = await contests.get(who)!.net.node.run('iptables-nft-save', []);
      return servicePicture(chainsOf(stdout), 'oracle/text:web');
    };
    const real = await picture('real');
    assert.match(real.serviceChain, /^KUBE-SVC-[A-Z2-7]{16}$/);
    assert.equal(real.endpoints.length, 3);
    assert.equal(real.localEndpoints.length, 2);
    assert.deepEqual(await picture('iptables'), real);
  });

  test('what differs by intent', limits, t => {
    t.diagnostic(`${compared} comparisons`);
    for (const [name, count] of named) t.diagnostic(`${count} × ${name}`);
  });
});

function tell(
  { contestant, target, service: one, slice: made, real, ours }: Comparison,
  origin: Origin,
): string {
  const say = ({ outcome, servers, masqueraded }: Observation): string =>
    `${outcome} ${[...servers]}${masqueraded === undefined ? '' : masqueraded ? ' (masqueraded)' : ' (as it is)'}`;
  const { type, externalTrafficPolicy, loadBalancerSourceRanges, sessionAffinity } = one.spec ?? {};
  const states = made.endpoints.map(
    ({ addresses, conditions }) =>
      `${addresses[0]}${conditions?.ready ? '' : conditions?.terminating ? ' terminating' : ' not ready'}`,
  );
  return `${origin.name} → ${target.kind} ${target.address}:${target.port}: the real one ${say(real)}; ours (${contestant}) ${say(ours)}; ${JSON.stringify({ type, externalTrafficPolicy, loadBalancerSourceRanges, sessionAffinity, states })}`;
}
