// A node of flannel's and a node of ours in one overlay. flanneld itself cannot be had here; in its place stands what it
// does, command by command (facts of flannel's backend/vxlan and subnet/kube), from the Node annotations alone.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { takeOverRoutes } from '../../../routing/subnet/take-over.ts';
import type { Node } from '../../../src/api/types.ts';
import { type LabNamespace, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { OverlayCluster } from './cluster.ts';

const PREFIX = 'flannel.alpha.coreos.com';
const FLANNEL_MAC = '12:c6:65:89:b4:e3';
const FLANNEL_DEVICE = `ip link add flannel.1 address ${FLANNEL_MAC} mtu 1450 type vxlan id 1 local 10.99.0.2 dev eth0 dstport 8472 nolearning`;
const config = parseNetConf('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}');
const limits = { skip: SKIP_UNLESS_ROOT, timeout: 30_000 };

async function commands(host: LabNamespace, lines: string[]): Promise<void> {
  for (const line of lines) {
    const [program, ...args] = line.split(' ');
    const result = await host.run(program!, args);
    assert.equal(result.code, 0, `${line}: ${result.stderr}`);
  }
}

/** flanneld splits backend-data by hand: this is its way, not a JSON parser. */
function vtepMac(node: Node): string {
  const data = node.metadata?.annotations?.[`${PREFIX}/backend-data`] ?? '';
  return data.split('"VtepMAC":"')[1]?.split('"')[0] ?? '';
}

test('pods of a flannel node and of ours reach each other', limits, async () => {
  const cluster = new OverlayCluster('fln', config);
  after(() => cluster.close());
  const ours = await cluster.addHost({ n: 1 });
  const flannel = cluster.addBareHost({ n: 2 });
  await commands(flannel.host, [
    FLANNEL_DEVICE,
    'sysctl -qw net.ipv6.conf.flannel/1.accept_ra=0',
    'ip addr add 10.244.2.0/32 dev flannel.1',
    'ip link set flannel.1 up',
    'sysctl -qw net.ipv4.ip_forward=1',
  ]);
  cluster.setNode({
    metadata: {
      name: 'n2',
      uid: 'n2',
      annotations: {
        [`${PREFIX}/kube-subnet-manager`]: 'true',
        [`${PREFIX}/backend-type`]: 'vxlan',
        [`${PREFIX}/backend-data`]: `{"VNI":1,"VtepMAC":"${FLANNEL_MAC}"}`,
        [`${PREFIX}/public-ip`]: '10.99.0.2',
      },
    },
    spec: { podCIDR: '10.244.2.0/24' },
  });
  await cluster.sync();
  // What flanneld does on the event "node n1 is there".
  const node = cluster.nodes.get('n1')!;
  assert.equal(node.metadata?.annotations?.[`${PREFIX}/backend-type`], 'vxlan');
  const publicIp = node.metadata?.annotations?.[`${PREFIX}/public-ip`];
  await commands(flannel.host, [
    `ip neigh replace 10.244.1.0 lladdr ${vtepMac(node)} dev flannel.1 nud permanent`,
    `bridge fdb append ${vtepMac(node)} dev flannel.1 dst ${publicIp} self permanent`,
    'ip route replace 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink',
  ]);
  assert.deepEqual(await ours.pod.ask(flannel.podAddresses.v4, 80), { server: 'n2', client: '10.244.1.2' });
  assert.deepEqual(await flannel.pod.ask(ours.podAddresses.v4, 80), { server: 'n1', client: '10.244.2.2' });
  await takeOver();

  /** The image in flannel's DaemonSet is changed to ours: the device and the pods' connections stay. */
  async function takeOver(): Promise<void> {
    const index = flannel.host.rt.getLink('flannel.1')?.index;
    let running = true;
    const lost: string[] = [];
    const asking = (async () => {
      while (running) {
        const outcome = await ours.pod.outcome(flannel.podAddresses.v4, 53, {
          protocol: 'udp',
          timeoutMs: 3000,
        });
        if (outcome !== 'n2') lost.push(outcome);
      }
    })();
    // A node that left while flanneld was down: flanneld never looks at the kernel's routes.
    await commands(flannel.host, ['ip route add 10.244.77.0/24 via 10.244.77.0 dev flannel.1 onlink']);
    assert.equal(takeOverRoutes(config, flannel.host.netns), 2);
    const adopted = await cluster.startAgent(flannel).finally(async () => {
      await cluster.sync().finally(() => {
        running = false;
      });
    });
    await asking;
    assert.deepEqual(lost, []);
    assert.equal(flannel.host.rt.getLink('flannel.1')?.index, index);
    assert.equal(flannel.host.rt.getLink('flannel.1')?.mac, FLANNEL_MAC);
    const route = flannel.host.rt.listRoutes().find(found => found.destination === '10.244.1.0/24');
    assert.equal(route?.protocol, 213);
    assert.ok(!flannel.host.rt.listRoutes().some(found => found.destination === '10.244.77.0/24'));
    assert.deepEqual(await adopted.reconciler.verify(), []);
  }
});

test('our device is configured as flannel configures its own', limits, async () => {
  const cluster = new OverlayCluster('dev', config);
  after(() => cluster.close());
  const ours = await cluster.addHost({ n: 1 });
  const flannel = cluster.addBareHost({ n: 2 });
  await cluster.sync();
  await commands(flannel.host, [FLANNEL_DEVICE]);
  // Our side of the wire is the same as flannel's own.
  const show = async (host: LabNamespace): Promise<Record<string, unknown>> => {
    const [link] = JSON.parse((await host.run('ip', ['-d', '-j', 'link', 'show', 'flannel.1'])).stdout);
    const { id, port, learning, ttl, ageing } = link.linkinfo.info_data;
    return { mtu: link.mtu, id, port, learning, ttl, ageing };
  };
  assert.deepEqual(await show(ours.host), await show(flannel.host));
});

test('a device of that name that is not ours is not touched, and said', limits, async () => {
  const cluster = new OverlayCluster('own', config);
  after(() => cluster.close());
  const ours = await cluster.addHost({ n: 1 });
  ours.host.rt.addLink({ name: 'flannel.1', kind: 'bridge' });
  for (const node of cluster.nodes.values()) ours.overlay.upsertNode(node);
  ours.overlay.flush();
  await assert.rejects(ours.reconciler.settled(), /flannel\.1/);
  assert.equal(ours.host.rt.getLink('flannel.1')?.kind, 'bridge');
});
