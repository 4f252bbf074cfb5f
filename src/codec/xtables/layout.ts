// Layouts of the legacy packet filter's socket options (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/
// ip6_tables.h, linux/netfilter/x_tables.h), as a 64-bit little-endian kernel has them. A table is one block of entries:
//
//   built-in chains     rule … rule policy            hook_entry[h] is the first, underflow[h] the policy's offset
//   chains of users     head rule … rule RETURN       sorted by name; the head is an ERROR target with the name
//   the end             an ERROR entry
//
//   entry   addresses, interfaces, protocol │ nfcache │ target_offset next_offset │ comefrom │ packets bytes
//           match …  target                 a match or target: u16 size, char name[29], u8 revision, data to 8 bytes
//
// A jump is a standard target (no name) whose verdict is the offset of the first rule after the head of the chain.
import { DecodeError } from '../../lib/errors.ts';

export type XtablesFamily = 4 | 6;

export interface FamilyLayout {
  family: XtablesFamily;
  /** sizeof(struct ipt_entry), sizeof(struct ip6t_entry) */
  entrySize: number;
  /** Offsets in an entry. */
  nfcache: number;
  targetOffset: number;
  nextOffset: number;
  comefrom: number;
  counters: number;
  source: number;
  destination: number;
  sourceMask: number;
  destinationMask: number;
  addressSize: number;
  inInterface: number;
  outInterface: number;
  inMask: number;
  outMask: number;
  protocol: number;
  flags: number;
  inverse: number;
  /** IPT_F_GOTO, IP6T_F_GOTO */
  gotoFlag: number;
}

export const LAYOUT: Readonly<Record<XtablesFamily, FamilyLayout>> = {
  4: {
    family: 4,
    entrySize: 112,
    source: 0,
    destination: 4,
    sourceMask: 8,
    destinationMask: 12,
    addressSize: 4,
    inInterface: 16,
    outInterface: 32,
    inMask: 48,
    outMask: 64,
    protocol: 80,
    flags: 82,
    inverse: 83,
    nfcache: 84,
    targetOffset: 88,
    nextOffset: 90,
    comefrom: 92,
    counters: 96,
    gotoFlag: 0x02,
  },
  6: {
    family: 6,
    entrySize: 168,
    source: 0,
    destination: 16,
    sourceMask: 32,
    destinationMask: 48,
    addressSize: 16,
    inInterface: 64,
    outInterface: 80,
    inMask: 96,
    outMask: 112,
    protocol: 128,
    flags: 131,
    inverse: 132,
    nfcache: 136,
    targetOffset: 140,
    nextOffset: 142,
    comefrom: 144,
    counters: 152,
    gotoFlag: 0x04,
  },
};

export const IFNAMSIZ = 16;
/** IP6T_F_PROTO: the rule looks at the protocol. */
export const IP6T_F_PROTO = 0x01;
/** IPT_INV_*, the same numbers for IPv6. */
export const INVERSE = { VIA_IN: 0x01, VIA_OUT: 0x02, SRCIP: 0x08, DSTIP: 0x10, PROTO: 0x40 } as const;

/** struct xt_entry_match and xt_entry_target: u16 size, char name[29], u8 revision. */
export const EXTENSION_HEADER = 32;
export const EXTENSION_NAME = 2;
export const EXTENSION_REVISION = 31;
/** XT_EXTENSION_MAXNAMELEN - 1: also the longest name of a chain. */
export const MAX_NAME = 28;
/** struct xt_standard_target and xt_error_target, aligned. */
export const STANDARD_TARGET_SIZE = 40;
export const ERROR_TARGET_SIZE = 64;
/** XT_FUNCTION_MAXNAMELEN */
const ERROR_NAME = 30;

/** NF_INET_*, and each table's built-in chains are called so. */
export const HOOKS = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'] as const;

/** A verdict below zero is -NF_x - 1; RETURN is -NF_REPEAT - 1. */
export const VERDICT: Readonly<Record<string, number>> = { DROP: -1, ACCEPT: -2, QUEUE: -4, RETURN: -5 };

/** XT_ALIGN */
export function align8(size: number): number {
  return (size + 7) & ~7;
}

