// The relay host on the loopback: its protocol, who controls it, what it keeps without a daemon, and when it ends.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { HostConnection } from '../../../proxy/backend/userspace/apply/host-connection.ts';
import { endRelayHosts, servingSocket } from '../../../proxy/backend/userspace/apply/host-directory.ts';
import {
  encodeLine,
  LineReader,
  MAX_LINE_BYTES,
  parseRequest,
} from '../../../proxy/backend/userspace/apply/host-protocol.ts';
import { RelayHost } from '../../../proxy/backend/userspace/apply/host-server.ts';
import { HostedRelay } from '../../../proxy/backend/userspace/apply/hosted-relay.ts';
import { Relay } from '../../../proxy/backend/userspace/apply/relay.ts';
import type { ServiceListener } from '../../../proxy/backend/userspace/apply/relay-service.ts';
import { hasCode } from '../../../src/lib/errors.ts';

const HOST = '127.0.0.1';
const root = mkdtempSync(join(tmpdir(), 'podwire-relay-host-'));
const hosts: RelayHost[] = [];
const echo = net.createServer(socket => void socket.on('error', () => {}).pipe(socket));
echo.listen(0, HOST);
await once(echo, 'listening');
after(async () => {
  for (const host of hosts) host.stop();
  echo.close();
  await sleep(50);
  rmSync(root, { recursive: true, force: true });
});

const listener = (fields: Partial<ServiceListener> = {}): ServiceListener => ({
  protocol: 'TCP',
  address: HOST,
  affinityMs: 0,
  udpIdleMs: 250,
  endpoints: [{ ip: HOST, port: (echo.address() as net.AddressInfo).port }],
  ...fields,
});

let count = 0;
async function startHost(lingerMs = 60_000): Promise<{ directory: string; ended: Promise<string> }> {
  const directory = join(root, String(++count));
  const host = new RelayHost({ directory, build: 'one', lingerMs, relay: new Relay({ threads: 1 }) });
  hosts.push(host);
  const ended = host.run().then(() => 'ended');
  while (!existsSync(servingSocket(directory))) await sleep(5);
  return { directory, ended };
}

async function control(directory: string): Promise<{ host: HostConnection; end: Promise<string> }> {
  const end = Promise.withResolvers<string>();
  const host = await HostConnection.open(servingSocket(directory), end.resolve);
  assert.ok(host);
  return { host, end: end.promise };
}

async function reaches(port: number): Promise<net.Socket> {
  const socket = net.connect(port, HOST);
  await once(socket, 'connect');
  await echoes(socket, 'hello');
  return socket;
}

async function echoes(socket: net.Socket, text: string): Promise<void> {
  const answer = once(socket, 'data', { signal: AbortSignal.timeout(3000) });
  socket.write(text);
  assert.equal(String((await answer)[0]), text);
}

async function refuses(port: number): Promise<boolean> {
  const socket = net.connect(port, HOST);
  const outcome = await new Promise(resolve => {
    socket.on('connect', () => resolve(false));
    socket.on('error', error => resolve(hasCode(error, 'ECONNREFUSED')));
  });
  socket.destroy();
  return outcome === true;
}

test('lines come whole from any pieces; one without an end is refused', () => {
  const text = encodeLine({ op: 'close', key: 'ä' }) + encodeLine({ op: 'stop' });
  const reader = new LineReader();
  const lines = [...Buffer.from(text)].flatMap(byte => reader.push(Buffer.from([byte])));
  assert.deepEqual(lines.map(parseRequest), [{ op: 'close', key: 'ä' }, { op: 'stop' }]);
  const endless = new LineReader();
  const half = Buffer.alloc(MAX_LINE_BYTES / 2 + 1, 'x');
  endless.push(half);
  assert.throws(() => endless.push(half), { code: 'TOO_LONG' });
});

