// Rules that later releases of the reference's plugins keep in nftables tables of their own: one a pod and rule, told apart
// by comments. On a node that was switched over while pods ran, their DEL comes to us.
import type { NftFamily } from '../../src/codec/nft/constants.ts';
import { hasCode } from '../../src/lib/errors.ts';
import { Nftables } from '../../src/linux/nftables.ts';
import { sha512Hex } from '../iptables/chain-names.ts';
import type { Attachment, Call } from '../runtime/plugin.ts';

const HASH_DIGITS = 16;
const MASQUERADE = { family: 'inet', table: 'cni_plugins_masquerade', chains: ['masq_checks'] } as const;
const HOSTPORTS = {
  families: ['ip', 'ip6'],
  table: 'cni_hostport',
  chains: ['hostports', 'hostip_hostports', 'masquerading'],
} as const;

function hash(text: string): string {
  return sha512Hex(text).slice(0, HASH_DIGITS);
}

/** How the comments of a pod's masquerading begin (pkg/ip/ipmasq_nftables_linux.go). */
function instanceOf(network: string, { ifName, containerId }: Attachment): string {
  return `${hash(network)}-${hash(`${ifName}:${containerId}`)}`;
}

export function delReferenceMasquerade(call: Call): void {
  const instance = instanceOf(call.networkName, call);
  removeRules(call, MASQUERADE, comment => comment.startsWith(instance));
}

export function collectReferenceMasquerade(call: Call, valid: readonly Attachment[]): void {
  const keep = new Set(valid.map(one => instanceOf(call.networkName, one)));
  const network = `${hash(call.networkName)}-`;
  const length = network.length + HASH_DIGITS;
  removeRules(
    call,
    MASQUERADE,
    comment => comment.startsWith(network) && !keep.has(comment.slice(0, length)),
  );
}

/** The comment is the container alone, so only DEL can tell whose a rule is. */
export function delReferenceHostPorts(call: Call): void {
  for (const family of HOSTPORTS.families)
    removeRules(call, { ...HOSTPORTS, family }, comment => comment === call.containerId);
}

function removeRules(
  call: Call,
  place: { family: NftFamily; table: string; chains: readonly string[] },
  chosen: (comment: string) => boolean,
): void {
  const { family, table, chains } = place;
  using nft = Nftables.open(call.site.hostNetns);
  if (nft.getTable(family, table) === undefined) return;
  const rules = chains.flatMap(chain =>
    nft.listRules(family, table, chain).filter(rule => chosen(rule.comment ?? '')),
  );
  try {
    nft.transaction(batch => {
      for (const rule of rules) batch.delRule(family, rule);
    });
  } catch (error) {
    // Somebody else was removing them at the same time.
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}
