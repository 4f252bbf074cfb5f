// Another kernel for tests that need what the host's lacks (ipip, 8021q, ipvlan, vrf, dummy …): Debian's user-mode-linux
// boots in about three seconds without KVM or privileges, with the host's whole tree as a read-only root (hostfs), so
// every tool, this checkout and the pinned Node are there. Writable are /run and $TMPDIR, which end with the guest.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PodwireError } from '../../src/lib/errors.ts';
import { run } from '../../src/linux/exec.ts';

const ROOT = join(import.meta.dirname, '../..');
const KERNEL = '/usr/bin/linux.uml';
const MODULES = '/usr/lib/uml/modules';
/** What booting, loading modules and powering off may take on a busy machine, besides the script itself. */
const BOOT_MS = 25_000;
const DEFAULT_TIMEOUT_MS = 45_000;
const BEGIN = '@uml-begin';
const END = '@uml-end';

export interface UmlOptions {
  /** Shell (bash) commands, run as root. */
  script: string;
  /** Kernel modules by name, such as `8021q`; what they depend on is loaded before them. */
  modules?: readonly string[];
  memoryMb?: number;
  /** For the script alone; exit code 124 says that it took longer. */
  timeoutMs?: number;
  /** Link `vec0` of the guest: a tap device that is there already, in a namespace of the host. */
  tap?: { name: string; netnsPath: string };
}

export interface UmlResult {
  /** False when the kernel did not come as far as the script: user-mode Linux does not run on this machine. */
  booted: boolean;
  /** The script's; undefined when the guest died before its end. */
  code: number | undefined;
  /** The script's stdout and stderr; all that the guest said when it died. */
  output: string;
}

export interface UmlTestResult {
  name: string;
  /** Absent when the test passed. */
  error?: string;
  skipped?: string;
}

/** Why no guest can be booted here; undefined when one can. */
export function umlProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'user-mode Linux tests need root';
  if (statSync(KERNEL, { throwIfNoEntry: false }) === undefined)
    return `${KERNEL} is not installed (apt-get install user-mode-linux)`;
  if (moduleTree() === undefined) return `${MODULES} has no kernel modules`;
  return undefined;
}

/** Boots a guest, runs the script, powers off. */
export async function runInUml(options: UmlOptions): Promise<UmlResult> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const directory = mkdtempSync(join(tmpdir(), 'podwire-uml-'));
  const init = join(directory, 'init');
  writeFileSync(init, initScript(options, timeoutMs), { mode: 0o755 });
  const { tap } = options;
  try {
    const { stdout, stderr } = await run(
      KERNEL,
      [
        `mem=${options.memoryMb ?? 256}M`,
        ...['root=none', 'rootfstype=hostfs', 'rootflags=/', 'ro', `init=${init}`],
        ...['quiet', 'loglevel=1', 'panic=-1', 'con=null', 'con0=null,fd:1', `uml_dir=${directory}`],
        ...(tap === undefined ? [] : [`vec0:transport=tap,ifname=${tap.name},depth=64,gro=0`]),
      ],
      {
        timeoutMs: timeoutMs + BOOT_MS,
        env: { PATH: process.env.PATH, TMPDIR: directory },
        ...(tap === undefined ? {} : { netnsPath: tap.netnsPath }),
      },
    );
    return readOutput(`${stdout}${stderr}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Runs test files (node:test) of this checkout in a guest; a file that cannot be run is a failed test. */
export async function runTestsInUml(
  files: readonly string[],
  options: Omit<UmlOptions, 'script'> = {},
): Promise<UmlTestResult[]> {
  const script = `cd '${ROOT}' && sh scripts/run.sh test/harness/uml-guest.ts ${files.map(file => `'${file}'`).join(' ')}`;
  const { booted, code, output } = await runInUml({ ...options, script });
  if (!booted)
    return [
      { name: 'the guest', skipped: `user-mode Linux does not boot here: ${output.trim().slice(-500)}` },
    ];
  const prefix = '@uml-test ';
  const lines = output.split('\n');
  const results = lines
    .filter(line => line.startsWith(prefix))
    .map(line => JSON.parse(line.slice(prefix.length)) as UmlTestResult);
  if (code !== 0 && !results.some(result => result.error !== undefined))
    results.push({ name: 'the guest', error: `exit code ${code}\n${lines.slice(-40).join('\n')}` });
  return results;
}

function readOutput(text: string): UmlResult {
  const lines = text.replaceAll('\r', '').split('\n');
  const begin = lines.indexOf(BEGIN);
  const end = lines.findLastIndex(line => line.startsWith(`${END} `));
  if (begin < 0 || end < begin) return { booted: begin >= 0, code: undefined, output: lines.join('\n') };
  return {
    booted: true,
    code: Number(lines[end]!.slice(END.length)),
    output: lines.slice(begin + 1, end).join('\n'),
  };
}

function moduleTree(): string | undefined {
  try {
    const releases = readdirSync(MODULES).filter(release => /^[0-9]/.test(release));
    return releases.length === 0 ? undefined : join(MODULES, releases.sort().at(-1)!);
  } catch {
    return undefined;
  }
}

/** Files in the order of loading, by modules.dep: each line is a module and what it needs, the nearest first. */
function moduleFiles(names: readonly string[]): string[] {
  const tree = moduleTree();
  if (tree === undefined) throw new PodwireError('ENOENT', `${MODULES} has no kernel modules`);
  const needs = new Map<string, string[]>();
  for (const line of readFileSync(join(tree, 'modules.dep'), 'utf8').split('\n')) {
    const [file, rest] = line.split(':');
    if (file !== undefined && rest !== undefined) needs.set(file, rest.split(' ').filter(Boolean));
  }
  const files = new Set<string>();
  for (const name of names) {
    const file = [...needs.keys()].find(path => path.endsWith(`/${name}.ko`));
    if (file === undefined) throw new PodwireError('ENOENT', `user-mode-linux has no module ${name}`);
    for (const one of [...needs.get(file)!].reverse()) files.add(join(tree, one));
    files.add(join(tree, file));
  }
  return [...files];
}

/** Process 1 of the guest. The output goes through a pipe, so that nobody takes the console for a terminal. */
function initScript(options: UmlOptions, timeoutMs: number): string {
  const load = moduleFiles(options.modules ?? [])
    .map(file => `busybox insmod ${file}`)
    .join('\n');
  return `#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TMPDIR=/run/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run
mkdir -p /run/tmp /run/lock; ln -sf /proc/self/fd /dev/fd; cd /run
exec 2>&1
echo ${BEGIN}
{ ${load === '' ? ':' : `\n${load}`}
ip link set lo up
cat > /run/script <<'${END}-of-script'
${options.script}
${END}-of-script
timeout -k 2 ${Math.ceil(timeoutMs / 1000)} bash /run/script; echo $? > /run/code
} </dev/null 2>&1 | cat
echo
echo "${END} $(cat /run/code)"
echo o > /proc/sysrq-trigger; sleep 10
`;
}
