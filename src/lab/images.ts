// The lab's container images, built on the spot from Debian's static busybox: nothing is pulled, no registry is needed.
// The output is a docker-archive tar (manifest.json, config, one layer), the form `ctr images import` reads. Building is
// deterministic: the same busybox gives the same bytes, so the digest can name a cache.
import { createHash } from 'node:crypto';
import { type TarEntry, tarArchive } from './tar.ts';

export const PAUSE_IMAGE = 'localhost/podwire/pause:1';
export const HELLO_IMAGE = 'localhost/podwire/hello:1';
/** Where the hello image's server listens unless its PORT variable says otherwise. */
export const HELLO_PORT = 8080;

export interface ImageConfig {
  tag: string;
  entrypoint: string[];
  command?: string[];
  env?: string[];
  exposedPorts?: string[];
}

const CREATED = '2026-01-01T00:00:00Z';

/** The applets that get a name in /bin; all others are reached as `busybox NAME`. */
const APPLETS = (
  'sh ash [ arping awk base64 basename cat chmod chown cp cut date dd df dirname du echo env expr false find free ' +
  'grep gunzip gzip head hostname httpd id ifconfig ip kill killall less ln ls md5sum mkdir mkfifo mktemp more mount ' +
  'mv nc netstat nproc nslookup od pgrep pidof ping ping6 printf ps pwd readlink realpath rm rmdir route sed seq ' +
  'setsid sha256sum sleep sort stat stty sync tail tar tee telnet test timeout top touch tr traceroute true tty ' +
  'umount uname uniq vi watch wc wget which whoami xargs yes'
).split(' ');

// PID 1 of a container has no default signal handlers (pid_namespaces(7)), so the shell stays as PID 1 and passes TERM
// on: without it every pod would sit out its whole grace period.
const HELLO_SCRIPT = `#!/bin/sh
# Answers every HTTP request with the names of this pod and its node (both by the downward API).
printf '%s %s\\n' "\${POD_NAME:-$(hostname)}" "\${NODE_NAME:-unknown}" > /www/index.html
trap 'kill "$server" 2>/dev/null; exit 0' TERM INT
httpd -f -p "\${PORT:-${HELLO_PORT}}" -h /www &
server=$!
wait "$server"
`;

/** The one file system layer that all lab images share. */
export function buildLayer(busybox: Uint8Array): Buffer {
  const directories = ['bin', 'dev', 'etc', 'proc', 'root', 'run', 'sys', 'tmp', 'var', 'www'];
  const entries: TarEntry[] = [
    ...directories.map(name => ({
      type: 'directory' as const,
      name,
      mode: name === 'tmp' ? 0o1777 : 0o755,
    })),
    { type: 'file', name: 'bin/busybox', mode: 0o755, content: busybox },
    ...APPLETS.map(name => ({ type: 'symlink' as const, name: `bin/${name}`, target: 'busybox' })),
    { type: 'file', name: 'bin/hello', mode: 0o755, content: Buffer.from(HELLO_SCRIPT) },
    { type: 'file', name: 'etc/passwd', content: Buffer.from('root:x:0:0:root:/root:/bin/sh\n') },
    { type: 'file', name: 'etc/group', content: Buffer.from('root:x:0:\n') },
    { type: 'file', name: 'www/index.html', content: Buffer.from('hello\n') },
  ];
  return tarArchive(entries);
}

/** One docker-archive with all `images` on one common layer. */
export function buildImageArchive(layer: Uint8Array, images: readonly ImageConfig[]): Buffer {
  const diffId = `sha256:${createHash('sha256').update(layer).digest('hex')}`;
  const configs = images.map(image => {
    const content = Buffer.from(JSON.stringify(ociImage(image, diffId)));
    return { image, content, name: `${createHash('sha256').update(content).digest('hex')}.json` };
  });
  const manifest = configs.map(({ image, name }) => ({
    Config: name,
    RepoTags: [image.tag],
    Layers: ['layer.tar'],
  }));
  return tarArchive([
    { type: 'file', name: 'layer.tar', content: layer },
    ...configs.map(({ name, content }) => ({ type: 'file' as const, name, content })),
    { type: 'file', name: 'manifest.json', content: Buffer.from(JSON.stringify(manifest)) },
  ]);
}

/** The images of an ordinary lab: the sandbox's pause, and hello. */
export function buildLabImages(busybox: Uint8Array): Buffer {
  return buildImageArchive(buildLayer(busybox), [
    { tag: PAUSE_IMAGE, entrypoint: ['/bin/busybox', 'sleep', '2147483647'] },
    { tag: HELLO_IMAGE, entrypoint: ['/bin/hello'], exposedPorts: [`${HELLO_PORT}/tcp`] },
  ]);
}

/** The OCI image configuration (image-spec config.md). */
function ociImage(image: ImageConfig, diffId: string) {
  return {
    created: CREATED,
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: {
      Env: ['PATH=/bin', ...(image.env ?? [])],
      Entrypoint: image.entrypoint,
      ...(image.command ? { Cmd: image.command } : {}),
      ...(image.exposedPorts
        ? { ExposedPorts: Object.fromEntries(image.exposedPorts.map(port => [port, {}])) }
        : {}),
      WorkingDir: '/',
    },
    rootfs: { type: 'layers', diff_ids: [diffId] },
    history: [{ created: CREATED, created_by: 'podwire' }],
  };
}
