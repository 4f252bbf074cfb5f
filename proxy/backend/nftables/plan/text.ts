// A planned table as nft prints it: for people, for golden files, and to load with `nft -f` the very rules that the
// backend loads over netlink. Pure.
import { formatIp } from '../../../../src/lib/ip.ts';
import { LAYOUT, SET, TABLE } from './names.ts';
import type { ChainPlan, Family, FieldType, Operand, Rule, SetPlan, Statement, TablePlan } from './state.ts';

function ipName(family: Family): string {
  return family === 4 ? 'ip' : 'ip6';
}

function operand(family: Family, field: Operand): string {
  switch (field) {
    case 'saddr':
    case 'daddr':
      return `${ipName(family)} ${field}`;
    case 'protocol':
      return 'meta l4proto';
    case 'dport':
      return 'th dport';
  }
}

function keyText(family: Family, key: readonly Operand[]): string {
  return key.map(field => operand(family, field)).join(' . ');
}

function hex(mark: number): string {
  return `0x${mark.toString(16).padStart(8, '0')}`;
}

export function formatStatement(family: Family, statement: Statement): string {
  const not = 'not' in statement && statement.not ? '!= ' : '';
  switch (statement.is) {
    case 'address':
      return `${operand(family, statement.field)} ${not}${statement.cidr}`;
    case 'interface':
      return `iifname ${not}"${statement.name}"`;
    case 'protocol':
      return `meta l4proto ${statement.protocol}`;
    case 'new':
      return 'ct state new';
    case 'translated':
      return 'ct status dnat';
    case 'local':
      return `fib ${statement.field} type local`;
    case 'marked':
      return `meta mark & ${hex(statement.mark)} != 0x00000000`;
    case 'in':
      return `${keyText(family, statement.key)} @${statement.set}`;
    case 'vmap':
      return `${keyText(family, statement.key)} vmap @${statement.map}`;
    case 'random-vmap':
      return `numgen random mod ${statement.below} vmap @${statement.map}`;
    case 'dnat-map':
      return `dnat ${ipName(family)} to ${keyText(family, statement.key)} map @${statement.map}`;
    case 'dnat-random':
      return `dnat ${ipName(family)} to numgen random mod ${statement.below} map @${statement.map}`;
    case 'recall':
    case 'assign':
      return formatSticky(family, statement);
    case 'mark':
      return `meta mark set meta mark | ${hex(statement.mark)}`;
    case 'unmark':
      return `meta mark set meta mark ^ ${hex(statement.mark)}`;
    case 'reject':
      return statement.how === 'reset' ? 'reject with tcp reset' : 'reject';
    case 'masquerade':
      return statement.fullyRandom ? 'masquerade fully-random' : 'masquerade';
    case 'verdict':
      return statement.verdict;
  }
}

/** What the rule does; nft itself has no words for a lookup in what another lookup found. */
function formatSticky(family: Family, statement: Statement & { is: 'recall' | 'assign' }): string {
  const { sets, seconds, key } = statement;
  const service = `(${keyText(family, key)} map @${sets.services})`;
  const client = `${service} . ${operand(family, 'saddr')}`;
  const dnat = `dnat ${ipName(family)} to`;
  const remember = seconds === undefined ? '' : ` update @${SET.affinity} { ${client} timeout ${seconds}s }`;
  if (statement.is === 'recall')
    return `${dnat} ${client} map @${SET.affinity} if in @${sets.endpoints}${remember}`;
  const number = statement.below === undefined ? '0' : `numgen random mod ${statement.below}`;
  return `${dnat} ${service} . ${number} map @${sets.picks}${remember}`;
}

/** False for what only netlink can load. */
function isText(rule: Rule): boolean {
  return rule.every(({ is }) => is !== 'recall' && is !== 'assign');
}

export function formatRule(family: Family, rule: Rule): string {
  return rule.map(statement => formatStatement(family, statement)).join(' ');
}

const PROTOCOLS: Record<number, string> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