test('requests: what is none is refused, and why', () => {
  const open = { op: 'open', id: 1, key: 'k', listener: listener() };
  assert.deepEqual(parseRequest(JSON.stringify(open)), open);
  const ranged = { ...open, listener: listener({ portRange: { first: 5, last: 9 }, protocol: 'UDP' }) };
  assert.deepEqual(parseRequest(JSON.stringify(ranged)), ranged);
  const wrong: [unknown, RegExp][] = [
    ['{', /no JSON/],
    [[], /no object/],
    [{ op: 'fly' }, /no request "fly"/],
    [{ ...open, id: -1 }, /id/],
    [{ ...open, key: '' }, /key/],
    [{ ...open, key: 'k'.repeat(5000) }, /key/],
    [{ ...open, listener: { ...listener(), protocol: 'SCTP' } }, /protocol/],
    [{ ...open, listener: { ...listener(), address: 'host' } }, /address/],
    [{ ...open, listener: { ...listener(), affinityMs: -1 } }, /affinityMs/],
    [{ ...open, listener: { ...listener(), endpoints: {} } }, /endpoints/],
    [{ ...open, listener: { ...listener(), endpoints: [{ ip: HOST, port: 0 }] } }, /port/],
    [{ ...open, listener: { ...listener(), portRange: { first: 9, last: 5 } } }, /portRange.last/],
    [{ op: 'endpoints', key: 'k', endpoints: [{ ip: 'x', port: 1 }] }, /endpoint.ip/],
    [{ op: 'drain', listenMs: 1e9 }, /listenMs/],
  ];
  for (const [message, why] of wrong)
    assert.throws(
      () => parseRequest(typeof message === 'string' ? message : JSON.stringify(message)),
      error => hasCode(error, 'MISUNDERSTOOD') && why.test(String(error)),
      JSON.stringify(message),
    );
});

test('who comes next finds the same port and unbroken connections; what it does not want closes', async () => {
  const { directory } = await startHost();
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  assert.equal(statSync(servingSocket(directory)).mode & 0o777, 0o600);
  const first = await control(directory);
  assert.equal(first.host.build, 'one');
  const port = await first.host.listen('web', listener());
  const other = await first.host.listen('other', listener());
  const udp = await first.host.listen('dns', listener({ protocol: 'UDP' }));
  const socket = await reaches(port);
  const leaving = await reaches(other);
  first.host.close();
  assert.equal(await first.end, 'lost');
  await echoes(socket, 'alone');
  (await reaches(port)).destroy();
  const second = await control(directory);
  assert.equal(await second.host.listen('web', listener()), port);
  assert.deepEqual(
    (await second.host.retain()).sort((one, two) => one.protocol.localeCompare(two.protocol)),
    [
      { protocol: 'TCP', port: other },
      { protocol: 'UDP', port: udp },
    ],
  );
  await echoes(socket, 'again');
  await echoes(leaving, 'goes on');
  while (!(await refuses(other))) await sleep(20);
  second.host.tell({ op: 'endpoints', key: 'web', endpoints: [] });
  while (second.host.stats.active === 0) await sleep(20);
  second.host.close();
  for (const one of [socket, leaving]) one.destroy();
});

test('another kind of listener under a key has a port of its own', async () => {
  const { directory } = await startHost();
  const { host } = await control(directory);
  const port = await host.listen('web', listener());
  assert.notEqual(await host.listen('web', listener({ affinityMs: 1000 })), port);
  while (!(await refuses(port))) await sleep(20);
  const taken = { first: port, last: port };
  const blocker = net.createServer().listen(port, HOST);
  await once(blocker, 'listening');
  await assert.rejects(host.listen('wrong', listener({ endpoints: [{ ip: 'x', port: 1 }] })), {
    code: 'MISUNDERSTOOD',
  });
  const many = Array.from({ length: 300_000 }, () => ({ ip: HOST, port: 65_000 }));
  await assert.rejects(host.listen('long', listener({ endpoints: many })), { code: 'TOO_LONG' });
  await assert.rejects(host.listen('ranged', listener({ portRange: taken })), { code: 'PORTS_EXHAUSTED' });
  blocker.close();
  host.close();
});

