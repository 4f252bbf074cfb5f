// Debian's podman (its CNI backend) with our plugins as its plugin directory. podman runs inside a namespace of the test
// with storage, state and configuration of its own, so nothing of the machine's podman is touched.
import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { type RunResult, run } from '../../../src/linux/exec.ts';
import { CniHost } from '../../harness/cni.ts';

const PODMAN = '/usr/bin/podman';
/** podman's own networks keep their reservations where host-local has its default. */
const DEFAULT_DATA_DIR = '/var/lib/cni/networks';
const OWN_NETWORK = `pwt-podman-${process.pid}`;
const CGROUP_PARENT = `/podwire-podman-${process.pid}`;
const missing = [PODMAN, '/usr/bin/conmon', '/bin/busybox'].find(file => !existsSync(file));
let skip: string | false =
  process.getuid?.() !== 0 ? 'needs root' : missing === undefined ? false : `${missing} is not installed`;

let host: CniHost;
let rootfs: string;

before(async () => {
  if (skip !== false) return;
  host = await CniHost.create();
  rootfs = join(host.directory, 'rootfs');
  for (const name of ['bin', 'proc', 'sys', 'dev', 'etc', 'tmp', 'run', '../net.d'])
    mkdirSync(join(rootfs, name), { recursive: true });
  copyFileSync('/bin/busybox', join(rootfs, 'bin/busybox'));
  for (const name of ['sh', 'ip', 'httpd']) symlinkSync('busybox', join(rootfs, 'bin', name));
  writeFileSync(
    join(host.directory, 'net.d/50-pods.conflist'),
    JSON.stringify({
      cniVersion: '0.4.0',
      name: 'pods',
      plugins: [
        {
          ...{ type: 'bridge', bridge: 'pods0', isGateway: true, ipMasq: true, hairpinMode: true },
          ...{ capabilities: { ips: true, mac: true } },
          ipam: {
            ...{ type: 'host-local', dataDir: host.dataDir, routes: [{ dst: '0.0.0.0/0' }] },
            ranges: [[{ subnet: '10.91.7.0/24' }]],
          },
        },
        { type: 'portmap', capabilities: { portMappings: true } },
        { type: 'firewall' },
        { type: 'tuning' },
      ],
    }),
  );
  writeFileSync(
    join(host.directory, 'containers.conf'),
    `[network]
network_backend = "cni"
cni_plugin_dirs = ["${host.plugins}"]
network_config_dir = "${host.directory}/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
`,
  );
  // conmon, which podman leaves behind, cleans up after a container with an environment of its own: there the launcher
  // finds the server by the socket beside it.
  symlinkSync(host.socketPath, join(host.plugins, 'cni.sock'));
  // Whether this machine lets podman run anything at all is no question of ours.
  const probe = await podman(
    'run',
    '--rm',
    '--network',
    'none',
    ...containerFlags(),
    rootfs,
    '/bin/sh',
    '-c',
    'true',
  );
  if (probe.code !== 0) skip = `podman cannot run a container here: ${probe.stderr.trim()}`;
});

after(async () => {
  if (host === undefined) return;
  await podman('rm', '--all', '--force', '--time', '0');
  await host.close();
  rmSync(join(DEFAULT_DATA_DIR, OWN_NETWORK), { recursive: true, force: true });
  for (const path of globSync(`/sys/fs/cgroup/{,*/}${CGROUP_PARENT.slice(1)}{,/*}`)
    .sort()
    .reverse())
    try {
      rmdirSync(path);
    } catch {
      // A controller that is mounted twice was cleared by its other name.
    }
});

function containerFlags(): string[] {
  return ['--cgroup-parent', CGROUP_PARENT, '--tmpfs', '/tmp', '--rootfs'];
}

function podman(...args: string[]): Promise<RunResult> {
  const { directory, netns, socketPath } = host;
  const state = [
    '--root',
    'root',
    '--runroot',
    'runroot',
    '--tmpdir',
    'tmp',
    '--network-config-dir',
    'net.d',
  ].map((arg, i) => (i % 2 === 0 ? arg : join(directory, arg)));
  return run(PODMAN, [...state, '--storage-driver', 'vfs', ...args], {
    netns,
    timeoutMs: 60_000,
    env: {
      ...process.env,
      CONTAINERS_CONF: join(directory, 'containers.conf'),
      PODWIRE_CNI_SOCKET: socketPath,
      XTABLES_LOCKFILE: join(directory, 'xtables.lock'),
    },
  });
}

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await podman(...args);
  if (code !== 0) throw new Error(`podman ${args.join(' ')}: ${stderr}`);
  return stdout.trim();
}