/** The fields of a concatenation, which are padded to four bytes. */
function formatFields(types: readonly FieldType[], bytes: string): string {
  let at = 0;
  return types
    .map(type => {
      const size = type === 'ipv6_addr' ? 16 : 4;
      const field = Buffer.from(bytes.slice(at, at + size), 'latin1');
      at += size;
      if (type === 'mark') return `0x${field.readUInt32LE(0).toString(16).padStart(8, '0')}`;
      if (type === 'inet_proto') return PROTOCOLS[field[0]!] ?? String(field[0]);
      return type === 'inet_service' ? String(field.readUInt16BE(0)) : formatIp(field);
    })
    .join(' . ');
}

export function formatKey(set: SetPlan, key: string): string {
  if (set.key === 'random') return String(Buffer.from(key, 'latin1').readUInt32LE(0));
  return formatFields(set.key, key);
}

export function formatElement(set: SetPlan, key: string, data: string): string {
  if (set.data === undefined) return formatKey(set, key);
  return `${formatKey(set, key)} : ${set.data === 'verdict' ? data : formatFields(set.data, data)}`;
}

function formatSet(family: Family, set: SetPlan): string {
  const types = (list: readonly FieldType[]): string => list.join(' . ');
  const data = set.data === undefined || set.data === 'verdict' ? set.data : types(set.data);
  const key =
    set.key === 'random'
      ? `typeof numgen random mod 2${set.data === 'verdict' ? ' : verdict' : ` : ${ipName(family)} daddr . th dport`}`
      : `type ${types(set.key)}${data === undefined ? '' : ` : ${data}`}`;
  const flags = set.dynamic
    ? ` flags dynamic,timeout;${set.size === undefined ? '' : ` size ${set.size};`}`
    : '';
  return `${set.data === undefined ? 'set' : 'map'} ${ipName(family)} ${TABLE} ${set.name} { ${key};${flags} }`;
}

function formatChain(family: Family, chain: ChainPlan): string {
  const { hook } = chain;
  const type = hook
    ? ` { type ${hook.type} hook ${hook.hook} priority ${hook.priority}; policy accept; }`
    : '';
  return `chain ${ipName(family)} ${TABLE} ${chain.name}${type}`;
}

const ELEMENTS_PER_LINE = 500;

/** Commands that make the table, in the order in which the backend makes it; what nft cannot say is a comment. */
export function formatTable(plan: TablePlan): string {
  const { family } = plan;
  const ip = ipName(family);
  const lines = [`add table ${ip} ${TABLE} { comment "${LAYOUT}"; }`];
  for (const set of plan.sets.values()) lines.push(`add ${formatSet(family, set)}`);
  const chains = [...plan.chains.values()].sort(
    (a, b) => Number(a.hook !== undefined) - Number(b.hook !== undefined),
  );
  const inner = chains.filter(chain => !chain.hook);
  for (const chain of inner) lines.push(`add ${formatChain(family, chain)}`);
  const rules = (list: readonly ChainPlan[]): void => {
    for (const chain of list)
      for (const rule of chain.rules)
        lines.push(
          `${isText(rule) ? '' : '# '}add rule ${ip} ${TABLE} ${chain.name} ${formatRule(family, rule)}`,
        );
  };
  rules(inner);
  for (const [name, elements] of plan.elements) {
    const set = plan.sets.get(name);
    const texts = set ? [...elements].map(([key, data]) => formatElement(set, key, data)) : [];
    for (let i = 0; i < texts.length; i += ELEMENTS_PER_LINE)
      lines.push(
        `add element ${ip} ${TABLE} ${name} { ${texts.slice(i, i + ELEMENTS_PER_LINE).join(', ')} }`,
      );
  }
  const hooks = chains.filter(chain => chain.hook);
  for (const chain of hooks) lines.push(`add ${formatChain(family, chain)}`);
  rules(hooks);
  return `${lines.join('\n')}\n`;
}
