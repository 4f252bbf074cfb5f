// kill -9 in the middle of ADD, at many moments, with and without the server; then DEL, which must leave nothing: no link,
// no rule, no reservation, no unfinished file. And races: two implementations on one reservation directory.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { CniHost, type CniRequest, REFERENCE_PLUGINS } from '../../harness/cni.ts';
import { kill, startServer } from '../../harness/cni-process.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const skipReference =
  skip || (existsSync(join(REFERENCE_PLUGINS, 'host-local')) ? false : 'needs containernetworking-plugins');
let host: CniHost;

before(async () => {
  if (!skip) host = await CniHost.create({ server: false });
});
after(async () => {
  if (!skip) await host.close();
});

const list = (): Record<string, unknown>[] => {
  const common = { cniVersion: '1.1.0', name: 'faults' };
  const ipam = {
    type: 'host-local',
    dataDir: host.dataDir,
    ranges: [[{ subnet: '10.66.0.0/24' }], [{ subnet: 'fd66::/64' }]],
  };
  return [
    {
      ...{ ...common, type: 'bridge', bridge: 'br0', isDefaultGateway: true, ipMasq: true },
      ...{ macspoofchk: true, ipam },
    },
    {
      ...common,
      type: 'portmap',
      runtimeConfig: {
        portMappings: [
          { hostPort: 8088, containerPort: 80 },
          { hostPort: 8053, containerPort: 53, protocol: 'udp' },
        ],
      },
    },
    { ...common, type: 'bandwidth', ingressRate: 8e6, ingressBurst: 8e5, egressRate: 8e6, egressBurst: 8e5 },
  ];
};

/** Everything that a pod may leave behind, in one comparable value. */
async function remains(): Promise<unknown> {
  const directory = join(host.dataDir, 'faults');
  const files = existsSync(directory) ? readdirSync(directory) : [];
  return {
    links: host.links(),
    rules: (await host.sh('nft list ruleset')).trim(),
    files: files.filter(name => !/^(lock|last_reserved_ip\.\d|\.podwire-boot)$/.test(name)),
  };
}
const CLEAN = { links: ['br0'], rules: '', files: [] };

/** ADDs of the list in order until one fails or `stop` says so. */
async function addList(request: Omit<CniRequest, 'config'>): Promise<void> {
  let prevResult: Record<string, unknown> | undefined;
  for (const plugin of list()) {
    const output = await host.run('ADD', {
      ...request,
      config: { ...plugin, ...(prevResult ? { prevResult } : {}) },
    });
    if (output.code !== 0) return;
    prevResult = output.json;
  }
}

async function delList(request: Omit<CniRequest, 'config'>): Promise<void> {
  for (const config of list().toReversed()) await host.ok('DEL', { ...request, config });
}

test('the server is killed at 20 moments of ADD; DEL by the next one leaves nothing', { skip }, async () => {
  let server = await startServer(host);
  try {
    await addList({ netns: host.addPod(), id: 'first' });
    await delList({ id: 'first' });
    assert.deepEqual(await remains(), CLEAN);
    for (let round = 0; round < 20; round++) {
      const netns = host.addPod();
      const id = `kill${round}`;
      // No stand-in: what the server had begun must stay as it is.
      const env = { PODWIRE_CNI_FALLBACK: '/nonexistent' };
      const adding = addList({ netns, id, env });
      await pause(1 + round * 2);
      await kill(server);
      await adding;
      server = await startServer(host);
      // Every other time the pod's namespace is gone too.
      if (round % 2 === 1) host.removePod(netns);
      await delList({ id, netns: round % 2 === 1 ? '' : netns });
      assert.deepEqual(await remains(), CLEAN, `killed after ${1 + round * 2} ms`);
    }
  } finally {
    await kill(server);
  }
});

test('the stand-in is killed at 8 moments of ADD; GC leaves nothing', { skip }, async () => {
  for (let round = 0; round < 8; round++) {
    const netns = host.addPod();
    const request: CniRequest = { config: list()[0]!, netns, id: `node${round}`, withoutServer: true };
    const child = host.netns.run(() =>
      spawn(join(host.plugins, 'bridge'), [], {
        env: host.environment('ADD', request),
        stdio: ['pipe', 'ignore', 'ignore'],
      }),
    );
    child.stdin!.on('error', () => {}).end(JSON.stringify(request.config));
    await pause(150 + round * 40);
    await kill(child);
    for (const config of list())
      await host.ok('GC', { config: { ...config, 'cni.dev/valid-attachments': [] }, withoutServer: true });
    assert.deepEqual(await remains(), CLEAN, `killed after ${150 + round * 40} ms`);
  }
});

test('ours and the reference share a reservation directory: no address twice', {
  skip: skipReference,
}, async () => {
  await host.startServer();
  const config = {
    cniVersion: '1.0.0',
    name: 'shared',
    type: 'host-local',
    ipam: { type: 'host-local', dataDir: host.dataDir, subnet: '10.67.0.0/24' },
  };
  const request = (i: number): CniRequest => ({
    config,
    id: `s${i}`,
    netns: '/run/netns/unused',
    directory: i % 2 === 0 ? host.plugins : REFERENCE_PLUGINS,
  });
  // The reference looks at the namespace after ADD, so it must exist there.
  const netns = host.addPod();
  const results = await Promise.all(
    Array.from({ length: 60 }, (_, i) => host.ok('ADD', { ...request(i), netns })),
  );
  const addresses = results.map(result => (result.ips as { address: string }[])[0]!.address);
  assert.equal(new Set(addresses).size, 60);
  const names = readdirSync(join(host.dataDir, 'shared')).filter(name => /^[0-9]+\./.test(name));
  assert.equal(names.length, 60);
  for (const name of names)
    assert.match(readFileSync(join(host.dataDir, 'shared', name), 'utf8'), /^s\d+\r\neth0$/);
  // Each gives back what the other gave.
  await Promise.all(
    Array.from({ length: 60 }, (_, i) => host.ok('DEL', { ...request(i + 1), id: `s${i}`, netns })),
  );
  assert.deepEqual(
    readdirSync(join(host.dataDir, 'shared')).filter(name => /^[0-9]+\./.test(name)),
    [],
  );
  await host.stopServer();
});
