// Drives the built podwire command and the real kubectl against labs of the tests' own.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type RunResult, run } from '../../src/linux/exec.ts';

const ROOT = join(import.meta.dirname, '../..');
export const PODWIRE = join(ROOT, 'dist/bin/podwire');
const COMMAND_TIMEOUT_MS = 180_000;

export interface UpReport {
  kubeconfig: string;
  firstAnswerSeconds: number;
  totalSeconds: number;
  alreadyUp: boolean;
  phases: { name: string; seconds: number }[];
  rows: { from: string; to: string; pod?: string; node?: string; milliseconds?: number; error?: string }[];
  lab: {
    name: string;
    directory: string;
    apiPort: number;
    nodes: { name: string; netns: string; directory: string }[];
  };
}

/** A directory for labs that are taken down with it. */
export class LabDirectory {
  readonly path = mkdtempSync(join(tmpdir(), 'pw-'));
  readonly #names = new Set<string>();

  podwire(args: string[], timeoutMs = COMMAND_TIMEOUT_MS): Promise<RunResult> {
    return run(PODWIRE, args, { env: { ...process.env, PODWIRE_DIR: this.path }, timeoutMs });
  }

  async up(name: string, ...flags: string[]): Promise<UpReport> {
    this.#names.add(name);
    const result = await this.podwire(['up', '--name', name, '--output', 'json', ...flags]);
    if (result.code !== 0)
      throw new Error(`podwire up --name ${name}: exit ${result.code}\n${result.stdout}\n${result.stderr}`);
    return JSON.parse(result.stdout) as UpReport;
  }

  async remove(): Promise<void> {
    for (const name of this.#names) await this.podwire(['down', '--name', name]);
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** The real kubectl with this kubeconfig. */
export function kubectl(kubeconfig: string, args: string[], input?: string): Promise<RunResult> {
  return run('kubectl', ['--kubeconfig', kubeconfig, ...args], { input, timeoutMs: COMMAND_TIMEOUT_MS });
}

/** kubectl's standard output; throws with what it said when it failed. */
export async function kubectlOk(kubeconfig: string, args: string[], input?: string): Promise<string> {
  const result = await kubectl(kubeconfig, args, input);
  if (result.code !== 0) throw new Error(`kubectl ${args.join(' ')}: exit ${result.code}: ${result.stderr}`);
  return result.stdout;
}

/** Polls until `check` returns something, or throws what it last threw. */
export async function eventually<T>(
  what: string,
  check: () => Promise<T | undefined>,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  let last: unknown = new Error('it never came true');
  while (Date.now() < deadline) {
    try {
      const value = await check();
      if (value !== undefined) return value;
    } catch (thrown) {
      last = thrown;
    }
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  throw new Error(`${what}: not within ${timeoutMs} ms`, { cause: last });
}