test('the newest controls; who is replaced hears so, and who speaks nonsense is cut off', async () => {
  const { directory } = await startHost();
  const first = await control(directory);
  const port = await first.host.listen('web', listener());
  const second = await control(directory);
  assert.equal(await second.host.listen('web', listener()), port);
  assert.equal(await first.end, 'replaced');
  await assert.rejects(first.host.listen('web', listener()), { code: 'RELAY_LOST' });
  const stranger = net.connect(servingSocket(directory));
  stranger.write('nonsense\n');
  let said = '';
  stranger.on('data', chunk => {
    said += chunk;
  });
  await once(stranger, 'close');
  assert.match(said, /"misunderstood","message":"this is no JSON"/);
  assert.equal(await second.host.listen('web', listener()), port);
  second.host.close();
});

test('draining: its place is free at once, its connections go on, then it ends', async () => {
  const { directory, ended } = await startHost();
  const { host } = await control(directory);
  const port = await host.listen('web', listener());
  const socket = await reaches(port);
  assert.deepEqual(await endRelayHosts(directory, 'drain'), []);
  while (existsSync(servingSocket(directory))) await sleep(5);
  await echoes(socket, 'still');
  while (!(await refuses(port))) await sleep(50);
  await echoes(socket, 'and still');
  assert.equal(await Promise.race([ended, sleep(50)]), undefined);
  socket.destroy();
  assert.equal(await ended, 'ended');
  host.close();
});

test('stopping ends everything and takes the directory away, dead sockets too', async () => {
  const { directory, ended } = await startHost();
  const { host, end } = await control(directory);
  const socket = await reaches(await host.listen('web', listener()));
  const closed = new Promise(resolve => socket.on('error', () => {}).on('close', resolve));
  assert.deepEqual(await endRelayHosts(directory, 'stop'), []);
  assert.equal(await ended, 'ended');
  assert.equal(await end, 'lost');
  await closed;
  assert.equal(existsSync(directory), false);
  assert.deepEqual(await endRelayHosts(directory, 'stop'), []);
});

test('without a daemon it ends after a while, at once with nothing to do', async () => {
  const busy = await startHost(1000);
  const { host } = await control(busy.directory);
  const port = await host.listen('web', listener());
  const socket = await reaches(port);
  host.close();
  while (!(await refuses(port))) await sleep(50);
  await echoes(socket, 'on');
  socket.destroy();
  assert.equal(await busy.ended, 'ended');
  const idle = await startHost();
  const second = await control(idle.directory);
  await second.host.listen('web', listener());
  second.host.tell({ op: 'close', key: 'web' });
  second.host.close();
  assert.equal(await idle.ended, 'ended');
  assert.deepEqual(readdirSync(idle.directory), []);
});

test('a directory that is none of ours is refused', async () => {
  const directory = join(root, 'file');
  writeFileSync(directory, '');
  const host = new RelayHost({ directory, build: 'one', lingerMs: 0 });
  await assert.rejects(host.run());
});

test('a host of another build leaves to one of ours; its connections go on; a dead one is replaced', async () => {
  const directory = join(root, 'builds');
  const ends: string[] = [];
  const daemon = (build: string): HostedRelay =>
    new HostedRelay({ host: { directory, build }, onLost: end => ends.push(`${build} ${end}`) });
  try {
    const old = daemon('old');
    assert.deepEqual(await old.retain(), [], 'nothing was opened, no host is started');
    assert.equal(existsSync(directory), false);
    const port = await old.open('web', listener());
    const socket = await reaches(port);
    socket.on('error', () => {});
    old.leave();
    const next = daemon('new');
    const other = await next.open('web', listener());
    assert.notEqual(other, port);
    assert.deepEqual(await next.retain(), []);
    await echoes(socket, 'by the old one');
    (await reaches(other)).destroy();
    (await reaches(port)).destroy();
    const again = daemon('new');
    assert.equal(await again.open('web', listener()), other);
    while (ends.length === 0) await sleep(5);
    assert.deepEqual(await endRelayHosts(directory, 'stop'), []);
    while (ends.length === 1) await sleep(5);
    assert.deepEqual(ends, ['new replaced', 'new lost']);
    (await reaches(await again.open('web', listener()))).destroy();
    again.leave();
    next.leave();
    socket.destroy();
  } finally {
    await endRelayHosts(directory, 'stop');
  }
});
