// kube-proxy in userspace mode, stopped, killed and started again under live TCP, UDP and new connections: the relay is a
// process of its own, and nobody notices. Only when that one is killed do connections end; new ones go within 2 s.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RESOURCE } from '../../../src/client/resources.ts';
import { listenTcp } from '../../../src/linux/listen.ts';
import { findProcessesByEnv, findProcessesByNetns, isAlive } from '../../../src/linux/process.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { DaemonNode, waitFor } from './daemon-node.ts';

const skip = SKIP_UNLESS_ROOT;
const PATIENCE_MS = 2000;
let daemon: DaemonNode;
let web = '';
let dns = '';
let echo = '';
const server = createServer(socket => void socket.on('error', () => {}).pipe(socket));

before(async () => {
  if (skip) return;
  daemon = new DaemonNode('kpr');
  await daemon.start();
  const expose = (name: string, ports: { port: number; protocol?: string }[]): Promise<string> =>
    daemon.expose(
      service(`default/${name}`, { ports }),
      slice(`default/${name}`, [endpoint('10.244.1.3', { node: 'node' })], ports),
    );
  web = await expose('web', [{ port: 80 }]);
  dns = await expose('dns', [{ port: 53, protocol: 'UDP' }]);
  echo = await expose('echo', [{ port: 7 }]);
  server.listen({ fd: listenTcp({ netns: daemon.net.pods[1]!.netns, address: '0.0.0.0', port: 7 }) });
  await run();
});
after(async () => {
  server.close();
  await daemon?.close();
});

function run(): Promise<void> {
  return daemon.run('--config', daemon.writeConfig({ mode: 'userspace' }));
}

/** Rewrites the file; resolves when the new mode is ready and the others' rules are gone. */
async function switchTo(mode: string): Promise<void> {
  daemon.writeConfig({ mode });
  await waitFor(`mode ${mode}`, async () =>
    (await daemon.get(10249, '/proxyMode'))?.body === mode &&
    (await daemon.get(10256, '/readyz'))?.status === 200 &&
    (await rules()).length > 0 === (mode === 'userspace')
      ? true
      : undefined,
  );
  await sleep(500);
}

function relayHosts(): number[] {
  return findProcessesByNetns(daemon.node.netns.inode).filter(pid => {
    try {
      return isAlive(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('/relay-host.');
    } catch {
      return false;
    }
  });
}

/** The rules that lead to the relay, with its ports. */
async function rules(): Promise<string[]> {
  const { stdout } = await daemon.node.run('iptables-nft-save', ['-t', 'nat']);
  return stdout.split('\n').filter(line => /^-A KUBE-PORTALS-/.test(line));
}

async function exchange(socket: Socket, text: string): Promise<void> {
  const answer = once(socket, 'data', { signal: AbortSignal.timeout(PATIENCE_MS) });
  socket.write(text);
  assert.equal(String((await answer)[0]), text);
}

interface Counted {
  stream: number;
  datagrams: number;
  connections: number;
  failed: string[];
}

/** One stream that goes on and on, one UDP client that asks again and again, and new connections one after the other. */
async function counted(work: () => Promise<void>): Promise<Counted> {
  const { client } = daemon.net;
  const counts: Counted = { stream: 0, datagrams: 0, connections: 0, failed: [] };
  let over = false;
  const stream = client.connect(echo, 7);
  stream.on('error', error => counts.failed.push(`stream: ${error.message}`));
  await once(stream, 'connect');
  const datagram = await client.udpClient(dns, 53);
  const loop = async (what: 'stream' | 'datagrams' | 'connections', once: () => Promise<void>) => {
    while (!over && counts.failed.length < 100)
      try {
        await once();
        counts[what]++;
      } catch (error) {
        counts.failed.push(`${what}: ${error}`);
      }
  };
  const loops = [
    loop('stream', async () => {
      await exchange(stream, `line ${counts.stream}\n`);
      await sleep(5);
    }),
    loop('datagrams', async () => {
      const answer = once(datagram, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) });
      datagram.send('?');
      assert.match(String((await answer)[0]), /^pod2 /);
      await sleep(5);
    }),
    loop('connections', async () =>
      assert.equal(await client.outcome(web, 80, { timeoutMs: PATIENCE_MS }), 'pod2'),
    ),
  ];
  try {
    await work();
  } finally {
    over = true;
    await Promise.all(loops);
    stream.destroy();
    datagram.close();
  }
  return counts;
}

async function nothingFailsDuring(work: () => Promise<void>): Promise<void> {
  const { failed, stream, datagrams, connections } = await counted(work);
  assert.deepEqual(failed, []);
  for (const count of [stream, datagrams, connections]) assert.ok(count > 20, String(count));
}

