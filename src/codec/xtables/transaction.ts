// What iptables-restore --noflush is told, as data: the commands for one table, from and to its text. Pure.

import type { TableEdit } from './edit.ts';
import { VERDICT } from './layout.ts';
import { UnsupportedRule, unsupported } from './option-reader.ts';
import type { Piece, RuleEncoder } from './rule.ts';

export type TableCommand =
  /** Makes the chain, or empties it, and fills it. */
  | { kind: 'chain'; chain: string; rules: readonly string[] }
  /** Before the rule at `position` (from 1); at the end without one. */
  | { kind: 'add'; chain: string; rule: string; position?: number }
  | { kind: 'remove'; chain: string; rule: string }
  | { kind: 'flush'; chain: string }
  | { kind: 'delete-chain'; chain: string };

export interface TableCommands {
  table: string;
  commands: readonly TableCommand[];
}

const withRule = (chain: string, rule: string): string => (rule === '' ? chain : `${chain} ${rule}`);

/** The text for iptables-restore: chains are declared before anything leads to them. */
export function writeRestore({ table, commands }: TableCommands): string {
  const lines = [`*${table}`];
  for (const command of commands) if (command.kind === 'chain') lines.push(`:${command.chain} - [0:0]`);
  for (const command of commands) {
    const { chain } = command;
    if (command.kind === 'chain') for (const rule of command.rules) lines.push(`-A ${withRule(chain, rule)}`);
    else if (command.kind === 'remove') lines.push(`-D ${withRule(chain, command.rule)}`);
    else if (command.kind === 'flush') lines.push(`-F ${chain}`);
    else if (command.kind === 'delete-chain') lines.push(`-X ${chain}`);
    else if (command.position === undefined) lines.push(`-A ${withRule(chain, command.rule)}`);
    else lines.push(`-I ${chain} ${withRule(String(command.position), command.rule)}`);
  }
  return `${lines.join('\n')}\nCOMMIT\n`;
}

/** Reads such a text; throws UnsupportedRule for what it does not know. */
export function parseRestore(text: string): TableCommands[] {
  const tables: TableCommands[] = [];
  let current: { table: string; commands: TableCommand[] } | undefined;
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    if (line.startsWith('*')) {
      current = { table: line.slice(1).trim(), commands: [] };
      continue;
    }
    if (current === undefined) unsupported(`the line ${line} outside of a table`);
    if (line === 'COMMIT') {
      tables.push(current);
      current = undefined;
    } else current.commands.push(parseLine(line));
  }
  if (current !== undefined) unsupported(`table ${current.table} without COMMIT`);
  return tables;
}

function parseLine(line: string): TableCommand {
  const [first = '', second = '', third = ''] = line.split(' ', 3);
  if (first.startsWith(':')) {
    if (second !== '-') unsupported(`the policy in ${line}`);
    return { kind: 'chain', chain: first.slice(1), rules: [] };
  }
  const rule = line.slice(first.length + second.length + 2);
  const chain = second;
  if (chain === '') unsupported(`the line ${line}`);
  if (first === '-A') return { kind: 'add', chain, rule };
  if (first === '-D' && !/^\d+$/.test(rule)) return { kind: 'remove', chain, rule };
  if (first === '-F') return { kind: 'flush', chain };
  if (first === '-X') return { kind: 'delete-chain', chain };
  if (first === '-N') return { kind: 'chain', chain, rules: [] };
  if (first !== '-I') unsupported(`the line ${line}`);
  const position = /^[1-9]\d*$/.test(third) ? Number(third) : undefined;
  return {
    kind: 'add',
    chain,
    rule: position === undefined ? rule : rule.slice(third.length + 1),
    position: position ?? 1,
  };
}

/**
 * Does commands to a table. `onRules` gets what was written for each list of rules. A rule that cannot be written names
 * itself in the error.
 */
export function applyCommands(
  edit: TableEdit,
  encoder: RuleEncoder,
  commands: readonly TableCommand[],
  onRules?: (rules: readonly string[], pieces: readonly Piece[]) => void,
): void {
  for (const command of commands) {
    if (command.kind !== 'chain') continue;
    if (Object.hasOwn(VERDICT, command.chain)) unsupported(`a chain called ${command.chain}`);
    if (!edit.addChain(command.chain)) edit.flushChain(command.chain);
  }
  for (const command of commands) {
    const { chain } = command;
    if (command.kind === 'chain') {
      const pieces = command.rules.map(rule => encode(encoder, chain, rule));
      for (const piece of pieces) edit.insertRule(chain, piece);
      onRules?.(command.rules, pieces);
    } else if (command.kind === 'add') {
      const index = command.position === undefined ? undefined : command.position - 1;
      edit.insertRule(chain, encode(encoder, chain, command.rule), index);
    } else if (command.kind === 'remove') {
      const index = edit.findRule(chain, encode(encoder, chain, command.rule));
      // Perhaps it is there in another form, by an extension's older revision: iptables knows more forms than we do.
      if (index < 0) unsupported(`-D ${withRule(chain, command.rule)}: there is no such rule`);
      edit.removeRuleAt(chain, index);
    } else if (command.kind === 'flush') edit.flushChain(chain);
    else edit.deleteChain(chain);
  }
}

export function encode(encoder: RuleEncoder, chain: string, rule: string): Piece {
  try {
    return encoder.encode(rule);
  } catch (error) {
    if (!(error instanceof UnsupportedRule)) throw error;
    throw new UnsupportedRule(`${error.message} (rule -A ${withRule(chain, rule)})`);
  }
}
