// The export and import rules that confd gives BIRD (confd/templates bird_ipam.cfg, bird.cfg), as policies.
// Export, in this order: BGPFilters; pools that are not to be exported; our own blocks and borrowed addresses and
// services; routes inside a pool that others told us (for reflectors and borrowed addresses); nothing else.
import { type Cidr, formatCidr } from '../../../src/lib/cidr.ts';
import { type Policy, parseCommunity, parseLargeCommunity, type Statement } from '../policy/policy.ts';
import type { Pool } from './pools.ts';
import type { BGPConfiguration } from './types.ts';

const within = (cidr: Cidr): { cidr: Cidr; min: number; max: number } => ({
  cidr,
  min: cidr.prefixLength,
  max: cidr.network.length * 8,
});

export interface ExportInput {
  readonly pools: readonly Pool[];
  readonly filters: readonly Statement[];
  readonly ownBlocks: readonly Cidr[];
  readonly spec: NonNullable<BGPConfiguration['spec']>;
}

/** prefixAdvertisements: communities for what lies inside a prefix. */
export function communityStatements(
  spec: ExportInput['spec'],
  parse: (text: string) => Cidr | undefined,
): Statement[] {
  const named = new Map((spec.communities ?? []).map(({ name, value }) => [name, value]));
  return (spec.prefixAdvertisements ?? []).flatMap(({ cidr: text, communities }) => {
    const cidr = parse(text);
    if (cidr === undefined) return [];
    const values = communities.map(one => named.get(one) ?? one);
    return [
      {
        name: `communities of ${formatCidr(cidr)}`,
        match: { prefixes: [within(cidr)] },
        set: {
          addCommunities: values.flatMap(value => parseCommunity(value) ?? []),
          addLargeCommunities: values.filter(value => parseLargeCommunity(value) !== undefined),
        },
        action: 'next' as const,
      },
    ];
  });
}

export function exportPolicy(input: ExportInput, communities: readonly Statement[]): Policy {
  const statements: Statement[] = [...input.filters];
  const hidden = input.pools.filter(pool => !pool.exported);
  if (hidden.length > 0)
    statements.push({
      name: 'disableBGPExport',
      match: { prefixes: hidden.map(pool => within(pool.cidr)) },
      action: 'reject',
    });
  statements.push(...communities);
  statements.push({ name: 'own routes', match: { from: ['local'] }, action: 'accept' });
  // Parts of our own blocks that others announce (a pod that is being moved) are not passed on.
  if (input.ownBlocks.length > 0)
    statements.push({
      name: 'inside our own blocks',
      match: { prefixes: input.ownBlocks.map(within) },
      action: 'reject',
    });
  const shown = input.pools.filter(pool => pool.exported);
  const serviceRanges = [
    ...(input.spec.serviceExternalIPs ?? []),
    ...(input.spec.serviceLoadBalancerIPs ?? []),
  ].length;
  if (shown.length > 0)
    statements.push({
      name: 'IP pools',
      match: { prefixes: shown.map(pool => within(pool.cidr)) },
      action: 'accept',
    });
  return {
    name: serviceRanges > 0 ? 'calico-export-services' : 'calico-export',
    statements,
    otherwise: 'reject',
  };
}

/**
 * Import: BGPFilters, then what a node may say. Calico takes everything from everybody; we refuse what nobody has to
 * tell us: our own blocks, and from external peers anything inside a pool that is not theirs to announce by accident
 * (the default route and foreign prefixes are what ToR routers are for, and pass).
 */
export function importPolicy(
  filters: readonly Statement[],
  ownBlocks: readonly Cidr[],
  guarded: readonly Cidr[],
): Policy {
  const statements: Statement[] = [...filters];
  if (ownBlocks.length > 0)
    statements.unshift({
      name: 'our own blocks',
      match: { prefixes: ownBlocks.map(cidr => ({ cidr, min: cidr.prefixLength, max: cidr.prefixLength })) },
      action: 'reject',
    });
  if (guarded.length > 0)
    statements.unshift({
      name: 'addresses of the control plane and of nodes',
      match: { prefixes: guarded.map(within) },
      action: 'reject',
    });
  return { name: 'calico-import', statements, otherwise: 'accept' };
}
