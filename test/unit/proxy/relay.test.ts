// The userspace relay on the loopback: whole streams, half-closes, resets, slow readers, endpoints that refuse, UDP.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import net from 'node:net';
import { after, test } from 'node:test';
import { Relay, type RelayListener } from '../../../proxy/backend/userspace/apply/relay.ts';
import { sysClose } from '../../../src/linux/ffi.ts';
import { boundPort, listenTcp } from '../../../src/linux/listen.ts';

const HOST = '127.0.0.1';
const relay = new Relay({ threads: 2, random: () => 0.999 });
const closers: (() => void)[] = [];
after(async () => {
  for (const close of closers) close();
  await relay.stop();
});

/** A server's port; `serve` sees each connection. */
async function server(serve: (socket: net.Socket) => void): Promise<number> {
  const made = net.createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => {});
    serve(socket);
  });
  const sockets = new Set<net.Socket>();
  made.on('connection', socket => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  made.listen(0, HOST);
  await once(made, 'listening');
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    made.close();
  });
  return (made.address() as net.AddressInfo).port;
}

/** A port that refuses. */
async function closedPort(): Promise<number> {
  const made = net.createServer().listen(0, HOST);
  await once(made, 'listening');
  const { port } = made.address() as net.AddressInfo;
  made.close();
  await once(made, 'close');
  return port;
}

function open(ports: number[], options: { affinityMs?: number } = {}): RelayListener {
  const endpoints = ports.map(port => ({ ip: HOST, port }));
  const listener = relay.open({ protocol: 'TCP', address: HOST, port: 0, endpoints, ...options });
  closers.push(() => listener.close());
  return listener;
}

function connect(listener: RelayListener): net.Socket {
  const socket = net.connect({ port: listener.port, host: HOST, allowHalfOpen: true });
  socket.on('error', () => {});
  closers.push(() => socket.destroy());
  return socket;
}