/** setsockopt and getsockopt numbers (IPT_SO_*, IP6T_SO_*). */
export const XT_SO = {
  SET_REPLACE: 64,
  SET_ADD_COUNTERS: 65,
  GET_INFO: 64,
  GET_ENTRIES: 65,
  GET_REVISION_MATCH: { 4: 66, 6: 68 },
  GET_REVISION_TARGET: { 4: 67, 6: 69 },
} as const;

/** struct ipt_getinfo: char name[32], u32 valid_hooks, hook_entry[5], underflow[5], num_entries, size. */
export const GETINFO_BYTES = 84;
/** struct ipt_get_entries up to the entries: char name[32], u32 size, 4 bytes of padding. */
export const GET_ENTRIES_HEADER = 40;
/** struct ipt_replace up to the entries. */
export const REPLACE_HEADER = 96;
/** struct xt_counters_info up to the counters: char name[32], u32 num_counters, padding. */
export const COUNTERS_HEADER = 40;
/** struct xt_counters: u64 packets, bytes. */
export const COUNTERS_BYTES = 16;

export interface TableInfo {
  name: string;
  /** Bit h for each of HOOKS. */
  validHooks: number;
  hookEntries: readonly number[];
  underflows: readonly number[];
  entries: number;
  size: number;
}

export function cString(bytes: Buffer, at: number, size: number): string {
  let end = at;
  while (end < at + size && bytes[end] !== 0) end++;
  return bytes.toString('latin1', at, end);
}

export function decodeInfo(bytes: Buffer): TableInfo {
  if (bytes.length < GETINFO_BYTES)
    throw new DecodeError('xtables', 'getinfo', bytes.length, `${GETINFO_BYTES} bytes wanted`, 'TRUNCATED');
  const five = (at: number): number[] => Array.from({ length: 5 }, (_, i) => bytes.readUInt32LE(at + 4 * i));
  return {
    name: cString(bytes, 0, 32),
    validHooks: bytes.readUInt32LE(32),
    hookEntries: five(36),
    underflows: five(56),
    entries: bytes.readUInt32LE(76),
    size: bytes.readUInt32LE(80),
  };
}

/** struct ipt_replace without its entries; `counters` is the address where the kernel puts the old counters. */
export function writeReplaceHeader(
  bytes: Buffer,
  info: TableInfo,
  oldEntries: number,
  counters: bigint,
): void {
  bytes.fill(0, 0, REPLACE_HEADER);
  bytes.write(info.name, 0, 'latin1');
  bytes.writeUInt32LE(info.validHooks, 32);
  bytes.writeUInt32LE(info.entries, 36);
  bytes.writeUInt32LE(info.size, 40);
  for (let h = 0; h < 5; h++) {
    bytes.writeUInt32LE(info.hookEntries[h]!, 44 + 4 * h);
    bytes.writeUInt32LE(info.underflows[h]!, 64 + 4 * h);
  }
  bytes.writeUInt32LE(oldEntries, 84);
  bytes.writeBigUInt64LE(counters, 88);
}

/** Writes an entry's own part of a chain head: everything zero, then an ERROR target with the chain's name. */
export function writeErrorEntry(bytes: Buffer, at: number, layout: FamilyLayout, name: string): number {
  const { entrySize } = layout;
  const size = entrySize + ERROR_TARGET_SIZE;
  bytes.fill(0, at, at + size);
  bytes.writeUInt16LE(entrySize, at + layout.targetOffset);
  bytes.writeUInt16LE(size, at + layout.nextOffset);
  const target = at + entrySize;
  bytes.writeUInt16LE(ERROR_TARGET_SIZE, target);
  bytes.write('ERROR', target + EXTENSION_NAME, 'latin1');
  bytes.write(name, target + EXTENSION_HEADER, ERROR_NAME - 1, 'latin1');
  return at + size;
}

/** Writes a rule without matches that gives `verdict`: what ends a chain. */
export function writeVerdictEntry(bytes: Buffer, at: number, layout: FamilyLayout, verdict: number): number {
  const { entrySize } = layout;
  const size = entrySize + STANDARD_TARGET_SIZE;
  bytes.fill(0, at, at + size);
  bytes.writeUInt16LE(entrySize, at + layout.targetOffset);
  bytes.writeUInt16LE(size, at + layout.nextOffset);
  bytes.writeUInt16LE(STANDARD_TARGET_SIZE, at + entrySize);
  bytes.writeInt32LE(verdict, at + entrySize + EXTENSION_HEADER);
  return at + size;
}
