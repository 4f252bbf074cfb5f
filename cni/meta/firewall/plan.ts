// The firewall plugin's iptables rules: chains and rules of the reference (plugins/meta/firewall); each pod's carry its
// owner as a comment besides, so DEL and GC need no earlier result. Works on a table that was read, changes nothing itself.
import { formatIp } from '../../../src/lib/ip.ts';
import { commentMatch, type FoundRule, type IptablesTable } from '../../iptables/table.ts';
import type { PodFirewall } from './config.ts';

const FORWARD = 'CNI-FORWARD';
const STAGE1 = 'CNI-ISOLATION-STAGE-1';
const STAGE2 = 'CNI-ISOLATION-STAGE-2';
const OWNER_PREFIX = 'podwire:';
const NAME = 'CNI firewall plugin';
const ISOLATION_COMMENT = commentMatch(`${NAME} rules (ingressPolicy: same-bridge|isolated)`);

type Address = Pick<PodFirewall, 'family' | 'address'>;

/** The two rules of each address; without an owner in the reference's form. */
function podRules(pods: readonly Address[], owner?: string): string[] {
  const mark = owner === undefined ? '' : `${commentMatch(`${OWNER_PREFIX}${owner}`)} `;
  return pods.flatMap(({ family, address }) => {
    const host = `${formatIp(address)}/${family === 4 ? 32 : 128}`;
    return [
      `-d ${host} ${mark}-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
      `-s ${host} ${mark}-j ACCEPT`,
    ];
  });
}

/** Per bridge in the first stage, in the order in which they must be put before the others; and in the second. */
function isolationRules(isolation: NonNullable<PodFirewall['isolation']>): {
  first: string[];
  second: string;
} {
  const { bridge, policy } = isolation;
  const comment = commentMatch(`${NAME} rules (ingressPolicy: ${policy})`);
  return {
    first: [
      `-i ${bridge} ! -o ${bridge} ${comment} -j ${STAGE2}`,
      ...(policy === 'isolated' ? [`-i ${bridge} -o ${bridge} ${comment} -j DROP`] : []),
    ],
    second: `-o ${bridge} ${ISOLATION_COMMENT} -j DROP`,
  };
}

const leadsTo =
  (chain: string) =>
  (rule: FoundRule): boolean =>
    rule.target === chain;

/** Adds what is missing for pods of the table's family. */
export function applyFirewall(
  table: IptablesTable,
  pods: readonly PodFirewall[],
  owner: string,
  adminChain: string,
): void {
  table.ensureChain(FORWARD);
  table.ensureChain(adminChain);
  if (!table.rules('FORWARD').some(leadsTo(FORWARD))) {
    table.prepend('FORWARD', `${commentMatch(`${NAME} rules`)} -j ${FORWARD}`);
    // What keeps bridges apart comes before what lets pods through.
    const isolating = table.rules('FORWARD').some(leadsTo(STAGE1));
    if (isolating) table.removeWhere('FORWARD', leadsTo(STAGE1));
    if (isolating) enterIsolation(table);
  }
  if (!table.rules(FORWARD).some(leadsTo(adminChain)))
    table.prepend(FORWARD, `${commentMatch(`${NAME} admin overrides`)} -j ${adminChain}`);
  for (const rule of podRules(pods, owner)) table.append(FORWARD, rule);
  for (const { isolation } of pods) if (isolation !== undefined) applyIsolation(table, isolation);
}

function enterIsolation(table: IptablesTable): void {
  table.prepend('FORWARD', `${ISOLATION_COMMENT} -j ${STAGE1}`);
}

function applyIsolation(table: IptablesTable, isolation: NonNullable<PodFirewall['isolation']>): void {
  table.ensureChain(STAGE1);
  table.ensureChain(STAGE2);
  if (!table.rules('FORWARD').some(leadsTo(STAGE1))) enterIsolation(table);
  const { first, second } = isolationRules(isolation);
  for (const rule of first) table.prepend(STAGE1, rule);
  table.prepend(STAGE2, second);
  for (const stage of [STAGE1, STAGE2]) table.append(stage, `${ISOLATION_COMMENT} -j RETURN`);
}

/** Removes the rules of the chosen owners, and those of `addresses` in the reference's form. */
export function removeFirewall(
  table: IptablesTable,
  chosen: (owner: string) => boolean,
  addresses: readonly Address[] = [],
): void {
  table.removeWhere(FORWARD, ({ comment }) => {
    const owner = comment?.startsWith(OWNER_PREFIX) ? comment.slice(OWNER_PREFIX.length) : undefined;
    return owner !== undefined && chosen(owner);
  });
  for (const rule of podRules(addresses.filter(one => one.family === table.family)))
    table.remove(FORWARD, rule);
}

/** CHECK: a rule that is missing, with its chain. */
export function missingRule(
  table: IptablesTable,
  pods: readonly PodFirewall[],
  owner: string,
  adminChain: string,
): string | undefined {
  if (!table.rules('FORWARD').some(leadsTo(FORWARD))) return `FORWARD -j ${FORWARD}`;
  if (!table.rules(FORWARD).some(leadsTo(adminChain))) return `${FORWARD} -j ${adminChain}`;
  const lost = podRules(pods, owner).find(rule => !table.hasRule(FORWARD, rule));
  if (lost !== undefined) return `${FORWARD} ${lost}`;
  for (const { isolation } of pods) {
    const missing = isolation && missingIsolation(table, isolation);
    if (missing !== undefined) return missing;
  }
  return undefined;
}

function missingIsolation(
  table: IptablesTable,
  isolation: NonNullable<PodFirewall['isolation']>,
): string | undefined {
  if (!table.rules('FORWARD').some(leadsTo(STAGE1))) return `FORWARD -j ${STAGE1}`;
  if (!table.hasChain(STAGE2)) return STAGE2;
  const { first, second } = isolationRules(isolation);
  const lost = first.find(rule => !table.hasRule(STAGE1, rule));
  if (lost !== undefined) return `${STAGE1} ${lost}`;
  return table.hasRule(STAGE2, second) ? undefined : `${STAGE2} ${second}`;
}
