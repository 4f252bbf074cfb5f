// The tables of legacy iptables without its programs: the same socket options that libiptc uses, the same lock.
//
//   const added = await editXtables({ netns }, 4, 'nat', edit => {
//     edit.ensureChain('MINE');
//     edit.append('MINE', '-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080');
//     return edit.insert('PREROUTING', '-m comment --comment "my port" -j MINE');
//   });
//
// Rules are written as `iptables -A` and iptables-save have them, without the command and the chain. What this cannot
// write for certain is refused with the code XTABLES_UNSUPPORTED before anything is changed; the caller then asks
// iptables-restore (Iptables.change does). Rules of others are kept as the bytes they are, with their counters.
//
// A table is always replaced as a whole: the kernel knows nothing smaller. It is read under the lock right before, so
// that nobody's change is lost; measured at 290,000 entries (10,000 Services with 5 endpoints): reading takes the kernel
// 0.17 s, replacing 0.43 s. Both run in a thread, this process goes on.

import { TableEdit } from '../codec/xtables/edit.ts';
import type { XtablesFamily } from '../codec/xtables/layout.ts';
import type { RuleEncoder } from '../codec/xtables/rule.ts';
import type { XtTable } from '../codec/xtables/table.ts';
import { encode } from '../codec/xtables/transaction.ts';
import { hasCode, PodwireError } from '../lib/errors.ts';
import { FileLock } from './file-lock.ts';
import type { Netns } from './netns.ts';
import { ATTEMPTS, encoderFor, type XtablesCache, XtablesSocket } from './xtables-socket.ts';

export interface XtablesPlace {
  netns?: Netns;
  /** What iptables locks: XTABLES_LOCKFILE of our environment, else /run/xtables.lock, unless told. */
  lockFile?: string;
  /** How long to wait for it; 10 s unless told. */
  lockWaitMs?: number;
  /** Makes the second and later times cheaper; one for one namespace. */
  cache?: XtablesCache;
}

const DEFAULT_LOCK_FILE = '/run/xtables.lock';
export const LOCK_WAIT_SECONDS = 10;

/** What a caller of editXtables can do. Chains are made and rules found as they are at that moment of the edit. */
export class XtablesEditor {
  readonly #edit: TableEdit;
  readonly #encoder: RuleEncoder;

  constructor(edit: TableEdit, encoder: RuleEncoder) {
    this.#edit = edit;
    this.#encoder = encoder;
  }

  get chains(): string[] {
    return this.#edit.chainNames();
  }

  hasChain(chain: string): boolean {
    return this.#edit.hasChain(chain);
  }

  /** False for a chain that is not there. */
  hasRule(chain: string, rule: string): boolean {
    return this.hasChain(chain) && this.#find(chain, rule) >= 0;
  }

  ruleCount(chain: string): number {
    return this.#edit.rules(chain).length;
  }

  /** For each rule of a chain where it leads; undefined for those that lead to no chain. */
  jumps(chain: string): (string | undefined)[] {
    return this.#edit.rules(chain).map(rule => rule.jump || undefined);
  }

  /** False when it was there. */
  ensureChain(chain: string): boolean {
    return this.#edit.addChain(chain);
  }

  /** Makes the chain if need be; it holds these rules and nothing else. */
  setChain(chain: string, rules: readonly string[]): void {
    if (!this.#edit.addChain(chain)) this.#edit.flushChain(chain);
    for (const rule of rules) this.#edit.insertRule(chain, encode(this.#encoder, chain, rule));
  }

  /** Adds a rule at the end unless the chain has it somewhere; false when it has. */
  append(chain: string, rule: string): boolean {
    return this.#add(chain, rule, undefined);
  }

  /** Adds a rule at a position (from 1, the front unless told) unless the chain has it somewhere; false when it has. */
  insert(chain: string, rule: string, position = 1): boolean {
    return this.#add(chain, rule, position - 1);
  }

  /** Takes every copy of a rule away; false when there was none, or no such chain. */
  remove(chain: string, rule: string): boolean {
    if (!this.hasChain(chain)) return false;
    let found = false;
    for (let index = this.#find(chain, rule); index >= 0; index = this.#find(chain, rule)) {
      this.#edit.removeRuleAt(chain, index);
      found = true;
    }
    return found;
  }

  /** Empties and deletes a chain, and takes away the rules of `from` (built-in chains unless told) that lead to it. */
  deleteChain(chain: string, from?: readonly string[]): boolean {
    if (!this.hasChain(chain)) return false;
    for (const name of from ?? this.#builtIn) if (this.hasChain(name)) this.#removeJumps(name, chain);
    this.#edit.flushChain(chain);
    this.#edit.deleteChain(chain);
    return true;
  }

  get #builtIn(): string[] {
    const { names, hooks } = this.#edit.table.columns;
    return names.filter((_, i) => hooks[i]! >= 0);
  }

  #removeJumps(name: string, target: string): void {
    for (let i = this.ruleCount(name) - 1; i >= 0; i--)
      if (this.#edit.rules(name)[i]!.jump === target) this.#edit.removeRuleAt(name, i);
  }

  #find(chain: string, rule: string): number {
    return this.#edit.findRule(chain, encode(this.#encoder, chain, rule));
  }

