// NFTA_SET_USERDATA of maps keyed by a random number, which no type number tells nft how to print: recorded from nft 1.0.6
// for `typeof numgen random mod 2 : verdict`, `… : ip daddr . th dport` and `… : ip6 daddr . th dport`. The kernel keeps
// them unread.

const KEY = '000401000000010400000000031a0004170000000112000401000000010402000000020400000000';
const DATA = {
  verdict: '04080004010000000100060400000000',
  4: '043400040d000000012c0014000407000000010c00040c00000001040c0000000114000407000000010c00040b000000010402000000060400000000',
  6: '043400040d000000012c0014000407000000010c00040d0000000104090000000114000407000000010c00040b000000010402000000060400000000',
} as const;

export function typeofRandom(data: keyof typeof DATA): Buffer {
  return Buffer.from(KEY + DATA[data], 'hex');
}
