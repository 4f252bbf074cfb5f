// Our flanneld as the kube subnet manager of a real kube-apiserver: three nodes get their podCIDRs from the real
// kube-controller-manager, announce themselves with the rights of flannel's own ClusterRole, and their pods reach each other.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import type { Node } from '../../../src/api/types.ts';
import { issueCertificate, renderKubeconfig } from '../../../src/apiserver/pki.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { OverlayCluster } from '../../netns/overlay/cluster.ts';
import { bringIn, eventually, FlanneldProcess } from '../overlay/flanneld-process.ts';
import { bindRole, createRole } from './our-parts.ts';
import { skipWithout } from './peers.ts';
import { RealControlPlane } from './real-control-plane.ts';

const limits = { skip: skipWithout('kube-apiserver', 'kube-controller-manager'), timeout: 200_000 };
const NET_CONF = '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}';
const PREFIX = 'flannel.alpha.coreos.com';
const USER = 'system:serviceaccount:kube-flannel:flannel';
/** kube-flannel.yml's, and Events. */
const RULES = [
  { apiGroups: [''], resources: ['pods'], verbs: ['get'] },
  { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] },
  { apiGroups: [''], resources: ['nodes/status'], verbs: ['patch'] },
  { apiGroups: [''], resources: ['events'], verbs: ['create', 'patch'] },
];

type BareHost = ReturnType<OverlayCluster['addBareHost']>;

describe('our flanneld at a real kube-apiserver', limits, () => {
  let plane: RealControlPlane;
  let cluster: OverlayCluster;
  let kubeconfig = '';
  const hosts: BareHost[] = [];
  const daemons: FlanneldProcess[] = [];
  const ends: (() => void)[] = [];

  before(async () => {
    plane = await RealControlPlane.start();
    plane.startControllerManager('--allocate-node-cidrs=true', '--cluster-cidr=10.244.0.0/16');
    const { admin, pki, directory } = plane;
    await createRole(plane, 'flannel', RULES);
    await bindRole(plane, 'flannel', { kind: 'User', name: USER });
    const ca = { cert: readFileSync(pki.ca.cert, 'utf8'), key: readFileSync(pki.ca.key, 'utf8') };
    const credentials = issueCertificate(ca, { cn: USER, usages: ['client'] });
    kubeconfig = join(directory, 'flannel.conf');
    writeFileSync(
      kubeconfig,
      renderKubeconfig({
        clusterName: 'real',
        server: admin.config.server,
        ca: ca.cert,
        userName: USER,
        credentials,
      }),
    );
    cluster = new OverlayCluster('k8f', parseNetConf(NET_CONF));
    for (const n of [1, 2, 3]) {
      // The controller gives ranges in the order of registration; our hosts have theirs built in.
      await admin.create(RESOURCE.nodes, { metadata: { name: `n${n}` } });
      const cidr = await eventually(
        `a podCIDR of n${n}`,
        async () => (await admin.get(RESOURCE.nodes, `n${n}`)).spec?.podCIDR,
        30_000,
      );
      const bare = cluster.addBareHost({ n: Number(cidr.split('.')[2]) });
      hosts.push({ ...bare, name: `n${n}` });
      ends.push(bringIn(bare.host, plane.port));
    }
    for (const { host, name } of hosts) {
      const args = ['--kube-subnet-mgr', '--kubeconfig-file', kubeconfig, '--ip-masq', '--iface=eth0'];
      const daemon = new FlanneldProcess(host, { args, env: { NODE_NAME: name }, netConf: NET_CONF });
      daemons.push(daemon);
      daemon.start();
    }
    for (const daemon of daemons) await daemon.ready(30_000);
  });

  after(async () => {
    for (const daemon of daemons) await daemon.close();
    for (const end of ends) end();
    await cluster?.close();
    await plane?.stop();
  });

  const node = (name: string): Promise<Node> => plane.admin.get(RESOURCE.nodes, name);

  test('annotations and NetworkUnavailable are written as flannel writes them', async () => {
    for (const { name, underlayAddresses } of hosts) {
      const { metadata, status } = await node(name);
      const annotations = metadata?.annotations ?? {};
      assert.equal(annotations[`${PREFIX}/public-ip`], underlayAddresses[0]?.split('/')[0]);
      assert.equal(annotations[`${PREFIX}/backend-type`], 'vxlan');
      assert.equal(annotations[`${PREFIX}/kube-subnet-manager`], 'true');
      assert.match(annotations[`${PREFIX}/backend-data`] ?? '', /"VtepMAC":"[0-9a-f:]{17}"/);
      const condition = status?.conditions?.find(({ type }) => type === 'NetworkUnavailable');
      assert.deepEqual([condition?.status, condition?.reason], ['False', 'FlannelIsUp']);
    }
  });

  test('every pod reaches every other', async () => {
    for (const daemon of daemons)
      await eventually('all peers known', async () => (await daemon.overlay()).peers.length === 2);
    for (const from of hosts)
      for (const to of hosts.filter(other => other !== from))
        assert.equal((await from.pod.ask(to.podAddresses.v4, 80)).client, from.podAddresses.v4);
  });

  test('the server away: traffic goes on; a node deleted meanwhile is noticed', async () => {
    await plane.stopApiServer();
    assert.equal((await hosts[0]!.pod.ask(hosts[1]!.podAddresses.v4, 80)).client, hosts[0]!.podAddresses.v4);
    await plane.startApiServer();
    await daemons[2]!.kill();
    await plane.admin.delete(RESOURCE.nodes, 'n3');
    await eventually('one peer left', async () => (await daemons[0]!.overlay()).peers.length === 1, 30_000);
  });

  test('nothing was forbidden', () => {
    for (const { output } of daemons) assert.doesNotMatch(output, /[Ff]orbidden/);
  });
});
