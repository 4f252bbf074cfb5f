// ipMasq: what a pod sends outside its subnet leaves the host with the host's address.
import { requireCidr } from '../../src/lib/cidr.ts';
import { hasCode } from '../../src/lib/errors.ts';
import { orphanTest, ownerName } from '../link/owner.ts';
import { gone } from '../link/pod-interface.ts';
import { configError } from '../runtime/errors.ts';
import type { Fields } from '../runtime/fields.ts';
import type { Attachment, Call } from '../runtime/plugin.ts';
import type { Result } from '../runtime/result.ts';
import { masqueradeChain, type SetName } from './layout.ts';
import { type PodRule, PodRules } from './pod-rules.ts';
import { referenceMasqueradeChain, removeReferenceChain } from './reference-rules.ts';

const isMasqueradeSet = (set: SetName): boolean => set === 'masq4' || set === 'masq6';

/** `ipMasqBackend` is read for compatibility; whichever it names, the rules are ours, in nftables, without an exec. */
export function readIpMasq(config: Fields): boolean {
  const backend = config.string('ipMasqBackend') || 'nftables';
  if (backend !== 'iptables' && backend !== 'nftables')
    throw configError(`unknown ipMasqBackend ${JSON.stringify(backend)}`, 'known are iptables and nftables');
  return config.boolean('ipMasq') ?? false;
}

/** Pure. */
export function planMasquerade(result: Pick<Result, 'ips'>): PodRule[] {
  return result.ips.map(ip => {
    const cidr = requireCidr(ip.address, 'address of the result');
    return {
      set: cidr.family === 4 ? 'masq4' : 'masq6',
      key: Buffer.from(cidr.address),
      chain: masqueradeChain(cidr),
      what: `masquerading of ${ip.address}`,
    };
  });
}

export function addMasquerade(call: Call, result: Result): void {
  using rules = PodRules.open(call.site.hostNetns);
  rules.add(ownerName(call.networkName, call), planMasquerade(result));
}

/** Needs no result: the elements say whose they are. A kernel without nf_tables has none. */
export async function delMasquerade(call: Call): Promise<void> {
  const owner = ownerName(call.networkName, call);
  try {
    remove(call, holder => holder === owner);
    await removeReferenceChain(call, referenceMasqueradeChain(call));
  } catch (error) {
    if (!hasCode(error, 'EPROTONOSUPPORT')) throw error;
  }
}

function remove(call: Call, chosen: (owner: string) => boolean): void {
  using rules = PodRules.open(call.site.hostNetns);
  rules.remove((holder, set) => isMasqueradeSet(set) && chosen(holder));
}

export function checkMasquerade(call: Call, result: Result): void {
  using rules = PodRules.open(call.site.hostNetns);
  const missing = rules.missing(ownerName(call.networkName, call), planMasquerade(result));
  if (missing !== undefined) throw gone(`${missing} is missing in nftables`);
}

export function collectMasquerade(call: Call, valid: readonly Attachment[]): void {
  try {
    remove(call, orphanTest(call.networkName, valid));
  } catch (error) {
    if (!hasCode(error, 'EPROTONOSUPPORT')) throw error;
  }
}