function start(name: string, ...flags: string[]): Promise<string> {
  const command = `echo ${name} > /tmp/name; exec httpd -f -p 80 -h /tmp`;
  return ok(
    'run',
    '--detach',
    '--name',
    name,
    ...flags,
    ...containerFlags(),
    rootfs,
    '/bin/sh',
    '-c',
    command,
  );
}

/** conmon may be the one that cleans up, some time after podman has said that the container is gone. */
async function eventually(check: () => void | Promise<void>): Promise<void> {
  for (let tries = 0; ; tries++)
    try {
      return await check();
    } catch (error) {
      if (tries === 50) throw error;
      await pause(100);
    }
}

/** The name that a container's server answers with. (busybox's own wget dies of static linking.) */
function fetchCommand(address: string, port: number): string {
  const request = String.raw`printf 'GET /name HTTP/1.0\r\n\r\n' | busybox nc -w 2 ${address} ${port} 2>/dev/null | busybox tail -n 1`;
  return `for i in 1 2 3 4 5 6 7 8 9 10; do name=$(${request}); [ -n "$name" ] && break; busybox sleep 0.1; done; echo "$name"`;
}

async function fetchHere(address: string, port: number): Promise<string> {
  return (await host.sh(fetchCommand(address, port))).trim();
}

function fetchFrom(container: string, address: string, port: number): Promise<string> {
  return ok('exec', container, '/bin/sh', '-c', fetchCommand(address, port));
}

test('containers get addresses, host ports and each other', { skip }, async t => {
  if (skip !== false) return t.skip(skip);
  await start('one', '--network', 'pods', '--publish', '8080:80');
  await start('two', '--network', 'pods:ip=10.91.7.50,mac=02:00:00:00:00:50');
  const inspected = JSON.parse(
    await ok('inspect', 'two', '--format', '{{json .NetworkSettings.Networks.pods}}'),
  );
  assert.equal(inspected.IPAddress, '10.91.7.50');
  assert.equal(inspected.MacAddress, '02:00:00:00:00:50');
  assert.equal(await fetchHere('127.0.0.1', 8080), 'one');
  assert.equal(await fetchHere('10.91.7.50', 80), 'two');
  assert.equal(await fetchFrom('one', '10.91.7.50', 80), 'two');
  const pod = await ok('inspect', 'one', '--format', '{{.NetworkSettings.Networks.pods.IPAddress}}');
  assert.equal(await fetchFrom('two', '10.91.7.1', 8080), 'one');
  assert.deepEqual(reservations(host.dataDir, 'pods'), [pod, '10.91.7.50'].sort());

  await ok('restart', '--time', '0', 'one');
  assert.equal(await fetchHere('127.0.0.1', 8080), 'one');
  await ok('rm', '--force', '--time', '0', 'one', 'two');
  await eventually(() => assert.deepEqual(reservations(host.dataDir, 'pods'), []));
  await eventually(async () => assert.equal((await host.sh('ip -br link show type veth')).trim(), ''));
  assert.doesNotMatch(await host.sh('nft list ruleset'), /10\.91\.7\.(50|[0-9]+:)/);
});

test('networks that podman writes itself', { skip }, async t => {
  if (skip !== false) return t.skip(skip);
  await ok(
    'network',
    'create',
    '--disable-dns',
    '--subnet',
    '10.91.9.0/24',
    '--ipv6',
    '--subnet',
    'fd91:9::/64',
    OWN_NETWORK,
  );
  const file = join(host.directory, `net.d/${OWN_NETWORK}.conflist`);
  assert.match(await host.sh(`cat ${file}`), /"type": "bridge"/);
  await start('three', '--network', OWN_NETWORK, '--publish', '8081:80');
  const addresses = await ok('exec', 'three', 'ip', 'addr', 'show', 'eth0');
  assert.match(addresses, /inet 10\.91\.9\.2\/24/);
  assert.match(addresses, /inet6 fd91:9::2\/64/);
  assert.equal(await fetchHere('127.0.0.1', 8081), 'three');
  await ok('rm', '--force', '--time', '0', 'three');
  await eventually(() => assert.deepEqual(reservations(DEFAULT_DATA_DIR, OWN_NETWORK), []));
  await ok('network', 'rm', OWN_NETWORK);
  await eventually(async () => assert.equal((await host.sh('ip -br link show type veth')).trim(), ''));
});

function reservations(dataDir: string, network: string): string[] {
  return readdirSync(join(dataDir, network))
    .filter(name => /^[0-9]+\./.test(name))
    .sort();
}
