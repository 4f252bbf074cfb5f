// IP pools: which are usable, which contradict each other, and how traffic to an address of one travels.
import { type Cidr, cidrContains, cidrsOverlap, formatCidr, parseCidr } from '../../../src/lib/cidr.ts';
import type { IpBytes } from '../../../src/lib/ip.ts';
import type { Problem } from '../../../src/lib/problem.ts';
import { userMetadata } from './names.ts';
import { parseSelector, type Selector } from './selector.ts';
import type { EncapsulationMode, IPPool } from './types.ts';

export interface Pool {
  readonly name: string;
  readonly cidr: Cidr;
  readonly ipip: 'Always' | 'CrossSubnet' | 'Never';
  readonly vxlan: 'Always' | 'CrossSubnet' | 'Never';
  readonly natOutgoing: boolean;
  readonly disabled: boolean;
  readonly exported: boolean;
  readonly blockSize: number;
  readonly automatic: boolean;
  readonly allowedUses: readonly string[];
  readonly selectsNode: Selector;
}

const mode = (value: EncapsulationMode | undefined): 'Always' | 'CrossSubnet' | 'Never' => value || 'Never';

/** The valid pools, by age and name; a pool that overlaps an older one is left out and named. */
export function readPools(pools: readonly IPPool[]): { pools: Pool[]; problems: Problem[] } {
  const problems: Problem[] = [];
  const accepted: Pool[] = [];
  const byAge = [...pools].sort(
    (a, b) =>
      String(a.metadata?.creationTimestamp ?? '').localeCompare(
        String(b.metadata?.creationTimestamp ?? ''),
      ) || (a.metadata?.name ?? '').localeCompare(b.metadata?.name ?? ''),
  );
  for (const object of byAge) {
    const { name } = userMetadata(object);
    const refuse = (reason: string, message: string): void => {
      problems.push({ kind: 'IPPool', name, reason, message });
    };
    const { spec } = object;
    const cidr = spec === undefined ? undefined : parseCidr(spec.cidr);
    if (spec === undefined || cidr === undefined) {
      refuse('InvalidCIDR', `${JSON.stringify(spec?.cidr)} is no CIDR; the pool is not used`);
      continue;
    }
    const other = accepted.find(pool => cidrsOverlap(pool.cidr, cidr));
    if (other !== undefined) {
      refuse(
        'CIDROverlap',
        `${formatCidr(cidr)} overlaps ${formatCidr(other.cidr)} of pool ${other.name}, which is older; the pool is not used`,
      );
      continue;
    }
    const ipip = mode(spec.ipipMode);
    const vxlan = mode(spec.vxlanMode);
    if (ipip !== 'Never' && (vxlan !== 'Never' || cidr.family === 6)) {
      refuse(
        'InvalidEncapsulation',
        'ipipMode is for IPv4 and excludes vxlanMode; the pool is used without IPIP',
      );
    }
    let selectsNode: Selector;
    try {
      selectsNode = parseSelector(spec.nodeSelector ?? 'all()');
    } catch (error) {
      refuse('InvalidSelector', `nodeSelector: ${String(error)}; the pool is not used`);
      continue;
    }
    accepted.push({
      name,
      cidr,
      ipip: vxlan === 'Never' && cidr.family === 4 ? ipip : 'Never',
      vxlan,
      natOutgoing: spec.natOutgoing === true,
      disabled: spec.disabled === true,
      exported: spec.disableBGPExport !== true,
      blockSize: spec.blockSize ?? (cidr.family === 4 ? 26 : 122),
      automatic: spec.assignmentMode !== 'Manual',
      allowedUses: spec.allowedUses ?? ['Workload', 'Tunnel'],
      selectsNode,
    });
  }
  return { pools: accepted, problems };
}

export function poolOf(pools: readonly Pool[], address: IpBytes): Pool | undefined {
  return pools.find(pool => cidrContains(pool.cidr, address));
}
