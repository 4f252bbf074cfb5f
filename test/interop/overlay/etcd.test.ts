// The etcd subnet manager against a real etcd: who gets which subnet and keeps it, what others see, and what happens when
// leases end, keys vanish, history is compacted or etcd is away; at the end two flanneld programs and traffic.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import { EtcdSubnets, type EtcdSubnetsOptions } from '../../../src/agent/etcd-subnets.ts';
import type { NodeSink } from '../../../src/agent/subnet-source.ts';
import type { Node } from '../../../src/api/types.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { OverlayCluster } from '../../netns/overlay/cluster.ts';
import { EtcdProcess, SKIP_WITHOUT_ETCD } from './etcd-process.ts';
import { bringIn, eventually, FlanneldProcess } from './flanneld-process.ts';

const PREFIX = '/coreos.com/network';
const NET_CONF = '{"Network":"10.5.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}';
const limits = { skip: SKIP_WITHOUT_ETCD, timeout: 120_000 };

class Nodes implements NodeSink {
  readonly byName = new Map<string, Node>();
  upsertNode(node: Node): void {
    this.byName.set(node.metadata?.name ?? '', node);
  }
  deleteNode(name: string): void {
    this.byName.delete(name);
  }
  podCidr(name: string): string | undefined {
    return this.byName.get(name)?.spec?.podCIDR;
  }
}

