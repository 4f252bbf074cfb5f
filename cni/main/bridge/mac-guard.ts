// `macspoofchk`: a pod may send with its own MAC address only. One table of the bridge family for all pods, with a set that
// says which ports are guarded and one of the addresses they may use; a pod is an element in each, with its owner as comment.
//
//   prerouting ── iifname @guarded, iifname . ether saddr not in @allowed ──▶ drop
//
// The table comes with the first pod and goes with the last. Nobody holds a lock: who loses a race looks again.
import type { NftBatch } from '../../../src/codec/nft/batch.ts';
import { verdict } from '../../../src/codec/nft/expression/immediate.ts';
import { lookup } from '../../../src/codec/nft/expression/lookup.ts';
import { meta } from '../../../src/codec/nft/expression/meta.ts';
import { payload } from '../../../src/codec/nft/expression/payload.ts';
import { concatenate, type Element } from '../../../src/codec/nft/set.ts';
import { hasCode } from '../../../src/lib/errors.ts';
import { requireMac } from '../../../src/lib/mac.ts';
import type { Netns } from '../../../src/linux/netns.ts';
import { Nftables } from '../../../src/linux/nftables.ts';

const FAMILY = 'bridge';
const TABLE = 'podwire_cni';
const CHAIN = 'prerouting';
/** Before everything else, as the reference's. */
const PRIORITY = -300;
/** NFTNL_UDATA_SET_KEYBYTEORDER, host: without it `nft list` prints names of links as empty. */
const userData = Buffer.of(0, 4, 1, 0, 0, 0);
const SETS = [
  { name: 'guarded', key: ['ifname'], userData },
  { name: 'allowed', key: ['ifname', 'ether_addr'] },
] as const;
const IFNAME_BYTES = 16;
const ATTEMPTS = 20;

function addTable(batch: NftBatch): void {
  batch.addTable(FAMILY, TABLE, { exclusive: true });
  for (const set of SETS) batch.addSet(FAMILY, TABLE, set);
  batch.addChain(FAMILY, TABLE, {
    name: CHAIN,
    hook: { type: 'filter', hook: 'prerouting', priority: PRIORITY },
  });
  batch.addRule(FAMILY, TABLE, {
    chain: CHAIN,
    expressions: [
      meta('iifname'),
      lookup('guarded'),
      payload('ether saddr', IFNAME_BYTES / 4),
      lookup('allowed', { inverted: true }),
      verdict('drop'),
    ],
  });
}

function portKey(port: string): Buffer {
  const key = Buffer.alloc(IFNAME_BYTES);
  key.write(port, 'latin1');
  return key;
}

function elementsOf(port: string, mac: string, owner: string): Record<string, Element> {
  const key = portKey(port);
  return {
    guarded: { key, comment: owner },
    allowed: { key: concatenate(key, requireMac(mac)), comment: owner },
  };
}

/** Lets the pod behind `port` send with `mac` only; what `owner` has of an ADD that was broken off is replaced. */
export function guardMac(hostNetns: Netns, port: string, mac: string, owner: string): void {
  using nft = Nftables.open(hostNetns);
  const elements = elementsOf(port, mac, owner);
  retry(() => {
    const fresh = nft.getTable(FAMILY, TABLE) === undefined;
    const old = fresh ? [] : dump(nft).filter(one => one.element.comment === owner);
    nft.transaction(batch => {
      if (fresh) addTable(batch);
      for (const { set, element } of old) batch.delElements(FAMILY, TABLE, set, [{ key: element.key }]);
      for (const [set, element] of Object.entries(elements))
        batch.addElements(FAMILY, TABLE, set, [element], { exclusive: true });
    });
  });
}

/** CHECK: false when something of it is missing. */
export function isGuarded(hostNetns: Netns, port: string, mac: string, owner: string): boolean {
  using nft = Nftables.open(hostNetns);
  return (
    nft.listRules(FAMILY, TABLE, CHAIN).length > 0 &&
    Object.entries(elementsOf(port, mac, owner)).every(
      ([set, { key }]) => nft.getElement(FAMILY, TABLE, set, key)?.comment === owner,
    )
  );
}

/** Removes the elements of the chosen owners, and the table with the last of all. */
export function unguardMac(hostNetns: Netns, chosen: (owner: string) => boolean): void {
  using nft = Nftables.openIfSupported(hostNetns);
  if (nft === undefined) return;
  retry(() => {
    const generation = nft.generation();
    if (nft.getTable(FAMILY, TABLE) === undefined) return;
    const all = dump(nft);
    const gone = all.filter(one => chosen(one.element.comment ?? ''));
    if (gone.length === all.length) {
      nft.transaction(batch => batch.delTable(FAMILY, TABLE), { generation });
      return;
    }
    nft.transaction(batch => {
      for (const { set, element } of gone) batch.delElements(FAMILY, TABLE, set, [{ key: element.key }]);
    });
  });
}

function dump(nft: Nftables): { set: string; element: Element }[] {
  return SETS.flatMap(({ name }) =>
    nft.listElements(FAMILY, TABLE, name).map(element => ({ set: name, element })),
  );
}

function retry(work: () => void): void {
  for (let attempt = 1; ; attempt++)
    try {
      work();
      return;
    } catch (error) {
      const race = ['EEXIST', 'ENOENT', 'EBUSY', 'ERESTART'].some(code => hasCode(error, code));
      if (!race || attempt === ATTEMPTS) throw error;
    }
}