async function readAll(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function ask(listener: RelayListener): Promise<string> {
  const socket = connect(listener);
  socket.end('?');
  return (await readAll(socket)).toString();
}

const named = (name: string): Promise<number> => server(socket => void socket.resume().end(name));

test('a long stream comes whole both ways, and its end with it', async () => {
  const listener = open([await server(socket => void socket.pipe(socket))]);
  for (const size of [1, 70_000, 300_000, 8 << 20]) {
    const sent = randomBytes(size);
    const socket = connect(listener);
    socket.end(sent);
    const got = await readAll(socket);
    const hash = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
    assert.equal(hash(got), hash(sent), `${size} bytes`);
  }
  assert.ok(relay.stats().spliced > 0);
});

test('a half-closed connection still answers', async () => {
  const listener = open([
    await server(socket => {
      socket.resume();
      socket.on('end', () => setTimeout(() => socket.end('after the end'), 50));
    }),
  ]);
  const socket = connect(listener);
  socket.end('question');
  assert.equal((await readAll(socket)).toString(), 'after the end');
});

test('the server speaks first, and closes first', async () => {
  const listener = open([await named('hello')]);
  assert.equal((await readAll(connect(listener))).toString(), 'hello');
});

test('a reset on either side resets the other', async () => {
  const accepted = Promise.withResolvers<net.Socket>();
  const port = await server(socket => accepted.resolve(socket));
  const client = connect(open([port]));
  client.write('x');
  (await accepted.promise).resetAndDestroy();
  const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');

  const other = Promise.withResolvers<net.Socket>();
  const listener = open([await server(socket => other.resolve(socket))]);
  const resetting = connect(listener);
  resetting.write('x');
  const served = await other.promise;
  const closed = new Promise(resolve => served.on('close', resolve));
  const failed = new Promise<string | undefined>(resolve =>
    served.on('error', (thrown: NodeJS.ErrnoException) => resolve(thrown.code)),
  );
  served.resume();
  resetting.resetAndDestroy();
  assert.equal(await failed, 'ECONNRESET');
  await closed;
});

test('an endpoint that accepts and resets at once is not asked again', async () => {
  let accepted = 0;
  const listener = open([
    await server(socket => {
      accepted++;
      socket.resetAndDestroy();
    }),
  ]);
  const clients = 400;
  const codes = await Promise.all(
    Array.from({ length: clients }, async () => {
      const [error] = (await once(connect(listener), 'error')) as [NodeJS.ErrnoException];
      return error.code;
    }),
  );
  assert.deepEqual([...new Set(codes)], ['ECONNRESET']);
  assert.equal(accepted, clients);
});

test('a reader that does not read holds the writer back, and loses nothing', async () => {
  const accepted = Promise.withResolvers<net.Socket>();
  const listener = open([
    await server(socket => {
      socket.pause();
      accepted.resolve(socket);
    }),
  ]);
  const client = connect(listener);
  const chunk = Buffer.alloc(1 << 20, 7);
  let sent = 0;
  while (client.write(chunk, () => {})) sent += chunk.length;
  await new Promise(resolve => setTimeout(resolve, 300));
  // What the kernel's buffers and one pipe hold, not everything there is.
  for (let n = 0; n < 64; n++) client.write(chunk);
  await new Promise(resolve => setTimeout(resolve, 300));
  assert.ok(client.writableLength > 32 << 20, `${client.writableLength} of ${sent} wait`);
  const total = client.bytesWritten;
  client.end();
  const served = await accepted.promise;
  let got = 0;
  for await (const part of served) got += (part as Buffer).length;
  assert.equal(got, total);
});

test('round robin is strict, whatever thread serves', async () => {
  const listener = open(await Promise.all(['a', 'b', 'c'].map(named)));
  const counts = new Map<string, number>();
  for (let n = 0; n < 30; n++) {
    const name = await ask(listener);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  assert.deepEqual([...counts.values()], [10, 10, 10]);
});

test('endpoints that refuse are passed over; when all do, the client is reset', async () => {
  const good = await named('good');
  const listener = open([await closedPort(), await closedPort(), good]);
  for (let n = 0; n < 6; n++) assert.equal(await ask(listener), 'good');
  const none = connect(open([await closedPort()]));
  const [error] = (await once(none, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
});

test('an endpoint that does not answer is given up after 250 ms', async () => {
  // A backlog that is full: the kernel drops further SYNs.
  const deaf = listenTcp({ address: HOST, port: 0, backlog: 0 });
  closers.push(() => sysClose(deaf));
  const port = boundPort(deaf);
  const filler = net.connect({ port, host: HOST });
  closers.push(() => filler.destroy());
  await once(filler, 'connect');
  const listener = open([port, await named('good')]);
  const times: number[] = [];
  for (let n = 0; n < 2; n++) {
    const from = performance.now();
    assert.equal(await ask(listener), 'good');
    times.push(performance.now() - from);
  }
  // Each turn that falls on the deaf one costs its time-out, and no more.
  for (const ms of times) assert.ok(ms < 700, String(times));
  assert.ok(Math.max(...times) >= 240, String(times));
});

test('affinity keeps the client, until it is over or the endpoint is gone', async () => {
  const ports = await Promise.all(['a', 'b', 'c'].map(named));
  const listener = open(ports, { affinityMs: 300 });
  const first = await ask(listener);
  for (let n = 0; n < 5; n++) assert.equal(await ask(listener), first);
  await new Promise(resolve => setTimeout(resolve, 350));
  assert.notEqual(await ask(listener), first);
  const second = await ask(listener);
  const index = ['a', 'b', 'c'].indexOf(second);
  listener.setEndpoints(ports.filter((_, n) => n !== index).map(port => ({ ip: HOST, port })));
  assert.notEqual(await ask(listener), second);
});

test('connections over the limit wait instead of failing', async () => {
  const small = new Relay({ threads: 1, maxConnections: 4 });
  const sockets: net.Socket[] = [];
  const port = await server(socket => void sockets.push(socket));
  const listener = small.open({
    protocol: 'TCP',
    address: HOST,
    port: 0,
    endpoints: [{ ip: HOST, port }],
  });
  const clients = Array.from({ length: 8 }, () => connect(listener));
  const four = async (): Promise<void> => {
    for (let n = 0; n < 100 && sockets.length < 4; n++) await new Promise(resolve => setTimeout(resolve, 20));
    await new Promise(resolve => setTimeout(resolve, 100));
    assert.equal(sockets.length, 4);
  };
  await four();
  for (const socket of sockets.splice(0)) socket.end();
  for (const client of clients) client.end();
  await four();
  await small.stop();
});

test('a closed listener refuses; its connections go on', async () => {
  const listener = open([await server(socket => void socket.pipe(socket))]);
  const client = connect(listener);
  client.write('a');
  await once(client, 'data');
  listener.close();
  await new Promise(resolve => setTimeout(resolve, 100));
  const late = net.connect({ port: listener.port, host: HOST });
  const [error] = (await once(late, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNREFUSED');
  client.write('b');
  assert.equal(String((await once(client, 'data'))[0]), 'b');
});

test('a flood is answered, and leaves no descriptor behind', async () => {
  const listener = open([await named('here')]);
  const count = (): number => readdirSync('/proc/self/fd').length;
  assert.equal(await ask(listener), 'here');
  const before = count();
  for (let round = 0; round < 3; round++) {
    const answers = await Promise.all(Array.from({ length: 200 }, () => ask(listener)));
    assert.ok(answers.every(answer => answer === 'here'));
  }
  // Clients that are gone before anybody answered.
  for (let n = 0; n < 50; n++) connect(listener).destroy();
  for (let n = 0; n < 100 && (count() > before || relay.stats().active > 0); n++)
    await new Promise(resolve => setTimeout(resolve, 20));
  assert.ok(count() <= before, `${count()} descriptors, ${before} before`);
});

async function udpServer(name: string): Promise<{ port: number; seen: Set<number>; close: () => void }> {
  const socket = dgram.createSocket('udp4');
  const seen = new Set<number>();
  socket.on('message', (message, from) => {
    seen.add(from.port);
    socket.send(`${name} ${message}`, from.port, from.address);
  });
  socket.bind(0, HOST);
  await once(socket, 'listening');
  let open = true;
  const close = (): void => {
    if (open) socket.close();
    open = false;
  };
  closers.push(close);
  return { port: socket.address().port, seen, close };
}

test('UDP: a session for each client, that ends with silence and with its endpoint', async () => {
  const [one, two] = [await udpServer('one'), await udpServer('two')];
  const endpoint = ({ port }: { port: number }) => ({ ip: HOST, port });
  const listener = relay.open({
    protocol: 'UDP',
    address: HOST,
    port: 0,
    udpIdleMs: 150,
    endpoints: [endpoint(one)],
  });
  closers.push(() => listener.close());
  const client = dgram.createSocket('udp4').bind(0, HOST);
  closers.push(() => client.close());
  const askUdp = async (text: string): Promise<string> => {
    client.send(text, listener.port, HOST);
    const [message] = (await Promise.race([
      once(client, 'message'),
      new Promise(resolve => setTimeout(() => resolve(['nothing']), 400)),
    ])) as [Buffer];
    return String(message);
  };
  assert.equal(await askUdp('a'), 'one a');
  assert.equal(await askUdp('b'), 'one b');
  assert.equal(one.seen.size, 1);
  assert.ok(relay.stats().udpSessions >= 1);
  await new Promise(resolve => setTimeout(resolve, 700));
  assert.equal(relay.stats().udpSessions, 0);
  assert.equal(await askUdp('c'), 'one c');
  listener.setEndpoints([endpoint(two)]);
  assert.equal(await askUdp('d'), 'two d');
  // Nobody there: the next datagram goes to another endpoint.
  listener.setEndpoints([endpoint(one), endpoint(two)]);
  two.close();
  const answers = [await askUdp('e'), await askUdp('f'), await askUdp('g')];
  assert.ok(
    answers.includes('one f') || answers.includes('one e') || answers.includes('one g'),
    String(answers),
  );
});
