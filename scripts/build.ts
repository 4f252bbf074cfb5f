// Builds dist/: one bundle per program (esbuild), the shell entries in dist/bin, and the native CNI launcher under
// every plugin's name in dist/cni. dist/.built is written last; setup.sh compares its age with the sources'.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { PLUGIN_NAMES } from '../cni/plugins.ts';

const root = join(import.meta.dirname, '..');
/** Built beside dist/ and put in its place at the end, so that a lab that runs from it never finds it half made. */
const finished = join(root, 'dist');
const dist = join(root, `.dist-${process.pid}`);

/** Programs with an entry in dist/bin. */
const PROGRAMS: Record<string, string> = {
  podwire: 'src/cmd/podwire.ts',
  'kube-proxy': 'src/cmd/kube-proxy.ts',
  flanneld: 'src/cmd/flanneld.ts',
};

/** Bundles that other programs start: the launcher's fallback, the relay's host, and worker threads under the names their makers use. */
const PARTS: Record<string, string> = {
  cni: 'cni/runtime/main.ts',
  'sqlite-writer': 'src/store/sqlite-writer.ts',
  'relay-host': 'proxy/backend/userspace/apply/relay-host.ts',
  'relay-worker': 'proxy/backend/userspace/apply/relay-worker.ts',
};

const entryPoints = Object.fromEntries(
  Object.entries({ ...PROGRAMS, ...PARTS })
    .filter(([, file]) => existsSync(join(root, file)))
    .map(([name, file]) => [name, join(root, file)]),
);

rmSync(dist, { recursive: true, force: true });
for (const directory of ['bin', 'cni', 'lib']) mkdirSync(join(dist, directory), { recursive: true });

await build({
  entryPoints,
  outdir: join(dist, 'lib'),
  bundle: true,
  splitting: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  minifySyntax: true,
  sourcemap: false,
  legalComments: 'none',
  external: ['koffi'],
  // Bundled CommonJS packages call require() for Node's own modules.
  banner: {
    js: "import { createRequire as podwireCreateRequire } from 'node:module'; const require = podwireCreateRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
writeFileSync(join(dist, 'package.json'), '{ "type": "module" }\n');

/**
 * flanneld runs beside every node of large clusters: with 5,000 Nodes it weighs 225 MB by V8's and the C library's own
 * choice and 130 MB so (overlay/rss-5000): V8 collects earlier, and freed buffers go back to the system.
 * kube-proxy with 40,000 Services: 550 MB and 310 MB (proxy/rss-40000); it computes more, and V8 is not to save code there.
 */
const NODE_FLAGS: Record<string, string> = {
  podwire: ' $flags',
  flanneld: ' --max-semi-space-size=2 --optimize-for-size',
  'kube-proxy': ' --max-semi-space-size=2 --heap-growing-percent=30',
};
const FEW_ARENAS = 'export MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=131072\n';
/** The CNI server keeps nothing of a request: 96 MB after 200 pods by V8's choice, 75 so, at the same CPU per pod. */
const CNI_SERVER = `flags=
if [ "\${1:-} \${2:-}" = "cni serve" ]; then flags='--max-semi-space-size=2 --optimize-for-size'; ${FEW_ARENAS.trim()}; fi
`;
const ENVIRONMENT: Record<string, string> = {
  podwire: CNI_SERVER,
  flanneld: FEW_ARENAS,
  'kube-proxy': FEW_ARENAS,
};

/** A shell entry that runs a bundle on the pinned Node, wherever the checkout lies and whatever links to it. */
function shellEntry(bundle: string): string {
  return `#!/bin/sh
# Runs dist/lib/${bundle}.js on the Node 24 that package-lock.json pins.
self=$(readlink -f "$0"); dist=\${self%/bin/*}
case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) arch=unsupported ;; esac
node="$dist/../node_modules/node-linux-$arch/bin/node"
if [ ! -x "$node" ]; then echo "podwire: $node is missing; run 'npm run setup' in the checkout" >&2; exit 1; fi
export NODE_COMPILE_CACHE="\${NODE_COMPILE_CACHE:-$dist/.compile-cache}"
${ENVIRONMENT[bundle] ?? ''}exec "$node" --disable-warning=ExperimentalWarning${NODE_FLAGS[bundle] ?? ''} "$dist/lib/${bundle}.js" "$@"
`;
}

for (const name of Object.keys(PROGRAMS)) {
  const path = join(dist, 'bin', name);
  writeFileSync(path, shellEntry(name));
  chmodSync(path, 0o755);
}

const launcherSource = join(root, 'cni/launcher/launcher.c');
if (existsSync(launcherSource)) {
  const [first, ...others] = PLUGIN_NAMES.map(plugin => join(dist, 'cni', plugin)) as [string, ...string[]];
  execFileSync('gcc', ['-O2', '-static', '-s', '-Wall', '-Wextra', '-o', first, launcherSource], {
    stdio: 'inherit',
  });
  for (const path of others) {
    try {
      linkSync(first, path);
    } catch {
      copyFileSync(first, path);
    }
  }
}
writeFileSync(join(dist, '.built'), '');
const old = `${dist}-old`;
if (existsSync(finished)) renameSync(finished, old);
renameSync(dist, finished);
rmSync(old, { recursive: true, force: true });
