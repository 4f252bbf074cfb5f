// iptables in batches: changes are one transaction for each table, whole tables are read at once.
// Legacy tables are read and written by xtables.ts, without a program; the program is asked for what that cannot write,
// and for the text of rules. Rules in nf_tables are iptables-nft-save's and iptables-nft-restore --noflush's, and cost a
// program start however few they are, so nothing here works rule by rule.
//
// Two programs of the same syntax write to different places in the kernel (legacy x_tables, and nf_tables), and rules
// in both at once confuse everybody. The choice is made once an instance: what the caller says; else the one that
// already holds rules in this namespace (legacy first, its tables only exist when somebody used them); else nft, which
// is the distributions' default and so what anybody else on the machine will use. Measured: nft takes minutes at
// 10,000 services where legacy takes seconds, so a big proxy may well want to say `legacy`.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { UnsupportedRule } from '../codec/xtables/option-reader.ts';
import {
  applyCommands,
  parseRestore,
  type TableCommands,
  writeRestore,
} from '../codec/xtables/transaction.ts';
import { errorMessage, KernelError, PodwireError } from '../lib/errors.ts';
import { type RunResult, run } from './exec.ts';
import type { Netns } from './netns.ts';
import { changeTable, LOCK_WAIT_SECONDS, readXtables, type XtablesPlace } from './xtables.ts';
import { encoderFor, XtablesCache, XtablesSocket } from './xtables-socket.ts';
import { RuleDigests, XtablesView } from './xtables-view.ts';

export type IptablesBackend = 'legacy' | 'nft';
export type XtablesFamily = 4 | 6;

export interface IptablesOptions {
  netns?: Netns;
  /** Where the lock file of legacy iptables goes, one a namespace; XTABLES_LOCKFILE of our environment unless told. */
  lockDirectory?: string;
  backend?: IptablesBackend;
  /** Told why a change of a legacy table went through the program after all. */
  onFallback?: (reason: string) => void;
}

export interface IptablesChoice {
  backend: IptablesBackend;
  reason: string;
}

