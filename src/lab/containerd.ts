// containerd for one lab node: a configuration whose every path lies below the node's own directory, so that several
// daemons share a machine, and a *template root* with the lab's images already imported. Importing costs half a second
// a node; a template is made once for each (containerd version, images) and then cloned with hard links, which also lets
// all nodes share the page cache of the image's files.
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CriClient } from '../kubelet/cri-client.ts';
import { errorMessage, hasCode, PodwireError } from '../lib/errors.ts';
import { run, spawnDaemon } from '../linux/exec.ts';
import { buildLabImages, HELLO_IMAGE, PAUSE_IMAGE } from './images.ts';

export interface ContainerdOptions {
  /** Everything of this containerd lies below; short, for the sockets in it. */
  directory: string;
  cniBinDir: string;
  cniConfDir: string;
  sandboxImage?: string;
  /** Default `<directory>/c.sock`. */
  socket?: string;
  logLevel?: 'debug' | 'info' | 'warn' | 'error';
}

/** Plugins a lab node has no use for: other snapshotters (each probes the disk at start) and tracing. */
const DISABLED_PLUGINS = [
  'io.containerd.snapshotter.v1.aufs',
  'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.native',
  'io.containerd.snapshotter.v1.zfs',
  'io.containerd.internal.v1.restart',
  'io.containerd.internal.v1.tracing',
  'io.containerd.tracing.processor.v1.otlp',
  'io.containerd.monitor.v1.cgroups',
];

const SOCKET_PATH_MAX_BYTES = 107;
const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 20;

export function containerdPaths(directory: string) {
  return {
    config: join(directory, 'config.toml'),
    root: join(directory, 'root'),
    state: join(directory, 'state'),
    socket: join(directory, 'c.sock'),
    runc: join(directory, 'runc'),
    opt: join(directory, 'opt'),
  };
}

/** The configuration file's text (containerd 1.6, configuration version 2). */
export function containerdConfig(options: ContainerdOptions): string {
  const paths = containerdPaths(options.directory);
  const text = (value: string) => JSON.stringify(value);
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return `version = 2
root = ${text(paths.root)}
state = ${text(paths.state)}
oom_score = 0
disabled_plugins = [${DISABLED_PLUGINS.map(text).join(', ')}]

[grpc]
  address = ${text(options.socket ?? paths.socket)}

[debug]
  level = ${text(options.logLevel ?? 'warn')}

[plugins."io.containerd.internal.v1.opt"]
  path = ${text(paths.opt)}

[${cri}]
  sandbox_image = ${text(options.sandboxImage ?? PAUSE_IMAGE)}
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  # Pods' network namespaces belong to this node's state, not to the machine's /run/netns.
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  max_concurrent_downloads = 3

[${cri}.containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

[${cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[${cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
  Root = ${text(paths.runc)}

[${cri}.cni]
  bin_dir = ${text(options.cniBinDir)}
  conf_dir = ${text(options.cniConfDir)}
  max_conf_num = 1
`;
}

/** Writes the configuration and makes its directories. Returns the file's path. Idempotent. */
export function writeContainerdConfig(options: ContainerdOptions): string {
  const paths = containerdPaths(options.directory);
  const socket = options.socket ?? paths.socket;
  if (Buffer.byteLength(socket) > SOCKET_PATH_MAX_BYTES)
    throw new PodwireError(
      'SOCKET_PATH_TOO_LONG',
      `containerd socket ${socket}: longer than ${SOCKET_PATH_MAX_BYTES} bytes (unix(7)); use a shorter --dir`,
    );
  for (const path of [paths.root, paths.state, paths.runc, paths.opt, options.cniConfDir])
    mkdirSync(path, { recursive: true, mode: 0o711 });
  writeFileSync(paths.config, containerdConfig(options));
  return paths.config;
}

/** Environment that makes many small containerds cheap: memory for fewer garbage collections. */
export const CONTAINERD_ENV: Readonly<Record<string, string>> = { GOGC: '400' };

export interface TemplateOptions {
  /** Shared by all labs of this machine, e.g. `<dir>/cache`. */
  cacheDirectory: string;
  busyboxPath?: string;
  /** Docker-archive bytes to import in place of the usual images. */
  images?: { archive: Uint8Array; names: readonly string[] };
}

/**
 * Returns the directory of a containerd root with the images in it, making it the first time. Safe to call from
 * several processes at once: the finished template appears by one rename.
 */
