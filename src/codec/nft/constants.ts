// Numbers of linux/netfilter/nf_tables.h, nfnetlink.h and netfilter.h, under the kernel's names.

export const NFNL_SUBSYS_NFTABLES = 10;
export const NFNL_MSG_BATCH_BEGIN = 0x10;
export const NFNL_MSG_BATCH_END = 0x11;
export const NFNL_BATCH_GENID = 1;

export const NFT_MSG = {
  NEWTABLE: 0,
  GETTABLE: 1,
  DELTABLE: 2,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  DELCHAIN: 5,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
  NEWSET: 9,
  GETSET: 10,
  DELSET: 11,
  NEWSETELEM: 12,
  GETSETELEM: 13,
  DELSETELEM: 14,
  NEWGEN: 15,
  GETGEN: 16,
} as const;

export const NFPROTO = { INET: 1, IPV4: 2, BRIDGE: 7, IPV6: 10 } as const;
export type NftFamily = 'inet' | 'ip' | 'ip6' | 'bridge';
export const FAMILY_NUMBERS: Record<NftFamily, number> = {
  inet: NFPROTO.INET,
  ip: NFPROTO.IPV4,
  ip6: NFPROTO.IPV6,
  bridge: NFPROTO.BRIDGE,
};

/** enum nf_inet_hooks; the bridge family has the same numbers for those it has. */
export const NF_HOOK = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const;
export type HookName = keyof typeof NF_HOOK;

export const NF_DROP = 0;
export const NF_ACCEPT = 1;
export const NFT_JUMP = -3;
export const NFT_GOTO = -4;
export const NFT_RETURN = -5;

export const NFTA_LIST_ELEM = 1;
export const NFTA_GEN_ID = 1;
export const NFTA_TABLE = { NAME: 1, FLAGS: 2, USE: 3, HANDLE: 4, USERDATA: 6 } as const;
export const NFTA_CHAIN = { TABLE: 1, HANDLE: 2, NAME: 3, HOOK: 4, POLICY: 5, USE: 6, TYPE: 7 } as const;
export const NFTA_HOOK = { HOOKNUM: 1, PRIORITY: 2 } as const;
export const NFTA_RULE = {
  TABLE: 1,
  CHAIN: 2,
  HANDLE: 3,
  EXPRESSIONS: 4,
  COMPAT: 5,
  POSITION: 6,
  USERDATA: 7,
} as const;
export const NFTA_RULE_COMPAT = { PROTO: 1, FLAGS: 2 } as const;
export const NFT_RULE_COMPAT_F_INV = 2;
export const NFTA_EXPR = { NAME: 1, DATA: 2 } as const;
export const NFTA_SET = {
  TABLE: 1,
  NAME: 2,
  FLAGS: 3,
  KEY_TYPE: 4,
  KEY_LEN: 5,
  DATA_TYPE: 6,
  DATA_LEN: 7,
  DESC: 9,
  ID: 10,
  USERDATA: 13,
} as const;
export const NFTA_SET_DESC_SIZE = 1;
export const NFT_SET_MAP = 8;
export const NFT_SET_TIMEOUT = 16;
/** Rules may add elements. */
export const NFT_SET_EVAL = 32;
export const NFTA_SET_ELEM_LIST = { TABLE: 1, SET: 2, ELEMENTS: 3 } as const;
export const NFTA_SET_ELEM = { KEY: 1, DATA: 2, FLAGS: 3, USERDATA: 6 } as const;
export const NFTA_DATA = { VALUE: 1, VERDICT: 2 } as const;
export const NFTA_IMMEDIATE_DATA = 2;
export const NFTA_VERDICT = { CODE: 1, CHAIN: 2 } as const;
/** The data type of verdict maps. */
export const NFT_DATA_VERDICT = 0xffffff00;

/** Register 0 is the verdict; 1 to 4 have 16 bytes; the sixteen of 4 bytes from 8 on are the same memory. */
export const NFT_REG_VERDICT = 0;
export const NFT_REG_1 = 1;
export const NFT_REG32_00 = 8;

/** NFTNL_UDATA_RULE_COMMENT and NFTNL_UDATA_SET_ELEM_COMMENT of libnftnl: type, length, text with NUL. */
export const NFTNL_UDATA_COMMENT = 0;

/** How nft names types in set declarations (its include/datatype.h), so that `nft list` prints keys as people do. */
export const NFT_TYPE = {
  integer: { id: 4, bytes: 4 },
  ipv4_addr: { id: 7, bytes: 4 },
  ipv6_addr: { id: 8, bytes: 16 },
  ether_addr: { id: 9, bytes: 6 },
  inet_proto: { id: 12, bytes: 1 },
  inet_service: { id: 13, bytes: 2 },
  mark: { id: 19, bytes: 4 },
  ifname: { id: 41, bytes: 16 },
} as const;
export type NftType = keyof typeof NFT_TYPE;
/** Bits of one type's number in that of a concatenation. */
export const TYPE_BITS = 6;