const TIMEOUT_MS = 300_000;
export class Iptables {
  readonly #options: IptablesOptions;
  readonly #digests = new RuleDigests();
  readonly #cache = new XtablesCache();
  /** Tables whose last change went through the program, as `4 nat`. */
  readonly #byProgram = new Set<string>();
  #choice: Promise<IptablesChoice> | undefined;
  #working = 0;

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
      if (backend === 'legacy') {
        for (const table of this.legacyTables(family)) rules += await this.#countLegacy(family, table);
        continue;
      }
      const result = await this.#execute(program(family, backend, 'save'), []).catch(() => undefined);
      if (result?.code === 0) rules += result.stdout.match(/^-A /gm)?.length ?? 0;
    }
    return rules;
  }

  async #countLegacy(family: XtablesFamily, table: string): Promise<number> {
    const { netns } = this.#options;
    const read = await readXtables(netns === undefined ? {} : { netns }, family, table).then(
      found => found.table,
      () => undefined,
    );
    let rules = 0;
    if (read === undefined) return rules;
    for (let i = 0; i < read.chainCount; i++) rules += read.ruleCount(i);
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

  get #lockFile(): string | undefined {
    const { netns, lockDirectory } = this.#options;
    return lockDirectory === undefined
      ? process.env.XTABLES_LOCKFILE
      : join(lockDirectory, `xtables-${netns?.inode ?? 'own'}.lock`);
  }

  get #place(): XtablesPlace {
    const { netns } = this.#options;
    const lockFile = this.#lockFile;
    return {
      cache: this.#cache,
      ...(netns !== undefined && { netns }),
      ...(lockFile !== undefined && { lockFile }),
    };
  }

  #execute(
    command: string,
    args: string[],
    input?: string,
    onStart?: (pid: number) => void,
  ): Promise<RunResult> {
    const { netns } = this.#options;
    const lock = this.#lockFile;
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
    const tables = backend === 'legacy' ? this.#parse(text) : undefined;
    if (tables === undefined) await this.#restore(family, text, onStart);
    else for (const commands of tables) await this.change(family, commands, onStart);
  }

  #parse(text: string): TableCommands[] | undefined {
    try {
      return parseRestore(text);
    } catch (error) {
      if (!(error instanceof UnsupportedRule)) throw error;
      this.#options.onFallback?.(error.message);
      return undefined;
    }
  }

  /**
   * Does commands to a table in one transaction. Errors: LOCK_TIMEOUT, CHAIN_IN_USE and the like of editXtables; or
   * IPTABLES with what the program said. `onStart` is told the process that does it, when there is one.
   */
  async change(
    family: XtablesFamily,
    commands: TableCommands,
    onStart?: (pid: number) => void,
  ): Promise<void> {
    const { backend } = await this.choice();
    const name = `${family} ${commands.table}`;
    const reason = backend === 'legacy' ? await this.#changeLegacy(family, commands) : undefined;
    this.#byProgram.delete(name);
    if (backend === 'legacy' && reason === undefined) return;
    this.#byProgram.add(name);
    await this.#restore(family, writeRestore(commands), onStart);
    // The program's own complaint would have been thrown: it could do what we could not.
    if (reason !== undefined) this.#options.onFallback?.(reason);
  }

  /** Whether a legacy table is being read or written: whoever asks the kernel for one waits in it until that is done. */
  get isWorking(): boolean {
    return this.#working > 0;
  }

  async #work<T>(work: () => Promise<T>): Promise<T> {
    this.#working++;
    try {
      return await work();
    } finally {
      this.#working--;
    }
  }

  /** Whether the last change of a table was written without the program, so that `view` can tell it from others'. */
  writesNatively(family: XtablesFamily, table: string): boolean {
    return !this.#byProgram.has(`${family} ${table}`);
  }

  /** Why the program has to do it; undefined when it is done. */
  async #changeLegacy(
    family: XtablesFamily,
    { table, commands }: TableCommands,
  ): Promise<string | undefined> {
    try {
      await this.#work(() =>
        changeTable(this.#place, family, table, (edit, encoder) =>
          applyCommands(edit, encoder, commands, (rules, pieces) =>
            this.#digests.note(family, rules, pieces),
          ),
        ),
      );
      return undefined;
    } catch (error) {
      // The kernel refuses with a bare number; the program finds out which line it is.
      if (error instanceof UnsupportedRule || error instanceof KernelError) return errorMessage(error);
      throw error;
    }
  }

  async #restore(family: XtablesFamily, text: string, onStart?: (pid: number) => void): Promise<void> {
    const { backend } = await this.choice();
    const command = program(family, backend, 'restore');
    const wait = backend === 'legacy' ? ['-w', String(LOCK_WAIT_SECONDS)] : [];
    const result = await this.#execute(command, ['--noflush', ...wait], text, onStart);
    if (result.code !== 0)
      throw new PodwireError('IPTABLES', `${command}: ${explainFailure(result.stderr, text)}`);
  }

  /**
   * A legacy table as it is now; undefined where rules are kept in nf_tables, which only `save` shows. `isChain` tells
   * names of chains that may not be there yet from targets unknown here.
   */
  async view(
    family: XtablesFamily,
    table: string,
    isChain: (name: string) => boolean,
  ): Promise<XtablesView | undefined> {
    const { backend } = await this.choice();
    if (backend !== 'legacy') return undefined;
    if (!this.legacyTables(family).includes(table)) return new XtablesView(this.#digests);
    const { table: read } = await this.#work(() => readXtables(this.#place, family, table));
    this.#cache.lend(read);
    const encoder = encoderFor(family, name => read.indexOf(name) >= 0 || isChain(name));
    return new XtablesView(this.#digests, { table: read, encoder });
  }

  /**
   * How many rules legacy iptables has in a table, and their size: two numbers by one getsockopt. Undefined where the
   * table does not exist.
   */
  legacyFingerprint(family: XtablesFamily, table: string): string | undefined {
    if (!this.legacyTables(family).includes(table)) return undefined;
    using socket = XtablesSocket.open(family, this.#options.netns);
    const { entries, size } = socket.info(table);
    return `${entries}/${size}`;
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