describe('subnets in etcd', limits, () => {
  const etcd = new EtcdProcess();
  const directory = mkdtempSync(join(tmpdir(), 'pwt-etcd-subnets-'));
  before(() => etcd.start());
  after(async () => {
    await etcd.close();
    rmSync(directory, { recursive: true, force: true });
  });

  interface Member {
    source: EtcdSubnets;
    nodes: Nodes;
    cidr: () => string | undefined;
  }
  const enrol = async (
    n: number,
    change: Partial<EtcdSubnetsOptions> & { subnetFile?: string; addresses?: string[] } = {},
  ): Promise<Member> => {
    const { subnetFile = join(directory, `m${n}.env`), addresses = [`192.0.2.${n}/24`], ...rest } = change;
    const source = new EtcdSubnets(
      {
        // The first endpoint has nobody: the second must be tried.
        endpoints: ['http://127.0.0.1:1', etcd.endpoint],
        prefix: PREFIX,
        caFile: '',
        certFile: '',
        keyFile: '',
        username: '',
        password: '',
        renewMarginMinutes: 60,
        ...rest,
      },
      subnetFile,
      silentLogger(),
    );
    const nodes = new Nodes();
    const stop = new AbortController();
    const underlay = { link: 'eth0', addresses, mtuBytes: 1500 };
    try {
      const prepared = await source.prepare(stop.signal);
      const name = prepared.nodeName(underlay);
      await source.run(nodes, () => underlay, stop.signal);
      return { source, nodes, cidr: () => nodes.podCidr(name) };
    } catch (thrown) {
      await source.stop();
      throw thrown;
    }
  };
  const keys = async (): Promise<string[]> =>
    (await etcd.read(`${PREFIX}/subnets/`)).map(({ key }) => key.slice(`${PREFIX}/subnets/`.length));
  const keyOf = (member: Member): string => member.cidr()!.replace('/', '-');
  const clear = (): Promise<string> => etcd.ctl('del', '--prefix', PREFIX);
  const configure = (text = NET_CONF): Promise<string> => etcd.ctl('put', `${PREFIX}/config`, text);

  test('a new node waits for the configuration, leases a subnet, and others see it', limits, async t => {
    await clear();
    const joining = enrol(1);
    await new Promise(resolve => setTimeout(resolve, 300));
    await configure();
    const one = await joining;
    t.after(() => one.source.stop());
    const [entry] = await etcd.read(`${PREFIX}/subnets/`);
    assert.equal(entry?.key, `${PREFIX}/subnets/${keyOf(one)}`);
    assert.notEqual(entry.lease, 0n);
    const value = JSON.parse(entry.value);
    assert.deepEqual(Object.keys(value), ['PublicIP', 'PublicIPv6', 'BackendType', 'BackendData']);
    assert.equal(value.PublicIP, '192.0.2.1');
    assert.equal(value.BackendType, 'vxlan');
    assert.deepEqual(Object.keys(value.BackendData), ['VNI', 'VtepMAC']);
    const two = await enrol(2);
    t.after(() => two.source.stop());
    assert.notEqual(two.cidr(), one.cidr());
    await eventually('the first sees the second', () => one.nodes.byName.has(keyOf(two)));
    assert.equal(two.nodes.podCidr(keyOf(one)), one.cidr());
    await etcd.ctl('del', `${PREFIX}/subnets/${keyOf(two)}`);
  });

  test('many that start together get subnets of their own', limits, async t => {
    await clear();
    await configure(
      '{"Network":"10.5.0.0/16","SubnetLen":24,"SubnetMin":"10.5.10.0","SubnetMax":"10.5.17.0","Backend":{"Type":"vxlan"}}',
    );
    const members = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(n => enrol(n)));
    t.after(() => Promise.all(members.map(member => member.source.stop())));
    assert.equal(new Set(members.map(member => member.cidr())).size, 8);
    await assert.rejects(enrol(9), { code: 'OUT_OF_SUBNETS' });
  });

  test('a node keeps its subnet: by its public IP, by its subnet file, by a reservation', limits, async t => {
    await clear();
    await configure();
    const first = await enrol(1);
    const cidr = first.cidr();
    await first.source.stop();
    const again = await enrol(1);
    assert.equal(again.cidr(), cidr, 'same public IP');
    assert.equal((await keys()).length, 1);
    await again.source.stop();

    await etcd.ctl('del', '--prefix', `${PREFIX}/subnets/`);
    const subnetFile = join(directory, 'kept.env');
    writeFileSync(subnetFile, 'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.77.1/24\nFLANNEL_MTU=1450\n');
    const kept = await enrol(1, { subnetFile });
    t.after(() => kept.source.stop());
    assert.equal(kept.cidr(), '10.5.77.0/24', 'subnet file');

    await etcd.ctl('put', `${PREFIX}/subnets/10.5.88.0-24`, '{"PublicIP":"192.0.2.3"}');
    const reserved = await enrol(3);
    t.after(() => reserved.source.stop());
    assert.equal(reserved.cidr(), '10.5.88.0/24', 'reservation');
    await reserved.source.publish({
      metadata: { annotations: { 'flannel.alpha.coreos.com/backend-type': 'vxlan' } },
    });
    const entry = (await etcd.read(`${PREFIX}/subnets/10.5.88.0-24`))[0];
    assert.equal(entry?.lease, 0n, 'it stays one');
    assert.equal(JSON.parse(entry?.value ?? '{}').BackendType, 'vxlan');
  });

  test('dual-stack subnets have both parts in one key', limits, async t => {
    await clear();
    await configure(
      '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"host-gw"}}',
    );
    const dual = await enrol(1, { addresses: ['192.0.2.1/24', '2001:db8::1/64'] });
    t.after(() => dual.source.stop());
    const [key] = await keys();
    assert.match(key ?? '', /^10\.5\.\d+\.0-24&fc00:.*::-64$/);
    assert.equal(dual.nodes.byName.get('192.0.2.1')?.spec?.podCIDRs?.length, 2);
  });

  test('leases are renewed; one that is lost is taken again, with the same subnet', limits, async t => {
    await clear();
    await configure();
    const one = await enrol(1, { ttlSeconds: 3 });
    t.after(() => one.source.stop());
    const cidr = one.cidr();
    const leaseBefore = (await etcd.read(`${PREFIX}/subnets/`))[0]?.lease;
    await new Promise(resolve => setTimeout(resolve, 5_000));
    assert.equal((await etcd.read(`${PREFIX}/subnets/`))[0]?.lease, leaseBefore, 'the lease lives on');
    await etcd.ctl('lease', 'revoke', leaseBefore!.toString(16));
    await eventually('a new lease', async () => (await keys()).length === 1);
    assert.equal(one.cidr(), cidr);
    await etcd.ctl(
      'put',
      `${PREFIX}/subnets/${keyOf(one)}`,
      '{"PublicIP":"192.0.2.99","BackendType":"vxlan"}',
    );
    await eventually('another subnet, since ours was taken', () => one.cidr() !== cidr);
  });

  test('changes are not missed: compacted history, and etcd away for a while', limits, async t => {
    await clear();
    await configure();
    const one = await enrol(1);
    t.after(() => one.source.stop());
    const peer = `${PREFIX}/subnets/10.5.200.0-24`;
    await etcd.ctl('put', peer, '{"PublicIP":"192.0.2.200","BackendType":"vxlan"}');
    await eventually('the peer is seen', () => one.nodes.byName.has('10.5.200.0-24'));
    await etcd.stop();
    await new Promise(resolve => setTimeout(resolve, 500));
    await etcd.start();
    await etcd.ctl('del', peer);
    const text = await etcd.ctl(
      'put',
      '-w',
      'json',
      `${PREFIX}/subnets/10.5.201.0-24`,
      '{"PublicIP":"192.0.2.201"}',
    );
    const { revision } = (JSON.parse(text) as { header: { revision: number } }).header;
    await etcd.ctl('compact', String(revision));
    await eventually(
      'what went and what came',
      () => {
        const { byName } = one.nodes;
        return !byName.has('10.5.200.0-24') && byName.has('10.5.201.0-24');
      },
      20_000,
    );
    assert.ok(one.cidr());
  });

  test('a user with a password; a wrong one is refused in words', limits, async t => {
    await clear();
    await configure();
    await etcd.ctl('user', 'add', 'root:secret');
    await etcd.ctl('user', 'grant-role', 'root', 'root');
    await etcd.ctl('auth', 'enable');
    t.after(async () => {
      await etcd.ctl('--user', 'root:secret', 'auth', 'disable');
    });
    const one = await enrol(1, { username: 'root', password: 'secret' });
    assert.ok(one.cidr());
    await one.source.stop();
    await assert.rejects(enrol(2, { username: 'root', password: 'wrong' }), /authentication failed/);
  });

  test('TLS with a client certificate; without one the way is shut', limits, async t => {
    const secure = new EtcdProcess({ tls: true });
    t.after(() => secure.close());
    await secure.start();
    await secure.ctl('put', `${PREFIX}/config`, NET_CONF);
    const { endpoint, certFile, keyFile } = secure;
    const one = await enrol(1, { endpoints: [endpoint], caFile: certFile, certFile, keyFile });
    assert.ok(one.cidr());
    await one.source.stop();
    const source = new EtcdSubnets(
      {
        ...{ endpoints: [endpoint], prefix: PREFIX, caFile: certFile, certFile: '', keyFile: '' },
        ...{ username: '', password: '', renewMarginMinutes: 60 },
      },
      join(directory, 'tls.env'),
      silentLogger(),
    );
    t.after(() => source.stop());
    await assert.rejects(source.prepare(AbortSignal.timeout(1500)), { name: 'TimeoutError' });
  });

  test('two flanneld programs carry traffic', {
    ...limits,
    skip: SKIP_WITHOUT_ETCD || SKIP_UNLESS_ROOT,
  }, async t => {
    await clear();
    const conf = '{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}';
    await configure(conf);
    const cluster = new OverlayCluster('fe', parseNetConf(conf));
    t.after(() => cluster.close());
    const hosts = [1, 2].map(n => cluster.addBareHost({ n }));
    for (const [at, host] of hosts.entries()) {
      t.after(bringIn(host.host, etcd.port));
      // The pods of this stage have fixed addresses, so each node's subnet is reserved for it.
      const key = `${PREFIX}/subnets/10.244.${at + 1}.0-24`;
      await etcd.ctl('put', key, `{"PublicIP":"10.99.0.${at + 1}","BackendType":"vxlan"}`);
    }
    for (const host of hosts) {
      const flanneld = new FlanneldProcess(host.host, {
        args: ['--etcd-endpoints', `http://127.0.0.1:4001,${etcd.endpoint}`, '--ip-masq'],
      });
      t.after(() => flanneld.close());
      flanneld.start();
      await flanneld.ready();
      assert.match(flanneld.subnetEnv(), /FLANNEL_SUBNET=10\.244\.[12]\.1\/24\nFLANNEL_MTU=1450\n/);
    }
    const [one, two] = [hosts[0]!, hosts[1]!];
    await eventually('the way to the other', async () => {
      const { stdout } = await one.host.run('ip', ['route', 'show', '10.244.2.0/24']);
      return stdout.includes('flannel.1');
    });
    assert.equal((await one.pod.ask(two.podAddresses.v4, 80)).server, two.name);
    assert.equal((await two.pod.ask(one.podAddresses.v4, 80)).server, one.name);
  });
});
