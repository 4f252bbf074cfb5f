// The kubelet's pod machinery against a real containerd and runc, in a namespace of its own.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CriClient } from '../../../src/kubelet/cri-client.ts';
import { run, runOk } from '../../../src/linux/exec.ts';
import { CNI_BIN_DIR, TestNode } from './node.ts';

const skip =
  process.getuid?.() !== 0
    ? 'needs root'
    : !existsSync('/usr/bin/containerd')
      ? 'needs containerd'
      : !existsSync(join(CNI_BIN_DIR, 'bridge'))
        ? 'needs the reference CNI plugins (containernetworking-plugins)'
        : false;

let node: TestNode;

const NODE_IP = '192.0.2.10';

async function inside(
  scenario: string,
): Promise<{ code: number | null; signal: string | null; output: string }> {
  return script('inside.ts', [scenario, node.directory, node.socket, node.cgroup]);
}

async function script(
  file: string,
  args: string[],
): Promise<{ code: number | null; signal: string | null; output: string }> {
  const { code, signal, stdout, stderr } = await run(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, file), ...args],
    { netnsPath: node.netnsPath, timeoutMs: 120_000 },
  );
  return { code, signal, output: stdout + stderr };
}

before(async () => {
  if (skip) return;
  node = new TestNode();
  await node.start();
});
after(async () => {
  if (!skip) await node.close();
});

for (const scenario of ['lifecycle', 'configuration', 'failures', 'faults'])
  test(`pods: ${scenario}`, { skip, timeout: 120_000 }, async t => {
    const { code, output } = await inside(scenario);
    assert.equal(code, 0, output);
    if (output) t.diagnostic(output.trim());
  });

test('a killed kubelet is followed by one that adopts its containers and ends orphans', {
  skip,
}, async () => {
  const left = await inside('leave');
  assert.equal(left.signal, 'SIGKILL', left.output);
  const adopted = await inside('adopt');
  assert.equal(adopted.code, 0, adopted.output);
});

test('containers go on while containerd is killed and started again', { skip }, async () => {
  const ids = async () => {
    const cri = new CriClient(node.socket);
    try {
      return (await cri.listContainers()).map(container => `${container.id} ${container.state}`);
    } finally {
      cri.close();
    }
  };
  const before = await ids();
  assert.equal(before.length, 1);
  await node.killContainerd();
  await node.startContainerd();
  assert.deepEqual(await ids(), before);
});

test('the whole kubelet with our API server: node, pod, logs, exec, deletion', {
  skip,
  timeout: 120_000,
}, async t => {
  await runOk('ip', ['-n', node.name, 'addr', 'add', `${NODE_IP}/32`, 'dev', 'lo']);
  const { code, output } = await script('cluster-inside.ts', [
    node.directory,
    node.socket,
    node.cgroup,
    NODE_IP,
  ]);
  assert.equal(code, 0, output);
  t.diagnostic(output.trim());
});
