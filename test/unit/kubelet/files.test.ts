// Files the kubelet writes and reads: atomic volumes, container logs; and its keyed back-off.
import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { appendFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeAtomically } from '../../../src/kubelet/atomic-writer.ts';
import { KeyedBackOff } from '../../../src/kubelet/back-off.ts';
import type { CriClient } from '../../../src/kubelet/cri-client.ts';
import { parseLogOptions } from '../../../src/kubelet/log-options.ts';
import { type LogOptions, parseLogLine, readLog } from '../../../src/kubelet/log-reader.ts';
import { LogRotator } from '../../../src/kubelet/log-rotator.ts';
import { silentLogger } from '../../../src/observe/log.ts';

const directory = mkdtempSync(join(tmpdir(), 'pwk-unit-'));
after(() => rmSync(directory, { recursive: true }));

const file = (text: string) => ({ content: Buffer.from(text), mode: 0o644 });

test('a volume changes as a whole and only when its content does', async () => {
  const path = join(directory, 'volume');
  assert.equal(
    await writeAtomically(
      path,
      new Map([
        ['a', file('1')],
        ['d/b', file('2')],
      ]),
    ),
    true,
  );
  const first = readlinkSync(join(path, '..data'));
  assert.equal(readFileSync(join(path, 'd/b'), 'utf8'), '2');
  assert.equal(
    await writeAtomically(
      path,
      new Map([
        ['a', file('1')],
        ['d/b', file('2')],
      ]),
    ),
    false,
  );
  assert.equal(readlinkSync(join(path, '..data')), first);
  assert.equal(await writeAtomically(path, new Map([['a', file('3')]])), true);
  assert.equal(readFileSync(join(path, 'a'), 'utf8'), '3');
  assert.deepEqual(
    readdirSync(path).filter(name => !name.startsWith('..')),
    ['a'],
  );
  assert.equal(readdirSync(path).length, 3);
});

for (const name of ['../x', '/x', 'a/../../x', ''])
  test(`a volume file may not be called '${name}'`, async () => {
    await assert.rejects(writeAtomically(join(directory, 'bad'), new Map([[name, file('')]])), {
      code: 'INVALID_PATH',
    });
  });

const LOG = [
  '2026-01-01T00:00:00.000000001Z stdout F one',
  '2026-01-01T00:00:01.000000001Z stderr P tw',
  '2026-01-01T00:00:01.000000002Z stderr F o',
  'rubbish',
  '2026-01-01T00:00:02.000000001Z stdout F three three',
  '',
].join('\n');

async function read(options: Partial<LogOptions>, done = async () => true): Promise<string> {
  const path = join(directory, 'c.log');
  let out = '';
  const all = { follow: false, timestamps: false, ...options };
  for await (const text of readLog(path, all, done, new AbortController().signal)) out += text;
  return out;
}

test('log lines are joined, cut and filtered', async () => {
  writeFileSync(join(directory, 'c.log'), LOG);
  assert.equal(await read({}), 'one\ntwo\nthree three\n');
  assert.equal(await read({ tailLines: 1 }), 'three three\n');
  assert.equal(await read({ tailLines: 0 }), '');
  assert.equal(await read({ tailLines: 99 }), 'one\ntwo\nthree three\n');
  assert.equal(await read({ sinceMs: Date.parse('2026-01-01T00:00:02Z') }), 'three three\n');
  assert.equal(await read({ limitBytes: 5 }), 'one\nt');
  assert.match(
    await read({ timestamps: true, tailLines: 1 }),
    /^2026-01-01T00:00:02.000000001Z three three\n$/,
  );
});

test('following ends with the container and misses nothing', async () => {
  writeFileSync(join(directory, 'c.log'), LOG);
  let asked = 0;
  const done = async () => {
    asked++;
    if (asked === 2) await appendFile(join(directory, 'c.log'), '2026-01-01T00:00:03Z stdout F last\n');
    return asked === 2;
  };
  assert.equal(await read({ follow: true }, done), 'one\ntwo\nthree three\nlast\n');
});

test('a log entry', () => {
  assert.deepEqual(parseLogLine('t stdout P:x a b'), {
    time: 't',
    stream: 'stdout',
    partial: true,
    text: 'a b',
  });
  assert.equal(parseLogLine('no entry'), undefined);
});

test('log options and what is wrong with them', () => {
  const parse = (query: string) => parseLogOptions(new URLSearchParams(query), 100_000);
  assert.deepEqual(parse('follow=true&tailLines=5&sinceSeconds=10'), {
    follow: true,
    previous: false,
    timestamps: false,
    tailLines: 5,
    limitBytes: undefined,
    sinceMs: 90_000,
  });
  assert.match(String(parse('tailLines=-1')), /tailLines/);
  assert.match(String(parse('sinceSeconds=0')), /sinceSeconds/);
  assert.match(String(parse('sinceTime=yesterday')), /sinceTime/);
  assert.match(String(parse('sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1')), /at most one/);
});

test('back-off: first retry at once, then doubling to the limit, forgotten after a good while', () => {
  const backOff = new KeyedBackOff(10, 40);
  assert.equal(backOff.remainingMs('k', 0, 0), 0);
  backOff.next('k', 0, 0);
  assert.equal(backOff.remainingMs('k', 5, 6), 9);
  assert.equal(backOff.remainingMs('k', 5, 15), 0);
  backOff.next('k', 5, 15);
  assert.equal(backOff.delayMs('k'), 20);
  backOff.next('k', 30, 40);
  backOff.next('k', 60, 70);
  assert.equal(backOff.delayMs('k'), 40);
  assert.equal(backOff.remainingMs('k', 1000, 1001), 0);
  backOff.next('k', 1000, 1001);
  assert.equal(backOff.delayMs('k'), 10);
});

test('a log over the limit is rotated, and only so many are kept', async () => {
  const path = join(directory, 'rotate', '0.log');
  mkdirSync(join(directory, 'rotate'));
  let reopened = 0;
  const cri = {
    reopenContainerLog: async () => {
      reopened++;
      writeFileSync(path, '');
    },
  } as unknown as CriClient;
  const rotator = new LogRotator(cri, silentLogger(), { maxBytes: 10, maxFiles: 3 });
  writeFileSync(path, 'short');
  assert.equal(await rotator.rotate('id', path), false);
  for (let i = 0; i < 4; i++) {
    writeFileSync(path, `long enough ${i}`);
    assert.equal(await rotator.rotate('id', path), true);
    await new Promise(resolve => setTimeout(resolve, 2));
  }
  assert.equal(reopened, 4);
  const names = readdirSync(join(directory, 'rotate')).sort();
  assert.equal(names.length, 3);
  assert.equal(readFileSync(join(directory, 'rotate', names.at(-1)!), 'utf8'), 'long enough 3');
});
