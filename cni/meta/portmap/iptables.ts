// portmap's iptables backend: a pod's chains in the host's iptables, in one transaction a family, without its programs.
import type { Cidr } from '../../../src/lib/cidr.ts';
import { CniError, errorMessage, hasCode } from '../../../src/lib/errors.ts';
import { HOSTPORT_CHAIN, hostPortChainName, orphanChainTest } from '../../iptables/chain-names.ts';
import { changeIptables, readIptables, removeFromIptables } from '../../iptables/host.ts';
import type { FoundRule, IptablesTable } from '../../iptables/table.ts';
import { gone } from '../../link/pod-interface.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
import type { Attachment, Call } from '../../runtime/plugin.ts';
import { type PortmapConfig, PROTOCOLS } from './config.ts';
import { conditionText, forbiddenWord, type PortChainPlan, planPortChains } from './iptables-plan.ts';
import { entryPorts, hasConditions, holderOf, translates } from './iptables-ports.ts';
import type { HostPort } from './udp-flows.ts';

function plans(call: Call, config: PortmapConfig, pods: readonly Cidr[]): PortChainPlan[] {
  return pods
    .map(pod => planPortChains(config, call.networkName, call.containerId, pod))
    .filter(plan => plan.mappings.length > 0);
}

export async function addPortChains(
  call: Call,
  config: PortmapConfig,
  pods: readonly Cidr[],
): Promise<HostPort[]> {
  const all = plans(call, config, pods);
  try {
    for (const plan of all)
      await changeIptables(call, plan.family, 'nat', table => {
        checkConditions(table, config);
        checkMarkChain(table, config);
        if (config.conditions[plan.family].length === 0) refuseTaken(table, plan);
        applyPlan(table, plan);
      });
  } catch (error) {
    // One family may be done when the other cannot be; the first error is the one to tell.
    await delPortChains(call).catch(() => {});
    throw unfitting(error, config);
  }
  return all.flatMap(({ family, mappings }) =>
    mappings.filter(one => one.protocol === 'udp').map(one => ({ family, port: one.hostPort })),
  );
}

/** Code 7 with the field and what cannot be understood, before anything is changed. */
function checkConditions(table: IptablesTable, config: PortmapConfig): void {
  const words = config.conditions[table.family];
  const field = `conditionsV${table.family}`;
  const forbidden = forbiddenWord(words);
  if (forbidden !== undefined)
    throw configError(`cannot parse ${field} at ${JSON.stringify(forbidden)}`, 'the plugin sets that itself');
  try {
    table.checkRule(`-p tcp${conditionText(words, 'tcp')}`);
  } catch (cause) {
    if (!hasCode(cause, 'XTABLES_UNSUPPORTED')) throw cause;
    throw configError(`cannot parse ${field}: ${errorMessage(cause)}`, words.join(' '));
  }
}

/** A match that is understood but does not fit the port's protocol, `-m tcp` for a UDP port, is the kernel's to refuse. */
function unfitting(error: unknown, { conditions }: PortmapConfig): unknown {
  const fields = ([4, 6] as const).filter(family => conditions[family].length > 0);
  if (!hasCode(error, 'EINVAL') || fields.length === 0) return error;
  const names = fields.map(family => `conditionsV${family}`).join(' or ');
  return configError(
    `the kernel refuses ${names}`,
    `${fields.map(family => conditions[family].join(' ')).join('; ')}: ${errorMessage(error)}`,
  );
}

function checkMarkChain(table: IptablesTable, { snat, externalSetMarkChain }: PortmapConfig): void {
  if (!snat || externalSetMarkChain === undefined || table.hasChain(externalSetMarkChain)) return;
  throw new CniError(
    CNI_ERROR.TRY_AGAIN_LATER,
    `externalSetMarkChain ${externalSetMarkChain} is not there`,
    `in the IPv${table.family} nat table of the host's iptables`,
  );
}

