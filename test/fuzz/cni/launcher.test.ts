// Both ends of the launcher's conversation with somebody who does not keep to it. The launcher (with the compiler's
// sanitizers where there are any) must end with an exit code and with CNI's JSON, the server's own answer, or its
// stand-in; the server must go on serving others, and lose no descriptor.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { encodeAnswer, GREETING } from '../../../cni/runtime/protocol.ts';
import { CniServer } from '../../../cni/runtime/server.ts';
import { run } from '../../../src/linux/exec.ts';
import { silentLogger } from '../../../src/observe/log.ts';

const SOURCE = join(import.meta.dirname, '../../../cni/launcher/launcher.c');
const RUNS = Number(process.env.FUZZ_RUNS ?? 300);
const SANITIZER_EXIT = 99;

let directory: string;
let launcher: string;
let seed = Number(process.env.FUZZ_SEED ?? 1);

/** A small generator with a fixed seed: a failure can be run again. */
function random(below: number): number {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % below;
}

function randomBytes(length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random(256)));
}

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'podwire-fuzz-'));
  launcher = join(directory, 'bridge');
  const sanitizers = ['-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
  try {
    execFileSync('gcc', ['-O1', ...sanitizers, '-o', launcher, SOURCE], { stdio: 'ignore' });
  } catch {
    execFileSync('gcc', ['-O1', '-o', launcher, SOURCE]);
  }
});

after(() => rmSync(directory, { recursive: true, force: true }));

function launch(command: string, stdin: Buffer, env: Record<string, string> = {}) {
  return run(launcher, [], {
    input: stdin,
    timeoutMs: 20_000,
    env: {
      CNI_COMMAND: command,
      PODWIRE_CNI_SOCKET: join(directory, 'evil.sock'),
      // The stand-in does nothing and says nothing.
      PODWIRE_CNI_FALLBACK: SOURCE,
      PODWIRE_NODE: '/bin/true',
      ASAN_OPTIONS: `exitcode=${SANITIZER_EXIT}:detect_leaks=0`,
      UBSAN_OPTIONS: `exitcode=${SANITIZER_EXIT}`,
      ...env,
    },
  });
}

/** Starts with a good answer and does something to it. */
function spoiledAnswer(): Buffer {
  const answer = encodeAnswer({
    exitCode: random(3),
    stdout: '{"good":true}',
    stderr: 'x'.repeat(random(9)),
  });
  switch (random(6)) {
    case 0:
      return answer;
    case 1:
      return answer.subarray(0, random(answer.length));
    case 2:
      answer[random(answer.length)] = random(256);
      return answer;
    case 3:
      answer.writeUInt32LE(0xffffffff - random(2), 5 + 4 * random(2));
      return answer;
    case 4:
      return Buffer.from('R');
    default:
      return randomBytes(random(64));
  }
}

function spoiledGreeting(): Buffer {
  switch (random(8)) {
    case 0:
      return GREETING.subarray(0, random(GREETING.length));
    case 1:
      return randomBytes(GREETING.length);
    default:
      return GREETING;
  }
}

async function listen(path: string, onSocket: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, onSocket);
  await new Promise<void>(resolve => server.listen(path, resolve));
  return server;
}

test(`the launcher survives ${RUNS} servers that talk nonsense`, async () => {
  const server = await listen(join(directory, 'evil.sock'), socket => {
    socket.on('error', () => {});
    const greeting = spoiledGreeting();
    if (random(10) === 0) return void socket.destroy();
    socket.write(greeting);
    if (greeting !== GREETING) return void socket.end();
    const early = random(5) === 0;
    const answer = spoiledAnswer();
    const say = (): void => {
      const cut = random(answer.length + 1);
      socket.write(answer.subarray(0, cut));
      setImmediate(() => socket.end(answer.subarray(cut)));
    };
    if (early) say();
    else socket.once('data', say);
    socket.resume();
  });
  try {
    for (let i = 0; i < RUNS; i++) {
      const before = seed;
      const command = ['ADD', 'DEL', 'CHECK', 'VERSION', 'GC', ''][random(6)]!;
      const netns = ['', '/proc/self/ns/net', '/nowhere', directory][random(4)]!;
      const stdin = randomBytes(random(3) === 0 ? random(100_000) : random(64));
      const { code, signal, stdout, stderr } = await launch(command, stdin, { CNI_NETNS: netns });
      const what = `seed ${before}: ${command} ended with ${code} ${signal}: ${stdout} ${stderr}`;
      assert.equal(signal, null, what);
      assert.notEqual(code, SANITIZER_EXIT, what);
      if (stdout.includes('"code": 11')) assert.equal(code, 1, what);
    }
  } finally {
    server.close();
  }
});

test('a silent server is passed over after ten seconds; too much input is refused', async () => {
  const sockets: Socket[] = [];
  const server = await listen(join(directory, 'silent.sock'), socket => sockets.push(socket));
  const env = { PODWIRE_CNI_SOCKET: join(directory, 'silent.sock') };
  const started = performance.now();
  assert.equal((await launch('ADD', Buffer.from('{}'), env)).code, 0, 'the stand-in was run');
  assert.ok(performance.now() - started < 20_000);
  const huge = await launch('ADD', Buffer.alloc((4 << 20) + 1, 32), env);
  assert.equal(JSON.parse(huge.stdout).code, 6);
  for (const socket of sockets) socket.destroy();
  server.close();
});

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** One launcher that goes wrong somewhere; resolves when the conversation is over. */
async function misbehave(socketPath: string, frame: Buffer): Promise<void> {
  const socket = connect(socketPath);
  const over = new Promise<void>(resolve => socket.once('close', () => resolve()));
  socket.on('error', () => {});
  socket.resume();
  const bytes = Buffer.from(frame);
  for (let n = random(4); n > 0; n--) bytes[random(bytes.length)] = random(256);
  const end = random(3) === 0 ? random(bytes.length) : bytes.length;
  const cut = random(end + 1);
  socket.write(bytes.subarray(0, cut));
  await pause(random(3));
  if (random(4) === 0) socket.destroy();
  else socket.end(bytes.subarray(cut, end));
  await over;
}

test(`the server survives ${RUNS} launchers that talk nonsense, and serves others meanwhile`, async () => {
  const socketPath = join(directory, 'server.sock');
  const server = new CniServer({ socketPath, log: silentLogger() });
  await server.start();
  const body = Buffer.from(
    `plugin=static\0exe=/x\0pid=${process.pid}\0netns=1\0podns=3:44\0\0CNI_COMMAND=VERSION\0CNI_PATH=/\0\0{"cniVersion":"1.0.0","name":"n","type":"static"}`,
  );
  const frame = Buffer.concat([Buffer.alloc(4), body]);
  frame.writeUInt32LE(body.length);
  // What is loaded at first use is loaded before counting.
  await misbehave(socketPath, frame);
  const before = descriptors();
  try {
    for (let i = 0; i < RUNS; i += 20) {
      const wild = Array.from({ length: 20 }, () => misbehave(socketPath, frame));
      const good = await launch('VERSION', Buffer.alloc(0), { PODWIRE_CNI_SOCKET: socketPath });
      assert.equal(good.code, 0, good.stderr);
      assert.ok(JSON.parse(good.stdout).supportedVersions.includes('1.1.0'));
      await Promise.all(wild);
    }
    for (let i = 0; i < 50 && descriptors() > before; i++) await pause(20);
    assert.ok(descriptors() <= before, `${descriptors() - before} descriptors more than before`);
  } finally {
    await server.stop();
  }
});
