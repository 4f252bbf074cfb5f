// A node of flannel's and a node of ours in one overlay, and flannel replaced by ours under traffic. Flannel's part is
// played by hand (flannel-node.ts); ours is the flanneld program beside our API server.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { RESOURCE } from '../../../src/client/resources.ts';
import { run } from '../../../src/linux/exec.ts';
import { type ControlPlane, startControlPlane } from '../../harness/control-plane.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { eventually, FlanneldProcess } from './flanneld-process.ts';
import { type BareHost, exchange, NET_CONF, Stage, startTraffic } from './stage.ts';

const PREFIX = 'flannel.alpha.coreos.com';
const PODWIRE = join(import.meta.dirname, '../../../src/cmd/podwire.ts');
const limits = { skip: SKIP_UNLESS_ROOT, timeout: 120_000 };

describe('flanneld beside flannel', limits, () => {
  let plane: ControlPlane;
  before(async () => {
    plane = await startControlPlane();
  });
  after(() => plane.stop());

  test('a node programmed by hand from annotations exchanges traffic with ours', limits, async t => {
    const stage = new Stage(plane, 'fd');
    t.after(() => stage.close());
    const [ours, theirs] = [await stage.host(1), await stage.host(2)];
    const flanneld = stage.flanneld(ours);
    flanneld.start();
    await flanneld.ready();
    const flannel = stage.flannel(theirs, 2);
    await flannel.makeDevice();
    await flannel.announce(plane.admin);
    const node = await eventually('annotations of our node', async () => {
      const found = await stage.node('n1');
      return found.metadata?.annotations?.[`${PREFIX}/backend-v6-data`] ? found : undefined;
    });
    assert.equal(node.metadata?.annotations?.[`${PREFIX}/public-ip`], '10.99.0.1');
    assert.equal(node.metadata?.annotations?.[`${PREFIX}/public-ipv6`], 'fd99::1');
    const condition = node.status?.conditions?.find(entry => entry.type === 'NetworkUnavailable');
    assert.equal(condition?.status, 'False');
    assert.equal(condition?.reason, 'FlannelIsUp');
    await flannel.addPeer(node);
    await eventually('our node knows the other', async () => (await flanneld.overlay()).peers.length === 2);
    await eventually('the kernel of our node', async () => (await flanneld.diff()).length === 0);
    await exchange(ours, theirs);

    await t.test('the subnet file is as flannel writes it', () => {
      assert.equal(
        flanneld.subnetEnv(),
        'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::/56\n' +
          'FLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n',
      );
    });

    await t.test('status tells peers, probes and last change; health and metrics answer', async () => {
      const report = await flanneld.overlay(true);
      assert.equal(report.ready, true);
      assert.deepEqual(
        report.peers.map(({ node: name, publicIp, vtepMac, probe }) => [
          name,
          publicIp,
          vtepMac,
          probe?.result,
        ]),
        [
          ['n2', '10.99.0.2', '0a:58:0a:f4:02:00', 'reachable'],
          ['n2', 'fd99::2', '0a:58:0a:f6:02:00', 'reachable'],
        ],
      );
      assert.match(report.peers[0]!.lastChange ?? '', /^\d{4}-/);
      assert.equal((await flanneld.get('/healthz')).code, 200);
      const metrics = (await flanneld.get('/metrics')).stdout;
      assert.match(metrics, /podwire_overlay_peers\{family="ipv4"\} 1/);
    });

    await t.test('podwire overlay status prints it, and as JSON', async () => {
      const status = (...args: string[]) =>
        run(process.execPath, [
          '--disable-warning=ExperimentalWarning',
          PODWIRE,
          'overlay',
          'status',
          ...args,
        ]);
      const table = await status('--probe', '--socket', flanneld.adminSocket);
      assert.equal(table.code, 0, table.stderr);
      assert.match(table.stdout, /n1: vxlan over eth0 \(MTU 1500\), pods' MTU 1430/);
      assert.match(table.stdout, /n2.*10\.244\.2\.0\/24.*10\.99\.0\.2.*0a:58:0a:f4:02:00.* ms/);
      const json = await status('-o', 'json', '--socket', flanneld.adminSocket);
      assert.equal(JSON.parse(json.stdout)[0].peers.length, 2);
    });

    await t.test('a peer with a hostile annotation is refused, with an Event and a metric', async () => {
      await plane.admin.create(RESOURCE.nodes, {
        metadata: {
          name: 'bad',
          annotations: {
            [`${PREFIX}/kube-subnet-manager`]: 'true',
            [`${PREFIX}/backend-type`]: 'vxlan',
            [`${PREFIX}/backend-data`]: '{"VNI":1,"VtepMAC":"ff:ff:ff:ff:ff:ff"}',
            [`${PREFIX}/public-ip`]: '10.99.0.66',
          },
        },
        spec: { podCIDR: '10.244.66.0/24', podCIDRs: ['10.244.66.0/24'] },
      });
      const event = await eventually('an Event on the bad node', async () =>
        (await plane.admin.list(RESOURCE.events)).items.find(entry => entry.involvedObject.name === 'bad'),
      );
      assert.equal(event.reason, 'BadBackendData');
      const metrics = (await flanneld.get('/metrics')).stdout;
      assert.match(metrics, /podwire_overlay_refused_peers\{reason="BadBackendData"\} 1/);
      await exchange(ours, theirs);
    });

    await t.test('a route deleted by hand comes back, with an Event and a metric', async () => {
      await ours.host.run('ip', ['route', 'del', '10.244.2.0/24']);
      await eventually('the route', async () => {
        const { stdout } = await ours.host.run('ip', ['route', 'show', '10.244.2.0/24']);
        return stdout.includes('flannel.1');
      });
      const event = await eventually('an Event on our node', async () =>
        (await plane.admin.list(RESOURCE.events)).items.find(entry => entry.reason === 'OverlayRepaired'),
      );
      assert.match(event.message ?? '', /10\.244\.2\.0\/24/);
      assert.match(
        (await flanneld.get('/metrics')).stdout,
        /podwire_kernel_repairs_total\{.*kind="route".*\} 1/,
      );
    });

    await t.test('the underlay gets another MTU and another address', async () => {
      ours.host.rt.setLink('eth0', { mtuBytes: 1400 });
      await eventually('MTU in the subnet file', () => flanneld.subnetEnv().includes('FLANNEL_MTU=1330'));
      ours.host.rt.setLink('eth0', { mtuBytes: 1500 });
      ours.host.rt.delAddress({ link: 'eth0', address: '10.99.0.1/24' });
      ours.host.rt.addAddress({ link: 'eth0', address: '10.99.0.101/24' });
      await eventually('the new address in the annotation', async () => {
        const changed = await stage.node('n1');
        return changed.metadata?.annotations?.[`${PREFIX}/public-ip`] === '10.99.0.101';
      });
      await eventually('the device on the new address', async () => {
        const { stdout } = await ours.host.run('ip', ['-d', 'link', 'show', 'flannel.1']);
        return stdout.includes('local 10.99.0.101');
      });
    });
  });

  test(
    'the API server away: traffic goes on, drift is mended, and what changed meanwhile is found',
    limits,
    async t => {
      const stage = new Stage(plane, 'fa');
      t.after(() => stage.close());
      const [ours, theirs, leaving, coming] = [
        await stage.host(1),
        await stage.host(2),
        await stage.host(3),
        await stage.host(4),
      ];
      const flannel = stage.flannel(theirs, 2);
      await flannel.makeDevice();
      await flannel.announce(plane.admin);
      await stage.flannel(leaving, 3).announce(plane.admin);
      const flanneld = stage.flanneld(ours);
      flanneld.start();
      await flanneld.ready();
      await flannel.addPeer(await stage.node('n1'));
      const routes = async (): Promise<string> =>
        (await ours.host.run('ip', ['route', 'show', 'proto', '213'])).stdout;
      await eventually('both peers', async () => /\.2\.0\/24[\s\S]*\.3\.0\/24/.test(await routes()));

      const back = stage.cutApi(ours);
      await ours.host.run('ip', ['link', 'del', 'flannel.1']);
      await eventually('the device and its routes', async () => (await routes()).includes('10.244.2.0/24'));
      await plane.admin.delete(RESOURCE.nodes, 'n3');
      await stage.flannel(coming, 4).announce(plane.admin);
      await new Promise(resolve => setTimeout(resolve, 3000));
      await exchange(ours, theirs);
      assert.equal((await flanneld.get('/healthz')).code, 200);
      assert.match(await routes(), /10\.244\.3\.0\/24/);

      back();
      await eventually(
        'who left and who came',
        async () => {
          const now = await routes();
          return !now.includes('10.244.3.0/24') && now.includes('10.244.4.0/24');
        },
        20_000,
      );
      await exchange(ours, theirs);
    },
  );

  test('flannel is replaced by ours under traffic without losing a packet', limits, async t => {
    const stage = new Stage(plane, 'fr');
    t.after(() => stage.close());
    const hosts = [await stage.host(1), await stage.host(2)] as const;
    const flannels = hosts.map((host, at) => stage.flannel(host, at + 1));
    for (const flannel of flannels) {
      await flannel.makeDevice();
      await flannel.makeRules('10.244.0.0/16');
      await flannel.announce(plane.admin);
    }
    await flannels[0]!.addPeer(await stage.node('n2'));
    await flannels[1]!.addPeer(await stage.node('n1'));
    await exchange(...hosts);
    const index = (host: BareHost): number | undefined => host.host.rt.getLink('flannel.1')?.index;
    const before = hosts.map(index);

    const stops = [startTraffic(hosts[0], hosts[1]), startTraffic(hosts[1], hosts[0])];
    t.after(() => Promise.all(stops.map(stop => stop())));
    const ours: FlanneldProcess[] = [];
    for (const host of hosts) {
      const flanneld = stage.flanneld(host);
      ours.push(flanneld);
      flanneld.start();
      await flanneld.ready();
      await eventually('nothing left to do', async () => (await flanneld.diff()).length === 0);
    }
    for (const stop of stops) {
      const { sent, lost } = await stop();
      assert.ok(sent > 50, `only ${sent} datagrams were sent`);
      assert.equal(lost, 0, `${lost} of ${sent} datagrams were lost`);
    }
    assert.deepEqual(hosts.map(index), before, 'the devices were taken over, not made again');
    await exchange(...hosts);

    await t.test('kill -9 and a new start lose nothing either', async () => {
      const stop = startTraffic(hosts[0], hosts[1]);
      await ours[0]!.kill('SIGKILL');
      await new Promise(resolve => setTimeout(resolve, 300));
      ours[0]!.start();
      await ours[0]!.ready();
      const { sent, lost } = await stop();
      assert.equal(lost, 0, `${lost} of ${sent} datagrams were lost`);
      assert.deepEqual(hosts.map(index), before);
    });
  });

  test('public addresses by flag and by annotation; an API server that was away', limits, async t => {
    const own = await startControlPlane();
    const stage = new Stage(own, 'fp');
    t.after(async () => {
      await stage.close();
      await own.stop();
    });
    const ours = await stage.host(1);
    const publicIp = async (): Promise<string | undefined> =>
      (await stage.node('n1')).metadata?.annotations?.[`${PREFIX}/public-ip`];
    ours.host.rt.addAddress({ link: 'eth0', address: '10.99.0.77/24' });
    const natted = stage.flanneld(ours, '--public-ip=203.0.113.5');
    natted.start();
    await natted.ready();
    await eventually('the address of the flag', async () => (await publicIp()) === '203.0.113.5');
    assert.equal((await natted.overlay()).self[0]?.localIp, '10.99.0.1');
    await natted.kill();

    await own.admin.patch(
      RESOURCE.nodes,
      'n1',
      { metadata: { annotations: { [`${PREFIX}/node-public-ip`]: '10.99.0.77' } } },
      { type: 'strategic' },
    );
    const flanneld = stage.flanneld(ours);
    flanneld.start();
    await flanneld.ready();
    await eventually('the address of the annotation', async () => (await publicIp()) === '10.99.0.77');

    const peer = stage.flannel(await stage.host(2), 2);
    await own.restart(1500);
    assert.equal((await flanneld.get('/healthz')).code, 200);
    await peer.announce(own.admin);
    await eventually(
      'a peer that came meanwhile',
      async () => (await flanneld.overlay()).peers.length === 2,
      30_000,
    );
  });

  test('a route of somebody else is left alone and reported; ready when it is gone', limits, async t => {
    const stage = new Stage(plane, 'fo');
    t.after(() => stage.close());
    const [ours, theirs] = [await stage.host(1), await stage.host(2)];
    const flannel = stage.flannel(theirs, 2);
    await flannel.announce(plane.admin);
    // An operator's: what has protocol `boot`, as flannel's routes do, would be taken over.
    const foreign = '10.244.2.0/24 via 10.99.0.9 dev eth0 proto static';
    await ours.host.run('ip', ['route', 'add', ...foreign.split(' ')]);
    const flanneld = stage.flanneld(ours);
    flanneld.start();
    const refused = await eventually('what is wrong, in /readyz', async () => {
      const { code, stdout } = await flanneld.get('/readyz');
      return code === 500 && stdout.includes('EEXIST') ? stdout : undefined;
    });
    assert.match(refused, /\[-\]kernel failed: .*10\.244\.2\.0\/24/);
    assert.match((await ours.host.run('ip', ['route', 'show', '10.244.2.0/24'])).stdout, /via 10\.99\.0\.9/);
    await ours.host.run('ip', ['route', 'del', '10.244.2.0/24']);
    await flanneld.ready();
    assert.match((await ours.host.run('ip', ['route', 'show', '10.244.2.0/24'])).stdout, /dev flannel\.1/);
  });

  test('bad input ends the program with one sentence that says everything', limits, async t => {
    const stage = new Stage(plane, 'fb');
    t.after(() => stage.close());
    const host = await stage.host(1);
    const refused = async (netConf: string, args: string[]): Promise<string> => {
      const kube = ['--kube-subnet-mgr', '--kubeconfig-file', plane.kubeconfig];
      const flanneld = new FlanneldProcess(host.host, {
        args: [...kube, ...args],
        env: { NODE_NAME: 'n1' },
        netConf,
      });
      flanneld.start();
      assert.notEqual(await flanneld.ended(), 0);
      await flanneld.close();
      return flanneld.output;
    };
    const conf = await refused(
      '{"Network":"10.244.0.0/33","EnableIPv6":true,"Backend":{"Type":"vxlan","VNI":-1}}',
      [],
    );
    for (const part of ['Network', 'IPv6Network', 'Backend.VNI']) assert.match(conf, new RegExp(part));
    const iface = await refused(NET_CONF, ['--iface=nosuch0']);
    assert.match(iface, /--iface nosuch0.*eth0 \(10\.99\.0\.1/);
    const flags = await refused(NET_CONF, ['--healthz-port=x', '--public-ip', '1.2.3', '--iface-regex', '(']);
    for (const part of ['healthz-port', '1.2.3', 'iface-regex']) assert.match(flags, new RegExp(part));
  });
});
