// Generic netlink's "ethtool" family, as far as device features go (linux/ethtool_netlink.h): what `ethtool -k` shows and
// `ethtool -K` sets. Feature names are the kernel's, such as `tx-checksum-ip-generic`. Pure.
//
//   struct genlmsghdr: | cmd u8 | version u8 | reserved u16 |
//   FEATURES_SET { HEADER { DEV_NAME, FLAGS }, WANTED { BITS { BIT { NAME, VALUE? } } } }

import { NLM_F_ACK, NLM_F_REQUEST } from './constants.ts';
import { attributeString, attributes, type MessageWriter, type NetlinkMessage, u16 } from './message.ts';

/** linux/genetlink.h: the family that knows the numbers of all others. */
const GENL_ID_CTRL = 0x10;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR = { FAMILY_ID: 1, FAMILY_NAME: 2 } as const;

const ETHTOOL_GENL_NAME = 'ethtool';
const ETHTOOL_MSG = { FEATURES_GET: 11, FEATURES_SET: 12 } as const;
const FEATURES = { HEADER: 1, WANTED: 3, ACTIVE: 4 } as const;
const HEADER = { DEV_NAME: 2, FLAGS: 3 } as const;
/** ETHTOOL_FLAG_OMIT_REPLY: an acknowledgement is enough. */
const OMIT_REPLY = 2;
const BITSET_BITS = 3;
const BITS_BIT = 1;
const BIT = { NAME: 2, VALUE: 3 } as const;
const HEADER_BYTES = 4;

function begin(w: MessageWriter, type: number, command: number, flags = 0): void {
  w.begin(type, NLM_F_REQUEST | flags);
  w.u8(command).u8(1).u8(0).u8(0);
}

export function encodeGetEthtoolFamily(w: MessageWriter): void {
  begin(w, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
  w.attrString(CTRL_ATTR.FAMILY_NAME, ETHTOOL_GENL_NAME);
  w.end();
}

/** The family's number on this kernel. */
export function decodeFamilyId(message: NetlinkMessage): number {
  const id = attributes(message.payload, HEADER_BYTES).find(one => one.type === CTRL_ATTR.FAMILY_ID);
  return id === undefined ? 0 : u16(id.value, 'CTRL_ATTR_FAMILY_ID');
}

/** Same as `ethtool -k LINK`. */
export function encodeGetFeatures(w: MessageWriter, family: number, link: string): void {
  begin(w, family, ETHTOOL_MSG.FEATURES_GET);
  w.nest(FEATURES.HEADER, () => w.attrString(HEADER.DEV_NAME, link));
  w.end();
}

/** The features that are on. */
export function decodeActiveFeatures(message: NetlinkMessage): Set<string> {
  const active = attributes(message.payload, HEADER_BYTES).find(one => one.type === FEATURES.ACTIVE);
  const bits = active && attributes(active.value, 0).find(one => one.type === BITSET_BITS);
  const names = new Set<string>();
  for (const bit of bits ? attributes(bits.value, 0) : []) {
    if (bit.type !== BITS_BIT) continue;
    const name = attributes(bit.value, 0).find(one => one.type === BIT.NAME);
    if (name) names.add(attributeString(name.value));
  }
  return names;
}

/** Same as `ethtool -K LINK NAME on|off`. */
export function encodeSetFeature(
  w: MessageWriter,
  family: number,
  request: { link: string; name: string; on: boolean },
): void {
  begin(w, family, ETHTOOL_MSG.FEATURES_SET, NLM_F_ACK);
  w.nest(FEATURES.HEADER, () =>
    w.attrString(HEADER.DEV_NAME, request.link).attrU32(HEADER.FLAGS, OMIT_REPLY),
  );
  w.nest(FEATURES.WANTED, () =>
    w.nest(BITSET_BITS, () =>
      w.nest(BITS_BIT, () => {
        w.attrString(BIT.NAME, request.name);
        if (request.on) w.attrFlag(BIT.VALUE);
      }),
    ),
  );
  w.end();
}
