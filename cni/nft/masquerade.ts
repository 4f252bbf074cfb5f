// ipMasq: what a pod sends outside its subnet leaves the host with the host's address. By elements of the owned table, or
// with ipMasqBackend iptables by the reference's chains; DEL and GC remove both, and what the reference left.
import { type Cidr, requireCidr } from '../../src/lib/cidr.ts';
import {
  addMasqueradeChains,
  collectMasqueradeChains,
  delMasqueradeChains,
  missingMasqueradeRule,
} from '../iptables/masquerade.ts';
import { orphanTest, ownerName } from '../link/owner.ts';
import { gone } from '../link/pod-interface.ts';
import { configError } from '../runtime/errors.ts';
import type { Fields } from '../runtime/fields.ts';
import type { Attachment, Call } from '../runtime/plugin.ts';
import type { Result } from '../runtime/result.ts';
import { masqueradeChain, type SetName } from './layout.ts';
import { type PodRule, PodRules } from './pod-rules.ts';
import { collectReferenceMasquerade, delReferenceMasquerade } from './reference-tables.ts';
import { removeFromAll } from './removal.ts';

const isMasqueradeSet = (set: SetName): boolean => set === 'masq4' || set === 'masq6';

/** Whether to masquerade; refuses an unknown `ipMasqBackend`. */
export function readIpMasq(config: Fields): boolean {
  readBackend(config);
  return config.boolean('ipMasq') ?? false;
}

/** nftables unless asked for iptables: the effect is the same, and it costs the same with one pod or a thousand. */
function readBackend(config: Fields): 'iptables' | 'nftables' {
  const backend = config.string('ipMasqBackend') || 'nftables';
  if (backend !== 'iptables' && backend !== 'nftables')
    throw configError(`unknown ipMasqBackend ${JSON.stringify(backend)}`, 'known are iptables and nftables');
  return backend;
}

function addressesOf(result: Pick<Result, 'ips'>): Cidr[] {
  return result.ips.map(ip => requireCidr(ip.address, 'address of the result'));
}

/** Pure. */
export function planMasquerade(result: Pick<Result, 'ips'>): PodRule[] {
  return addressesOf(result).map((cidr, i) => ({
    set: cidr.family === 4 ? 'masq4' : 'masq6',
    key: Buffer.from(cidr.address),
    chain: masqueradeChain(cidr),
    what: `masquerading of ${result.ips[i]!.address}`,
  }));
}

export async function addMasquerade(call: Call, result: Result): Promise<void> {
  if (readBackend(call.config) === 'iptables') return addMasqueradeChains(call, addressesOf(result));
  using rules = PodRules.open(call.site.hostNetns);
  rules.add(ownerName(call.networkName, call), planMasquerade(result));
}

/** Needs no result: names and comments say whose they are. */
export async function delMasquerade(call: Call): Promise<void> {
  const owner = ownerName(call.networkName, call);
  await removeFromAll(
    'removing masquerading',
    () => removeElements(call, holder => holder === owner),
    () => delMasqueradeChains(call),
    () => delReferenceMasquerade(call),
  );
}

export async function checkMasquerade(call: Call, result: Result): Promise<void> {
  if (readBackend(call.config) === 'iptables') {
    const missing = await missingMasqueradeRule(call, addressesOf(result));
    if (missing !== undefined) throw gone(`${missing} is missing`);
    return;
  }
  using rules = PodRules.open(call.site.hostNetns);
  const missing = rules.missing(ownerName(call.networkName, call), planMasquerade(result));
  if (missing !== undefined) throw gone(`${missing} is missing in nftables`);
}

export async function collectMasquerade(call: Call, valid: readonly Attachment[]): Promise<void> {
  const orphan = orphanTest(call.networkName, valid);
  await removeFromAll(
    'collecting masquerading',
    () => removeElements(call, orphan),
    () => collectMasqueradeChains(call, valid),
    () => collectReferenceMasquerade(call, valid),
  );
}

function removeElements(call: Call, chosen: (owner: string) => boolean): void {
  using rules = PodRules.open(call.site.hostNetns);
  rules.remove((holder, set) => isMasqueradeSet(set) && chosen(holder));
}