export async function ensureTemplateRoot(options: TemplateOptions): Promise<string> {
  const busyboxPath = options.busyboxPath ?? '/bin/busybox';
  const archive = options.images?.archive ?? buildLabImages(readBusybox(busyboxPath));
  const names = options.images?.names ?? [PAUSE_IMAGE, HELLO_IMAGE];
  const version = await containerdVersion();
  const key = createHash('sha256').update(version).update('\0').update(archive).digest('hex').slice(0, 16);
  const template = join(options.cacheDirectory, `containerd-${key}`);
  if (existsSync(template)) return template;
  mkdirSync(options.cacheDirectory, { recursive: true });
  const work = mkdtempSync(join(options.cacheDirectory, 't-'));
  try {
    await importImages(work, archive, names);
    renameIfAbsent(containerdPaths(work).root, template);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return template;
}

function readBusybox(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (thrown) {
    throw new PodwireError(
      'NO_BUSYBOX',
      `read ${path} for the lab's images: ${errorMessage(thrown)}; install it with: apt-get install busybox-static`,
      { cause: thrown },
    );
  }
}

async function containerdVersion(): Promise<string> {
  const result = await run('containerd', ['--version']);
  if (result.code !== 0)
    throw new PodwireError('CONTAINERD', `containerd --version: ${result.stderr.trim()}; install containerd`);
  return result.stdout.trim();
}

async function importImages(directory: string, archive: Uint8Array, names: readonly string[]): Promise<void> {
  const paths = containerdPaths(directory);
  const config = writeContainerdConfig({
    directory,
    cniBinDir: directory,
    cniConfDir: join(directory, 'net.d'),
  });
  const tar = join(directory, 'images.tar');
  writeFileSync(tar, archive);
  const daemon = spawnDaemon('containerd', ['--config', config], {
    env: { ...process.env, ...CONTAINERD_ENV },
  });
  try {
    await waitForContainerd(paths.socket);
    const result = await run('ctr', ['-a', paths.socket, '-n', 'k8s.io', 'images', 'import', tar]);
    if (result.code !== 0)
      throw new PodwireError('IMAGE_IMPORT', `ctr images import: ${(result.stderr || result.stdout).trim()}`);
    await waitForImages(paths.socket, names);
  } finally {
    await stopDaemon(daemon.pid);
  }
}

/** Waits until the CRI service answers. */
export async function waitForContainerd(socket: string, timeoutMs = READY_TIMEOUT_MS): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    if (existsSync(socket)) {
      const cri = new CriClient(socket);
      try {
        await cri.version();
        return;
      } catch (thrown) {
        // No CRI service: its plugin failed to load, and will not load later.
        if (Date.now() > deadline || hasCode(thrown, 'CRI_UNIMPLEMENTED'))
          throw new PodwireError(
            'CONTAINERD',
            `containerd at ${socket} did not answer: ${errorMessage(thrown)}`,
            {
              cause: thrown,
            },
          );
      } finally {
        cri.close();
      }
    } else if (Date.now() > deadline) {
      throw new PodwireError('CONTAINERD', `containerd made no socket ${socket} in ${timeoutMs} ms`);
    }
    await sleep(READY_POLL_MS);
  }
}

/** The CRI service learns of imported images by events; a template is complete once it knows them. */
async function waitForImages(socket: string, names: readonly string[]): Promise<void> {
  const cri = new CriClient(socket);
  try {
    const deadline = Date.now() + READY_TIMEOUT_MS;
    for (const name of names) {
      while (!(await cri.imageStatus(name))) {
        if (Date.now() > deadline)
          throw new PodwireError('IMAGE_IMPORT', `${name} was imported but is unknown to CRI`);
        await sleep(READY_POLL_MS);
      }
    }
  } finally {
    cri.close();
  }
}

/** TERM, then KILL; returns when the process is gone, so that its database is closed. */
async function stopDaemon(pid: number): Promise<void> {
  const alive = () => {
    try {
      process.kill(pid, 0);
      return true;
    } catch (thrown) {
      if (hasCode(thrown, 'ESRCH')) return false;
      throw thrown;
    }
  };
  const waitGone = async (timeoutMs: number) => {
    for (const deadline = Date.now() + timeoutMs; alive() && Date.now() < deadline; ) await sleep(10);
    return !alive();
  };
  if (!alive()) return;
  process.kill(pid, 'SIGTERM');
  if (await waitGone(10_000)) return;
  process.kill(pid, 'SIGKILL');
  await waitGone(5_000);
}

function renameIfAbsent(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (thrown) {
    // Another process finished the same template first.
    if (!hasCode(thrown, 'ENOTEMPTY') && !hasCode(thrown, 'EEXIST')) throw thrown;
  }
}

/**
 * Makes `root` a containerd root with the template's images. Blobs and unpacked layers are hard links (containerd and
 * overlayfs never write to them); the databases, which are written in place, are copies. Does nothing if `root` has
 * content already.
 */
export function cloneTemplateRoot(template: string, root: string): void {
  if (existsSync(root) && readdirSync(root).length > 0) return;
  const work = `${root}.new`;
  rmSync(work, { recursive: true, force: true });
  mkdirSync(dirname(root), { recursive: true });
  cloneTree(template, work);
  rmSync(root, { recursive: true, force: true });
  renameSync(work, root);
}

function cloneTree(from: string, to: string): void {
  const { mode } = lstatSync(from);
  mkdirSync(to);
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const source = join(from, entry.name);
    const target = join(to, entry.name);
    if (entry.isDirectory()) cloneTree(source, target);
    else if (entry.isSymbolicLink()) symlinkSync(readlinkSync(source), target);
    else if (entry.name.endsWith('.db')) copyFileSync(source, target);
    else linkOrCopy(source, target);
  }
  chmodSync(to, mode & 0o7777);
}

function linkOrCopy(source: string, target: string): void {
  try {
    linkSync(source, target);
  } catch (thrown) {
    if (!hasCode(thrown, 'EXDEV') && !hasCode(thrown, 'EMLINK')) throw thrown;
    copyFileSync(source, target);
  }
}
