// iptables in batches: whole tables by iptables-save, changes by iptables-restore --noflush, one transaction each.
// Rules cost a program start however few they are, so nothing here works rule by rule.
//
// Two programs of the same syntax write to different places in the kernel (legacy x_tables, and nf_tables), and rules
// in both at once confuse everybody. The choice is made once an instance: what the caller says; else the one that
// already holds rules in this namespace (legacy first, its tables only exist when somebody used them); else nft, which
// is the distributions' default and so what anybody else on the machine will use. Measured: nft takes minutes at
// 10,000 services where legacy takes seconds, so a big proxy may well want to say `legacy`.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PodwireError } from '../lib/errors.ts';
import { type RunResult, run } from './exec.ts';
import { AF_INET, AF_INET6, SOCK_RAW, sysClose, sysSocket, tryGetsockopt } from './ffi.ts';
import type { Netns } from './netns.ts';

export type IptablesBackend = 'legacy' | 'nft';
export type XtablesFamily = 4 | 6;

export interface IptablesOptions {
  netns?: Netns;
  /** Where the lock file of legacy iptables goes, one a namespace; XTABLES_LOCKFILE of our environment unless told. */
  lockDirectory?: string;
  backend?: IptablesBackend;
}

export interface IptablesChoice {
  backend: IptablesBackend;
  reason: string;
}

const LOCK_WAIT_SECONDS = 10;
const TIMEOUT_MS = 300_000;
const IPPROTO_RAW = 255;
const SOL_IP = 0;
const SOL_IPV6 = 41;
/** IPT_SO_GET_INFO and IP6T_SO_GET_INFO (linux/netfilter_ipv4/ip_tables.h). */
const SO_GET_INFO = 64;
const GETINFO_BYTES = 84;

export class Iptables {
  readonly #options: IptablesOptions;
  #choice: Promise<IptablesChoice> | undefined;

  constructor(options: IptablesOptions = {}) {
    this.#options = options;
  }

  /** Which of the two is used, and why. */
  choice(): Promise<IptablesChoice> {
    this.#choice ??= this.#choose();
    return this.#choice;
  }

  async #choose(): Promise<IptablesChoice> {
    const asked = this.#options.backend;
    if (asked !== undefined) return { backend: asked, reason: 'as configured' };
    for (const backend of ['legacy', 'nft'] as const) {
      const rules = await this.#countRules(backend);
      if (rules > 0) return { backend, reason: `it already holds ${rules} rules` };
    }
    return { backend: 'nft', reason: 'the default, no rules in either' };
  }

  async #countRules(backend: IptablesBackend): Promise<number> {
    let rules = 0;
    for (const family of [4, 6] as const) {
      if (backend === 'legacy' && this.legacyTables(family).length === 0) continue;
      const result = await this.#execute(program(family, backend, 'save'), []).catch(() => undefined);
      if (result?.code === 0) rules += result.stdout.match(/^-A /gm)?.length ?? 0;
    }
    return rules;
  }

  /** Tables that legacy iptables has in this namespace; to look at another one would make it. */
  legacyTables(family: XtablesFamily): string[] {
    const file = `/proc/thread-self/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`;
    const read = (): string[] => {
      try {
        return readFileSync(file, 'utf8').split('\n').filter(Boolean);
      } catch {
        return [];
      }
    };
    return this.#options.netns === undefined ? read() : this.#options.netns.run(read);
  }

  #execute(
    command: string,
    args: string[],
    input?: string,
    onStart?: (pid: number) => void,
  ): Promise<RunResult> {
    const { netns, lockDirectory } = this.#options;
    const lock =
      lockDirectory === undefined
        ? process.env.XTABLES_LOCKFILE
        : join(lockDirectory, `xtables-${netns?.inode ?? 'own'}.lock`);
    return run(command, args, {
      timeoutMs: TIMEOUT_MS,
      env: { ...process.env, LC_ALL: 'C', ...(lock !== undefined && { XTABLES_LOCKFILE: lock }) },
      ...(netns !== undefined && { netns }),
      ...(input !== undefined && { input }),
      ...(onStart !== undefined && { onStart }),
    });
  }

  /** Same as `iptables-save -t TABLE`; empty when the table was never used. */
  async save(family: XtablesFamily, table: string): Promise<string> {
    const { backend } = await this.choice();
    if (backend === 'legacy' && !this.legacyTables(family).includes(table)) return '';
    const command = program(family, backend, 'save');
    const result = await this.#execute(command, ['-t', table]);
    if (result.code !== 0)
      throw new PodwireError('IPTABLES', `${command} -t ${table}: ${result.stderr.trim()}`);
    return result.stdout;
  }

  /** Same as `iptables-restore --noflush`: each table of the text is one transaction. */
  async restore(family: XtablesFamily, text: string, onStart?: (pid: number) => void): Promise<void> {
    const { backend } = await this.choice();
    const command = program(family, backend, 'restore');
    const wait = backend === 'legacy' ? ['-w', String(LOCK_WAIT_SECONDS)] : [];
    const result = await this.#execute(command, ['--noflush', ...wait], text, onStart);
    if (result.code !== 0)
      throw new PodwireError('IPTABLES', `${command}: ${explainFailure(result.stderr, text)}`);
  }

  /**
   * How many rules legacy iptables has in a table, and their size: two numbers by one getsockopt, where a dump costs
   * a program start. Undefined where the table does not exist.
   */
  legacyFingerprint(family: XtablesFamily, table: string): string | undefined {
    if (!this.legacyTables(family).includes(table)) return undefined;
    const ask = (): string | undefined => {
      const fd = sysSocket(family === 4 ? AF_INET : AF_INET6, SOCK_RAW, IPPROTO_RAW);
      try {
        const info = Buffer.alloc(GETINFO_BYTES);
        info.write(table, 'latin1');
        const got = tryGetsockopt(fd, family === 4 ? SOL_IP : SOL_IPV6, SO_GET_INFO, info);
        return got < GETINFO_BYTES ? undefined : `${info.readUInt32LE(76)}/${info.readUInt32LE(80)}`;
      } finally {
        sysClose(fd);
      }
    };
    return this.#options.netns === undefined ? ask() : this.#options.netns.run(ask);
  }
}

function program(family: XtablesFamily, backend: IptablesBackend, verb: 'save' | 'restore'): string {
  return `${family === 4 ? 'iptables' : 'ip6tables'}-${backend}-${verb}`;
}

/** The program names a line number; a person wants the line. */
function explainFailure(stderr: string, text: string): string {
  const said = stderr.trim();
  const number = /line:? (\d+)/.exec(said)?.[1];
  const line = number === undefined ? undefined : text.split('\n')[Number(number) - 1];
  return line === undefined ? said : `${said} (line ${number} is: ${line})`;
}
