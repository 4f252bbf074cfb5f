// kube-proxy changes its mode when its configuration file says so: new connections go on working all the time between
// the kernel modes, the old mode's rules go, and a file with mistakes changes nothing.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { RESOURCE } from '../../../src/client/resources.ts';
import { Conntrack } from '../../../src/linux/conntrack.ts';
import { listenTcp } from '../../../src/linux/listen.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { DaemonNode, waitFor } from './daemon-node.ts';
import { NODE_IP } from './node.ts';

const skip = SKIP_UNLESS_ROOT;
let daemon: DaemonNode;
let web = '';

before(async () => {
  if (skip) return;
  daemon = new DaemonNode('kpm');
  await daemon.start();
  web = await daemon.expose(
    service('default/web', { type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }] }),
    slice('default/web', [endpoint('10.244.1.3', { node: 'node' })], [{ port: 80 }]),
  );
  await daemon.run('--config', daemon.writeConfig({ mode: 'iptables' }));
});
after(() => daemon?.close());

/** Rewrites the file; resolves when the new mode is ready and the other modes' rules are gone. */
async function switchTo(mode: string, fields: Record<string, unknown> = {}): Promise<void> {
  const anew = (): number => daemon.log.split('starting anew').length;
  const before = anew();
  daemon.writeConfig({ mode, ...fields });
  await waitFor('the new configuration', async () => (anew() > before ? true : undefined));
  await waitFor(`mode ${mode}`, async () =>
    (await daemon.get(10249, '/proxyMode'))?.body === mode &&
    (await daemon.get(10256, '/readyz'))?.status === 200
      ? true
      : undefined,
  ).catch(error => {
    throw new Error(`${error.message}\n${daemon.log}`);
  });
}

async function chains(): Promise<string> {
  const { stdout } = await daemon.node.run('iptables-nft-save', []);
  return stdout;
}

async function failuresDuring(work: () => Promise<void>): Promise<string[]> {
  const failures: string[] = [];
  let over = false;
  const flood = (async () => {
    while (!over) {
      const outcome = await daemon.net.client.outcome(web, 80, { timeoutMs: 1000 });
      if (outcome !== 'pod2') failures.push(outcome);
    }
  })();
  await work();
  over = true;
  await flood;
  return failures;
}

test('iptables to nftables and back: no connection fails, the other rules go', { skip }, async () => {
  assert.deepEqual(await failuresDuring(() => switchTo('nftables')), []);
  await waitFor('chains gone', async () => (/^:KUBE-SERVICES/m.test(await chains()) ? undefined : true));
  assert.equal(await daemon.net.client.outcome(web, 80), 'pod2');
  assert.equal(await daemon.net.client.outcome(NODE_IP.v4, 30080), 'pod2');
  assert.deepEqual(await failuresDuring(() => switchTo('iptables')), []);
  await waitFor('table gone', async () => {
    const { stdout } = await daemon.node.run('nft', ['list', 'tables']);
    return stdout.includes('podwire-proxy') ? undefined : true;
  });
  assert.equal(await daemon.net.client.outcome(web, 80), 'pod2');
});

test('nftables: node ports on localhost by the relay, when asked for', { skip }, async () => {
  await switchTo('nftables', { nftables: { localhostNodePorts: true } });
  await waitFor('localhost', async () =>
    (await daemon.node.outcome('127.0.0.1', 30080)) === 'pod2' ? true : undefined,
  );
  await switchTo('iptables');
});

test('userspace: from iptables and back', { skip }, async () => {
  await switchTo('userspace', { portRange: '43000-43010' });
  for (const from of [daemon.net.client, daemon.node, daemon.net.pods[0]])
    assert.equal(await from?.outcome(web, 80), 'pod2');
  assert.equal(await daemon.net.client.outcome(NODE_IP.v4, 30080), 'pod2');
  await waitFor('chains gone', async () => (/^:KUBE-SVC-/m.test(await chains()) ? undefined : true));
  assert.match(await chains(), /--to-destination 10\.9\.0\.1:430\d\d$/m);
  await switchTo('iptables');
  await waitFor('portals gone', async () => (/^:KUBE-PORTALS/m.test(await chains()) ? undefined : true));
  assert.equal(await daemon.net.client.outcome(web, 80), 'pod2');
});