/** A port without conditions can lead to one pod only. */
function refuseTaken(table: IptablesTable, plan: PortChainPlan): void {
  const { family } = plan;
  for (const rule of table.rules(HOSTPORT_CHAIN)) {
    if (rule.target === undefined || rule.target === plan.chain || hasConditions(rule.piece, family))
      continue;
    const { protocol, ports } = entryPorts(rule.piece, family);
    for (const mapping of plan.mappings) {
      if (PROTOCOLS[mapping.protocol] !== protocol || !ports.includes(mapping.hostPort)) continue;
      if (table.rules(rule.target).some(({ piece }) => translates(piece, family, mapping)))
        throw new CniError(
          CNI_ERROR.INTERNAL,
          `host port ${mapping.hostPort}/${mapping.protocol} is already taken`,
          `by ${holderOf(rule.piece, family)}`,
        );
    }
  }
}

function applyPlan(table: IptablesTable, plan: PortChainPlan): void {
  for (const { chain, rules } of plan.shared) {
    table.ensureChain(chain);
    for (const rule of rules) table.append(chain, rule);
  }
  for (const { chain, rule, place } of plan.jumps)
    if (place === 'first') table.prepend(chain, rule);
    else table.append(chain, rule);
  table.setChain(plan.chain, plan.rules);
  // Of an ADD that was broken off, perhaps with other ports.
  table.removeWhere(HOSTPORT_CHAIN, rule => rule.target === plan.chain);
  for (const rule of plan.entries) table.append(HOSTPORT_CHAIN, rule);
}

export async function checkPortChains(
  call: Call,
  config: PortmapConfig,
  pods: readonly Cidr[],
): Promise<void> {
  for (const plan of plans(call, config, pods)) {
    const missing = await readIptables(call, plan.family, 'nat', table => missingRule(table, plan));
    if (missing !== undefined) throw gone(`iptables rule -A ${missing} is missing`);
  }
}

function missingRule(table: IptablesTable, plan: PortChainPlan): string | undefined {
  const wanted: [chain: string, rule: string][] = [
    ...plan.rules.map(rule => [plan.chain, rule] as [string, string]),
    ...plan.entries.map(rule => [HOSTPORT_CHAIN, rule] as [string, string]),
    ...plan.jumps.map(({ chain, rule }) => [chain, rule] as [string, string]),
    ...plan.shared.flatMap(({ chain, rules }) => rules.map(rule => [chain, rule] as [string, string])),
  ];
  // A rule that leads to a chain which is gone cannot even be written down.
  const chains = [plan.chain, ...plan.shared.map(one => one.chain)];
  const lost = chains.find(chain => !table.hasChain(chain));
  if (lost !== undefined) return lost;
  return wanted.find(([chain, rule]) => !table.hasRule(chain, rule))?.join(' ');
}

/** Returns the UDP ports that led to what was removed. */
export async function delPortChains(call: Call): Promise<HostPort[]> {
  const chain = hostPortChainName(call.networkName, call.containerId);
  return removeChains(call, rule => rule.target === chain, [chain]);
}

export async function collectPortChains(call: Call, valid: readonly Attachment[]): Promise<HostPort[]> {
  return removeChains(call, orphanChainTest(call.networkName, valid, hostPortChainName));
}

async function removeChains(
  call: Call,
  chosen: (rule: FoundRule) => boolean,
  also: readonly string[] = [],
): Promise<HostPort[]> {
  const udp: HostPort[] = [];
  await removeFromIptables(call, 'nat', table => {
    const { family } = table;
    const entries = table.rules(HOSTPORT_CHAIN).filter(chosen);
    for (const { piece } of entries) {
      const { protocol, ports } = entryPorts(piece, family);
      if (protocol === PROTOCOLS.udp) udp.push(...ports.map(port => ({ family, port })));
    }
    const chains = new Set([...also, ...entries.flatMap(rule => rule.target ?? [])]);
    for (const chain of chains) if (table.hasChain(chain)) table.removeChain(chain, [HOSTPORT_CHAIN]);
  });
  return udp;
}