  #add(chain: string, rule: string, index: number | undefined): boolean {
    const piece = encode(this.#encoder, chain, rule);
    if (this.#edit.findRule(chain, piece) >= 0) return false;
    this.#edit.insertRule(chain, piece, index);
    return true;
  }
}

/**
 * Reads a table under the lock, lets `edit` change it, and writes it when it was changed. `edit` is synchronous and is
 * called again when somebody who takes no lock was faster. Errors: XTABLES_UNSUPPORTED (see above), LOCK_TIMEOUT,
 * NO_CHAIN, NO_RULE, CHAIN_IN_USE and others of TableEdit, or the kernel's (EINVAL for a rule that does not fit its
 * table, ELOOP for chains in a circle, EPERM). A table that was never used is made.
 */
export function editXtables<T>(
  place: XtablesPlace,
  family: XtablesFamily,
  table: string,
  edit: (editor: XtablesEditor) => T,
): Promise<T> {
  return changeTable(place, family, table, (draft, encoder) => edit(new XtablesEditor(draft, encoder)));
}

/** editXtables on the codec's own terms. */
export async function changeTable<T>(
  place: XtablesPlace,
  family: XtablesFamily,
  table: string,
  change: (edit: TableEdit, encoder: RuleEncoder) => T,
): Promise<T> {
  using _lock = await takeLock(place);
  using socket = XtablesSocket.open(family, place.netns);
  for (let attempt = 1; ; attempt++) {
    const found = await readInto(place, socket, table);
    const edit = new TableEdit(found);
    const result = change(
      edit,
      encoderFor(family, name => edit.hasChain(name)),
    );
    if (!edit.changed) return result;
    const laidOut = edit.layOut(size => place.cache?.take(size) ?? Buffer.allocUnsafeSlow(size));
    if (await socket.replace(found, laidOut)) {
      place.cache?.keep(laidOut.table);
      return result;
    }
    if (attempt === ATTEMPTS)
      throw new PodwireError('EAGAIN', `table ${table} is changed all the time by somebody without the lock`);
  }
}

/** The table as it is, and a writer of rules for it; no lock is needed to look. A table that was never used is made. */
export async function readXtables(
  place: XtablesPlace,
  family: XtablesFamily,
  table: string,
): Promise<{ table: XtTable; encoder: RuleEncoder }> {
  using socket = XtablesSocket.open(family, place.netns);
  const found = await readInto(place, socket, table);
  return { table: found, encoder: encoderFor(family, name => found.indexOf(name) >= 0) };
}

async function readInto({ cache }: XtablesPlace, socket: XtablesSocket, table: string): Promise<XtTable> {
  const found = await socket.read(table, cache);
  cache?.keep(found);
  return found;
}

async function takeLock(place: XtablesPlace): Promise<FileLock> {
  const path = place.lockFile ?? process.env.XTABLES_LOCKFILE ?? DEFAULT_LOCK_FILE;
  const waitMs = place.lockWaitMs ?? LOCK_WAIT_SECONDS * 1000;
  try {
    return await FileLock.acquire(path, AbortSignal.timeout(waitMs));
  } catch (error) {
    if (!hasCode(error, 'LOCK_TIMEOUT')) throw error;
    throw new PodwireError(
      'LOCK_TIMEOUT',
      `another program has held the xtables lock ${path} for ${waitMs / 1000} seconds`,
      { cause: error },
    );
  }
}