/** A new connection may meet the moment between two modes' rules and be refused; what is there goes on. */
async function connectionsGoOnDuring(work: () => Promise<void>): Promise<void> {
  const { failed, stream, datagrams } = await counted(work);
  const others = failed.filter(what => !(what.startsWith('connections: ') && what.includes('ECONNREFUSED')));
  assert.deepEqual(others, []);
  for (const count of [stream, datagrams]) assert.ok(count > 20, String(count));
}

test('SIGTERM and a new start: the same listeners, 0 failed', { skip }, async () => {
  const hosts = relayHosts();
  assert.equal(hosts.length, 1);
  // Whoever looks for what a daemon left finds the host by the daemon's environment, as `podwire down` does.
  assert.ok(findProcessesByEnv('PODWIRE_RELAY_DIRECTORY', daemon.relayDirectory).includes(hosts[0] ?? 0));
  const before = await rules();
  assert.ok(before.length >= 6, before.join('\n'));
  await nothingFailsDuring(async () => {
    assert.deepEqual(await daemon.end('SIGTERM'), { code: 0, signal: null });
    await sleep(500);
    await run();
    await sleep(300);
  });
  assert.deepEqual(relayHosts(), hosts);
  assert.deepEqual(await rules(), before);
});

test('kill -9 and a new start: the same listeners, 0 failed; what changed meanwhile is done', {
  skip,
}, async () => {
  const [hosts, before] = [relayHosts(), await rules()];
  const { admin, net } = daemon;
  await nothingFailsDuring(async () => {
    await daemon.end('SIGKILL');
    await sleep(500);
    await run();
    await sleep(300);
  });
  assert.deepEqual(relayHosts(), hosts);
  assert.deepEqual(await rules(), before);
  await daemon.end('SIGKILL');
  const gone = await daemon.expose(
    service('default/late', { ports: [{ port: 80 }] }),
    slice('default/late', [endpoint('10.244.1.2', { node: 'node' })], [{ port: 80 }]),
  );
  await run();
  assert.equal(await net.client.outcome(gone, 80), 'pod1');
  await daemon.end('SIGKILL');
  await admin.delete(RESOURCE.services, 'late', { namespace: 'default' });
  await run();
  assert.deepEqual(await rules(), before);
  assert.deepEqual(relayHosts(), hosts);
});

test('kill -9 of the relay host: another one serves within 2 s', {
  skip,
}, async () => {
  const [host = 0] = relayHosts();
  const { client } = daemon.net;
  const from = performance.now();
  process.kill(host, 'SIGKILL');
  while (isAlive(host)) await sleep(1);
  await waitFor('new connections', async () =>
    (await client.outcome(web, 80, { timeoutMs: 200 })) === 'pod2' ? true : undefined,
  );
  const ms = performance.now() - from;
  assert.ok(ms < 2000, `${Math.round(ms)} ms`);
  await waitFor('UDP', async () =>
    (await client.outcome(dns, 53, { protocol: 'udp', timeoutMs: 200 })) === 'pod2' ? true : undefined,
  );
  const hosts = relayHosts();
  assert.equal(hosts.length, 1);
  assert.notEqual(hosts[0], host);
  await nothingFailsDuring(() => sleep(500));
});

test('to another mode and back: connections go on; the host ends with its last one', { skip }, async () => {
  const [host = 0] = relayHosts();
  const stream = daemon.net.client.connect(echo, 7);
  try {
    await once(stream, 'connect');
    await exchange(stream, 'userspace');
    await connectionsGoOnDuring(() => switchTo('nftables'));
    assert.deepEqual(await rules(), []);
    await exchange(stream, 'nftables');
    await connectionsGoOnDuring(() => switchTo('userspace'));
    await exchange(stream, 'userspace again');
    assert.equal(relayHosts().length, 2);
    assert.ok(isAlive(host));
  } finally {
    stream.destroy();
  }
  await waitFor('the end of the first host', async () => (isAlive(host) ? undefined : true));
  assert.equal(relayHosts().length, 1);
});

test('--cleanup leaves no process and no directory', { skip }, async () => {
  await daemon.end('SIGTERM');
  assert.equal(relayHosts().length, 1);
  assert.equal(await daemon.net.client.outcome(web, 80), 'pod2');
  const cleanup = daemon.spawn('--cleanup');
  assert.deepEqual(await cleanup.exited, { code: 0, signal: null }, daemon.log);
  await waitFor('the host gone', async () => (relayHosts().length === 0 ? true : undefined), 2000);
  assert.equal(existsSync(daemon.relayDirectory), false);
  assert.deepEqual(await rules(), []);
});
