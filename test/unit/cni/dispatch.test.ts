// What a runtime sees for good and bad requests: exit status, codes, messages. No kernel is touched.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Answer, dispatch } from '../../../cni/runtime/dispatch.ts';
import { KeyedLocks } from '../../../cni/runtime/locks.ts';
import type { Call, Plugin, Site } from '../../../cni/runtime/plugin.ts';
import { emptyResult } from '../../../cni/runtime/result.ts';
import { CNI_VERSIONS, type CniVersion } from '../../../cni/runtime/versions.ts';
import { CniError, KernelError } from '../../../src/lib/errors.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';

const GOOD = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: '/run/netns/none',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/nowhere',
};
const CONFIG = { cniVersion: '1.1.0', name: 'net', type: 'fake' };

interface Try {
  environment?: Record<string, string>;
  stdin?: string;
  verb?: (call: Call) => Promise<void>;
  versions?: readonly CniVersion[];
}

async function request(options: Try): Promise<Answer & { json: Record<string, unknown> }> {
  const run = options.verb ?? (async () => {});
  const plugin: Plugin = {
    name: 'fake',
    versions: options.versions ?? CNI_VERSIONS,
    add: async call => {
      await run(call);
      return { ...emptyResult(), ips: [{ address: '10.0.0.2/24' }] };
    },
    del: run,
    check: run,
    status: run,
    gc: run,
  };
  using netns = Netns.current();
  const environment = options.environment ?? GOOD;
  const site = (): Site => ({
    hostNetns: netns,
    openPodNetns: () => Netns.open(environment.CNI_NETNS ?? ''),
    environment,
    plugins: new Map(),
    exe: '',
    signal: AbortSignal.timeout(5000),
    locks: new KeyedLocks(),
    log: silentLogger(),
    stderr: [],
  });
  const stdin = options.stdin ?? JSON.stringify(CONFIG);
  const answer = await dispatch({ plugin: 'fake', stdin, environment, site }, plugin);
  return { ...answer, json: answer.stdout === '' ? {} : JSON.parse(answer.stdout) };
}

test('ADD prints a result in the configuration version, DEL prints nothing', async () => {
  const add = await request({});
  assert.equal(add.exitCode, 0);
  assert.deepEqual(add.json, { cniVersion: '1.1.0', ips: [{ address: '10.0.0.2/24' }] });
  const old = await request({ stdin: JSON.stringify({ name: 'net', type: 'fake' }) });
  assert.deepEqual(old.json, { cniVersion: '0.1.0', ip4: { ip: '10.0.0.2/24' }, dns: {} });
  const del = await request({ environment: { ...GOOD, CNI_COMMAND: 'DEL', CNI_NETNS: '' } });
  assert.deepEqual([del.exitCode, del.stdout], [0, '']);
});

test('every missing variable is named, code 4', async () => {
  const answer = await request({ environment: { CNI_COMMAND: 'ADD' } });
  assert.equal(answer.exitCode, 1);
  assert.equal(answer.json.code, 4);
  assert.equal(
    answer.json.msg,
    'required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing',
  );
});

const BAD: [name: string, code: number, message: RegExp, options: Try][] = [
  ['unknown verb', 4, /unknown CNI_COMMAND: FROB/, { environment: { ...GOOD, CNI_COMMAND: 'FROB' } }],
  ['bad container id', 4, /containerID/, { environment: { ...GOOD, CNI_CONTAINERID: '../x' } }],
  ['long interface', 4, /too long/, { environment: { ...GOOD, CNI_IFNAME: 'abcdefghijklmnop' } }],
  ['interface with slash', 4, /contains/, { environment: { ...GOOD, CNI_IFNAME: 'a/b' } }],
  ['bad CNI_ARGS', 4, /invalid pair/, { environment: { ...GOOD, CNI_ARGS: 'IP' } }],
  ['broken JSON', 6, /cannot parse/, { stdin: '{' }],
  ['no JSON object', 6, /cannot parse/, { stdin: '[]' }],
  ['empty stdin', 6, /cannot parse/, { stdin: '' }],
  ['no name', 7, /missing network name/, { stdin: '{"cniVersion":"1.0.0"}' }],
  ['bad name', 7, /network name/, { stdin: '{"name":"a/b"}' }],
  ['unknown version', 1, /incompatible CNI versions/, { stdin: '{"name":"n","cniVersion":"3.0.0"}' }],
  ['name of wrong type', 6, /field name/, { stdin: '{"name":7}' }],
  [
    'CHECK before 0.4.0',
    1,
    /does not allow CHECK/,
    { environment: { ...GOOD, CNI_COMMAND: 'CHECK' }, stdin: '{"name":"n","cniVersion":"0.3.1"}' },
  ],
  [
    'GC before 1.1.0',
    1,
    /does not allow GC/,
    { environment: { ...GOOD, CNI_COMMAND: 'GC' }, stdin: '{"name":"n","cniVersion":"1.0.0"}' },
  ],
  ['GC without list', 7, /valid-attachments/, { environment: { ...GOOD, CNI_COMMAND: 'GC' } }],
  ['kernel error', 999, /EPERM/, { verb: () => Promise.reject(new KernelError('add link', 1, 'EPERM')) }],
  ['plugin error', 50, /not now/, { verb: () => Promise.reject(new CniError(50, 'not now')) }],
  [
    'full disk',
    5,
    /ENOSPC/,
    { verb: () => Promise.reject(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })) },
  ],
];

for (const [name, code, message, options] of BAD)
  test(`${name}: code ${code}`, async () => {
    const answer = await request(options);
    assert.equal(answer.exitCode, 1);
    assert.equal(answer.json.code, code, answer.stdout);
    assert.match(String(answer.json.msg), message);
  });

test('VERSION answers without a configuration', async () => {
  const answer = await request({ environment: { CNI_COMMAND: 'VERSION' }, stdin: '' });
  assert.equal(answer.exitCode, 0);
  assert.deepEqual(answer.json, { cniVersion: '1.1.0', supportedVersions: [...CNI_VERSIONS] });
});

test('without a verb the program says what it is on stderr', async () => {
  const answer = await request({ environment: {}, stdin: '' });
  assert.deepEqual([answer.exitCode, answer.stdout], [0, '']);
  assert.match(answer.stderr, /CNI fake plugin[\s\S]*1\.1\.0/);
});

test('GC takes the list under either of its names, an empty one too', async () => {
  for (const key of ['cni.dev/valid-attachments', 'cni.dev/attachments'])
    for (const list of [[], [{ containerID: 'c1', ifname: 'eth0' }]]) {
      const stdin = JSON.stringify({ ...CONFIG, [key]: list });
      const environment = { CNI_COMMAND: 'GC', CNI_PATH: '/nowhere' };
      assert.equal((await request({ environment, stdin })).exitCode, 0);
    }
});
