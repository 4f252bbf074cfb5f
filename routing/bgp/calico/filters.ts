// BGPFilter rules as policy statements (confd/pkg/resource/template/template_funcs.go says what they mean): rules in
// order, first match decides, no match goes on to the next filter. A rule that cannot be understood is a problem of
// its filter and is left out; an export rule left out must not widen what is announced, so it becomes a rejection.
import { type Cidr, parseCidr } from '../../../src/lib/cidr.ts';
import { errorMessage, PodwireError } from '../../../src/lib/errors.ts';
import type { Problem } from '../../../src/lib/problem.ts';
import {
  type Changes,
  type Match,
  type PrefixMatch,
  parseCommunity,
  parseLargeCommunity,
  type Statement,
} from '../policy/policy.ts';
import { parseAsNumber, userMetadata } from './names.ts';
import { priorityToLocalPref } from './priority.ts';
import type { BGPFilter, BGPFilterRule } from './types.ts';

type Direction = 'import' | 'export';

/** The statements of a list of filters by name, in that order. */
export function filterStatements(
  names: readonly string[],
  filters: ReadonlyMap<string, BGPFilter>,
  direction: Direction,
  owner: { kind: string; name: string },
  problems: Problem[],
): Statement[] {
  const statements: Statement[] = [];
  for (const name of names) {
    const filter = filters.get(name);
    if (filter === undefined) {
      problems.push({
        ...owner,
        reason: 'FilterNotFound',
        message: `filter ${name} does not exist; nothing passes in its place until it does`,
      });
      statements.push({ name: `missing filter ${name}`, match: {}, action: 'reject' });
      continue;
    }
    for (const family of [4, 6] as const)
      statements.push(...familyStatements(filter, family, direction, problems));
  }
  return statements;
}

function familyStatements(
  filter: BGPFilter,
  family: 4 | 6,
  direction: Direction,
  problems: Problem[],
): Statement[] {
  const { name } = userMetadata(filter);
  const key = `${direction}V${family}` as const;
  return (filter.spec?.[key] ?? []).map((rule, index) => {
    const title = `filter ${name} ${key}[${index}]`;
    try {
      return ruleStatement(rule, family, title);
    } catch (error) {
      problems.push({
        kind: 'BGPFilter',
        name,
        reason: 'InvalidRule',
        message: `${key}[${index}]: ${errorMessage(error)}`,
      });
      return { name: `${title} (invalid)`, match: { families: [family] }, action: 'reject' as const };
    }
  });
}

const invalid = (message: string): PodwireError => new PodwireError('INVALID_RULE', message);

function ruleStatement(rule: BGPFilterRule, family: 4 | 6, name: string): Statement {
  const match: Match = {
    families: [family],
    ...prefixes(rule, family),
    ...(rule.source === 'RemotePeers' ? { from: ['internal', 'external'] as const } : {}),
    ...(rule.interface === undefined ? {} : { link: rule.interface }),
    ...(rule.peerType === undefined
      ? {}
      : { peerKind: rule.peerType === 'eBGP' ? ('external' as const) : ('internal' as const) }),
    ...communityMatch(rule),
    ...(rule.asPathPrefix === undefined
      ? {}
      : { asPathPrefix: rule.asPathPrefix.map(asn => requireAs(asn)) }),
    ...(rule.priority === undefined ? {} : { localPref: exactly(priorityToLocalPref(rule.priority)) }),
  };
  if (rule.action === 'Reject') return { name, match, action: 'reject' };
  if (rule.action !== 'Accept')
    throw invalid(`action ${JSON.stringify(rule.action)} is neither Accept nor Reject`);
  const set = operations(rule);
  return { name, match, action: 'accept', ...(set === undefined ? {} : { set }) };
}

const exactly = (value: number): { min: number; max: number } => ({ min: value, max: value });

function requireAs(value: string | number): number {
  const asn = parseAsNumber(value);
  if (asn === undefined) throw invalid(`${JSON.stringify(value)} is no AS number`);
  return asn;
}

/** cidr and matchOperator go together; without them prefixLength stands alone. */
function prefixes(rule: BGPFilterRule, family: 4 | 6): Pick<Match, 'prefixes' | 'length'> {
  const longest = family === 4 ? 32 : 128;
  if ((rule.cidr === undefined) !== (rule.matchOperator === undefined))
    throw invalid('cidr and matchOperator belong together');
  if (rule.cidr === undefined) {
    if (rule.prefixLength === undefined) return {};
    return { length: { min: rule.prefixLength.min ?? 0, max: rule.prefixLength.max ?? longest } };
  }
  const cidr = parseCidr(rule.cidr);
  if (cidr?.family !== family) throw invalid(`${rule.cidr} is no IPv${family} CIDR`);
  return { prefixes: [prefixMatch(rule, cidr, longest)] };
}

function prefixMatch(rule: BGPFilterRule, cidr: Cidr, longest: number): PrefixMatch {
  const exact = { cidr, min: cidr.prefixLength, max: cidr.prefixLength };
  const within = {
    cidr,
    min: rule.prefixLength?.min ?? cidr.prefixLength,
    max: rule.prefixLength?.max ?? longest,
  };
  switch (rule.matchOperator) {
    case 'Equal':
      return exact;
    case 'NotEqual':
      return { ...exact, negate: true };
    case 'In':
      return within;
    case 'NotIn':
      return { ...within, negate: true };
    default:
      throw invalid(`matchOperator ${JSON.stringify(rule.matchOperator)} is not known`);
  }
}

function communityMatch(rule: BGPFilterRule): Pick<Match, 'communities' | 'largeCommunities'> {
  const [text] = rule.communities?.values ?? [];
  if (text === undefined) return {};
  const standard = parseCommunity(text);
  if (standard !== undefined) return { communities: [standard] };
  if (parseLargeCommunity(text) === undefined) throw invalid(`${text} is no community`);
  return { largeCommunities: [text] };
}

function operations(rule: BGPFilterRule): Changes | undefined {
  if (rule.operations === undefined || rule.operations.length === 0) return undefined;
  const communities: number[] = [];
  const large: string[] = [];
  const prepend: number[] = [];
  let localPref: number | undefined;
  for (const operation of rule.operations) {
    if (operation.addCommunity !== undefined) {
      const { value } = operation.addCommunity;
      const standard = parseCommunity(value);
      if (standard !== undefined) communities.push(standard);
      else if (parseLargeCommunity(value) !== undefined) large.push(value);
      else throw invalid(`${value} is no community`);
    }
    if (operation.prependASPath !== undefined)
      prepend.unshift(...operation.prependASPath.prefix.map(asn => requireAs(asn)));
    if (operation.setPriority !== undefined) localPref = priorityToLocalPref(operation.setPriority.value);
  }
  return {
    ...(communities.length === 0 ? {} : { addCommunities: communities }),
    ...(large.length === 0 ? {} : { addLargeCommunities: large }),
    ...(prepend.length === 0 ? {} : { prepend }),
    ...(localPref === undefined ? {} : { localPref }),
  };
}