test('userspace: connections live on when the mode or the settings change', { skip }, async () => {
  const { net } = daemon;
  const pod = net.pods[1]!;
  const server = createServer(socket => socket.on('error', () => {}).pipe(socket));
  server.listen({ fd: listenTcp({ netns: pod.netns, address: '0.0.0.0', port: 7 }) });
  const echo = await daemon.expose(
    service('default/echo', { ports: [{ port: 7 }] }),
    slice('default/echo', [endpoint('10.244.1.3', { node: 'node' })], [{ port: 7 }]),
  );
  await switchTo('userspace');
  const socket = net.client.connect(echo, 7);
  let broken: unknown;
  socket.on('error', error => {
    broken = error;
  });
  const echoed = async (text: string): Promise<void> => {
    const answer = once(socket, 'data', { signal: AbortSignal.timeout(3000) });
    socket.write(text);
    assert.equal(String((await answer)[0]), text, String(broken));
  };
  await once(socket, 'connect');
  await echoed('one');
  // The proxy is built anew, in the same mode.
  assert.deepEqual(await failuresDuring(() => switchTo('userspace', { udpIdleTimeout: '300ms' })), []);
  await echoed('two');
  assert.deepEqual(await failuresDuring(() => switchTo('iptables')), []);
  await waitFor('portals gone', async () => (/^:KUBE-PORTALS/m.test(await chains()) ? undefined : true));
  await echoed('three');
  assert.equal(await net.client.outcome(web, 80), 'pod2');
  socket.destroy();
  server.close();
});

test('nftables: UDP flows of a Service that was deleted while no proxy ran go; others stay', {
  skip,
}, async () => {
  const { admin, net } = daemon;
  const ports = [{ port: 53, protocol: 'UDP' }];
  const addresses: string[] = [];
  for (const name of ['stays', 'goes'])
    addresses.push(
      await daemon.expose(
        service(`default/${name}`, { ports: [{ port: 53, protocol: 'UDP' }] }),
        slice(`default/${name}`, [endpoint('10.244.1.2', { node: 'node' })], ports),
      ),
    );
  await switchTo('nftables');
  for (const [n, ip] of addresses.entries())
    await waitFor('an answer', async () => {
      const outcome = await net.client.outcome(ip, 53, {
        protocol: 'udp',
        sourcePort: 5600 + n,
        timeoutMs: 200,
      });
      return outcome === 'pod1' ? true : undefined;
    });
  const flowsTo = (ip: string | undefined): number => {
    using conntrack = Conntrack.open(daemon.node.netns);
    return conntrack.list({ family: 4, protocol: 17 }).filter(({ original }) => original.destination === ip)
      .length;
  };
  assert.deepEqual(addresses.map(flowsTo), [1, 1]);
  await daemon.end('SIGKILL');
  await admin.delete(RESOURCE.services, 'goes', { namespace: 'default' });
  await daemon.run('--config', daemon.writeConfig({ mode: 'nftables' }));
  await waitFor('the flow gone', async () => (flowsTo(addresses[1]) === 0 ? true : undefined));
  assert.equal(flowsTo(addresses[0]), 1);
  await switchTo('iptables');
});

test('a file with mistakes changes nothing', { skip }, async () => {
  daemon.writeConfig({ mode: 'ipvs', unknown: true });
  await waitFor('refusal', async () => (daemon.log.includes('unknown: unknown field') ? true : undefined));
  assert.equal((await daemon.get(10249, '/proxyMode'))?.body, 'iptables');
  assert.equal(await daemon.net.client.outcome(web, 80), 'pod2');
});
