// `podwire proxy status|services|diff` and the stand-alone kube-proxy that they ask, in each mode.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Difference } from '../../../proxy/backend/backend.ts';
import type { ProxyStatus, ReportedPort } from '../../../src/agent/proxy-report.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import { type RunResult, run } from '../../../src/linux/exec.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';
import { DaemonNode, waitFor } from './daemon-node.ts';

const PODWIRE = join(import.meta.dirname, '../../../src/cmd/podwire.ts');
const skip = SKIP_UNLESS_ROOT;
let daemon: DaemonNode;
let web = '';

before(async () => {
  if (skip) return;
  daemon = new DaemonNode('kpc');
  await daemon.start();
  web = await daemon.expose(
    service('default/web', {
      type: 'NodePort',
      sessionAffinity: 'ClientIP',
      ports: [{ port: 80, nodePort: 30080 }],
    }),
    slice(
      'default/web',
      [endpoint('10.244.1.3', { node: 'node' }), endpoint('10.244.2.3', { ready: false })],
      [{ port: 80 }],
    ),
  );
  await daemon.admin.create(RESOURCE.namespaces, { metadata: { name: 'other' } });
  await daemon.expose(
    service('other/empty', { ports: [{ port: 81 }] }),
    slice('other/empty', [], [{ port: 81 }]),
  );
});
after(() => daemon?.close());

function proxy(...args: string[]): Promise<RunResult> {
  const node = [
    '--disable-warning=ExperimentalWarning',
    PODWIRE,
    'proxy',
    ...args,
    '--dir',
    daemon.directory,
  ];
  return run(process.execPath, node, { netns: daemon.node.netns, timeoutMs: 30_000 });
}

async function ask<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await proxy(...args, '-o', 'json');
  assert.equal(code, 0, stdout + stderr);
  return (JSON.parse(stdout) as { answer: T }[])[0]!.answer;
}

const SERVED = {
  iptables: /^nat KUBE-SVC-[A-Z2-7]{16}$/,
  nftables: /^map service-ips \{ 10\.96\.\d+\.\d+ \. tcp \. 80 : goto /,
  userspace: /^relay tcp 10\.9\.0\.1:\d+ for 10\.96\.\d+\.\d+:80, node port 30080$/,
};

for (const mode of ['iptables', 'nftables', 'userspace'] as const)
  test(`${mode}: what it says is what is there`, { skip }, async () => {
    await daemon.run('--config', daemon.writeConfig({ mode }));
    const status = await waitFor('verified', async () => {
      const found = await ask<ProxyStatus>('status');
      return found.lastVerified === undefined ? undefined : found;
    });
    assert.equal(status.mode, mode);
    assert.equal(status.ready, true);
    assert.equal(status.healthz, 200);
    // The API server's own Service is there too.
    assert.ok(status.services >= 3, `${status.services} services`);
    assert.ok(status.withoutEndpoints >= 1);
    assert.ok(Date.now() - Date.parse(status.lastSync?.at ?? '') < 60_000);
    assert.match(status.backend, mode === 'nftables' ? /podwire-proxy/ : /iptables-/);
    const [port] = await ask<ReportedPort[]>('services', 'web');
    assert.ok(port);
    assert.deepEqual(port.addresses, [`${web}:80`, '*:30080']);
    assert.deepEqual(port.endpoints, [
      { address: '10.244.1.3:80', state: 'ready', local: true, used: true },
      { address: '10.244.2.3:80', state: 'not ready', local: false, used: false },
    ]);
    assert.equal(port.affinitySeconds, 10_800);
    assert.ok(
      port.servedBy.some(place => SERVED[mode].test(place)),
      port.servedBy.join('\n'),
    );
    const [empty] = await ask<ReportedPort[]>('services', '-n', 'other');
    assert.equal(empty?.internalRefusal, 'REJECT');
    assert.deepEqual(await ask<Difference[]>('diff'), []);
    const table = await proxy('services', 'default/web');
    assert.match(table.stdout, /default\/web.*10\.244\.1\.3:80\*/);
    await daemon.end('SIGTERM');
  });

test('a repair is told', { skip }, async () => {
  await daemon.run('--config', daemon.writeConfig({ mode: 'nftables' }));
  const gone = await daemon.node.run('nft', ['delete', 'chain', 'ip', 'podwire-proxy', 'nat-output']);
  assert.equal(gone.code, 0, gone.stderr);
  const status = await waitFor('a repair', async () => {
    const found = await ask<ProxyStatus>('status');
    return found.repairs.count > 0 ? found : undefined;
  });
  assert.match(status.repairs.last?.what ?? '', /chain nat-output missing/);
  const text = await proxy('status');
  assert.equal(text.code, 0);
  assert.match(text.stdout, /mended \d+s ago: chain nat-output missing/);
});

test('nobody there, somebody else there, an unknown Service: exit status 1 and why', { skip }, async () => {
  const none = await proxy('status', '--address', '127.0.0.1:10999');
  assert.equal(none.code, 1);
  assert.match(none.stderr, /ECONNREFUSED/);
  const other = await proxy('status', '--address', '127.0.0.1:10256');
  assert.equal(other.code, 1);
  assert.match(other.stderr, /not podwire's kube-proxy/);
  assert.equal((await proxy('services', 'nothing')).code, 1);
  const help = await proxy('services', '--help');
  assert.match(help.stdout, /Examples:/);
});
