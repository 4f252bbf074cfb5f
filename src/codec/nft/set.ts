// Sets and maps and their elements. Keys and data are raw bytes; a concatenation pads each field to four bytes.
//
//   NFT_MSG_NEWSETELEM { TABLE, SET, ELEMENTS { NFTA_LIST_ELEM { KEY { VALUE }, DATA { VALUE | VERDICT }, USERDATA } … } }
import {
  attributeString,
  attributes,
  type MessageWriter,
  type NetlinkMessage,
  u32be,
} from '../netlink/message.ts';
import {
  NFT_DATA_VERDICT,
  NFT_SET_EVAL,
  NFT_SET_MAP,
  NFT_SET_TIMEOUT,
  NFT_TYPE,
  NFTA_DATA,
  NFTA_LIST_ELEM,
  NFTA_SET,
  NFTA_SET_DESC_SIZE,
  NFTA_SET_ELEM,
  NFTA_SET_ELEM_LIST,
  type NftType,
  TYPE_BITS,
} from './constants.ts';
import { decodeComment, encodeComment } from './userdata.ts';
import { decodeVerdict, encodeVerdict, type Verdict } from './verdict.ts';

export interface SetSpec {
  name: string;
  /** More than one is a concatenation. */
  key: readonly NftType[];
  /** Absent for a set. */
  data?: readonly NftType[] | 'verdict';
  /**
   * Rules add elements, 65535 at most unless `size` says otherwise, and say how long they live. Where no size is
   * declared the set grows; else the kernel sets aside the hash table at once, by the lower 16 bits of the size (measured
   * on 6.18: a megabyte or more for 65535, nothing for 1048576).
   */
  dynamic?: boolean;
  size?: number;
  /** NFTA_SET_USERDATA: how nft prints what the type's number does not tell. */
  userData?: Uint8Array;
}

/** A set's declaration as the kernel tells it. */
export interface SetInfo {
  table: string;
  name: string;
  flags: number;
  keyType: number;
  keyBytes: number;
  dataType: number;
  dataBytes: number;
}

export interface Element {
  key: Uint8Array;
  data?: Uint8Array | Verdict;
  comment?: string;
}

const padded = (bytes: number): number => (bytes + 3) & ~3;

function typeOf(types: readonly NftType[]): { id: number; bytes: number } {
  if (types.length === 1) return NFT_TYPE[types[0]!];
  return {
    id: types.reduce((id, type) => (id << TYPE_BITS) | NFT_TYPE[type].id, 0),
    bytes: types.reduce((sum, type) => sum + padded(NFT_TYPE[type].bytes), 0),
  };
}

/** The fields of a concatenated key or datum as the kernel compares them. */
export function concatenate(...fields: readonly Uint8Array[]): Buffer {
  const out = Buffer.alloc(fields.reduce((sum, field) => sum + padded(field.length), 0));
  let at = 0;
  for (const field of fields) {
    out.set(field, at);
    at += padded(field.length);
  }
  return out;
}

/** `id` tells the sets of one transaction apart. */
export function encodeSet(w: MessageWriter, table: string, set: SetSpec, id: number): void {
  const key = typeOf(set.key);
  w.attrString(NFTA_SET.TABLE, table)
    .attrString(NFTA_SET.NAME, set.name)
    .attrU32be(NFTA_SET.FLAGS, setFlags(set))
    .attrU32be(NFTA_SET.KEY_TYPE, key.id)
    .attrU32be(NFTA_SET.KEY_LEN, key.bytes);
  if (set.data === 'verdict') w.attrU32be(NFTA_SET.DATA_TYPE, NFT_DATA_VERDICT);
  else if (set.data !== undefined) {
    const data = typeOf(set.data);
    w.attrU32be(NFTA_SET.DATA_TYPE, data.id).attrU32be(NFTA_SET.DATA_LEN, data.bytes);
  }
  w.attrU32be(NFTA_SET.ID, id);
  const { size } = set;
  if (size !== undefined) w.nest(NFTA_SET.DESC, () => w.attrU32be(NFTA_SET_DESC_SIZE, size));
  const { userData } = set;
  if (userData !== undefined) w.attr(NFTA_SET.USERDATA, userData);
}

function setFlags(set: SetSpec): number {
  return (set.data === undefined ? 0 : NFT_SET_MAP) | (set.dynamic ? NFT_SET_EVAL | NFT_SET_TIMEOUT : 0);
}

/** What the kernel will tell of a set made by this declaration. */
export function setInfo(table: string, set: SetSpec): SetInfo {
  const key = typeOf(set.key);
  const data = Array.isArray(set.data) ? typeOf(set.data) : { id: 0, bytes: 0 };
  return {
    table,
    name: set.name,
    flags: setFlags(set),
    keyType: key.id,
    keyBytes: key.bytes,
    dataType: set.data === 'verdict' ? NFT_DATA_VERDICT : data.id,
    // Of a verdict map the kernel tells the size of its own struct.
    dataBytes: data.bytes,
  };
}

export function decodeSet(message: NetlinkMessage): SetInfo {
  const set: SetInfo = {
    table: '',
    name: '',
    flags: 0,
    keyType: 0,
    keyBytes: 0,
    dataType: 0,
    dataBytes: 0,
  };
  for (const { type, value } of attributes(message.payload, 4)) {
    if (type === NFTA_SET.TABLE) set.table = attributeString(value);
    else if (type === NFTA_SET.NAME) set.name = attributeString(value);
    else if (type === NFTA_SET.FLAGS) set.flags = u32be(value, 'NFTA_SET_FLAGS');
    else if (type === NFTA_SET.KEY_TYPE) set.keyType = u32be(value, 'NFTA_SET_KEY_TYPE');
    else if (type === NFTA_SET.KEY_LEN) set.keyBytes = u32be(value, 'NFTA_SET_KEY_LEN');
    else if (type === NFTA_SET.DATA_TYPE) set.dataType = u32be(value, 'NFTA_SET_DATA_TYPE');
    else if (type === NFTA_SET.DATA_LEN) set.dataBytes = u32be(value, 'NFTA_SET_DATA_LEN');
  }
  return set;
}

export function encodeElements(
  w: MessageWriter,
  table: string,
  set: string,
  elements: readonly Element[],
): void {
  w.attrString(NFTA_SET_ELEM_LIST.TABLE, table).attrString(NFTA_SET_ELEM_LIST.SET, set);
  if (elements.length === 0) return;
  w.nest(NFTA_SET_ELEM_LIST.ELEMENTS, () => {
    for (const element of elements) w.nest(NFTA_LIST_ELEM, () => encodeElement(w, element));
  });
}

function encodeElement(w: MessageWriter, element: Element): void {
  const { key, data, comment } = element;
  w.nest(NFTA_SET_ELEM.KEY, () => w.attr(NFTA_DATA.VALUE, key));
  if (data !== undefined)
    w.nest(NFTA_SET_ELEM.DATA, () => {
      if (data instanceof Uint8Array) w.attr(NFTA_DATA.VALUE, data);
      else encodeVerdict(w, data);
    });
  if (comment !== undefined) w.attr(NFTA_SET_ELEM.USERDATA, encodeComment(comment));
}

/** The elements of one message of a dump. */
export function decodeElements(message: NetlinkMessage): Element[] {
  const list = attributes(message.payload, 4).find(one => one.type === NFTA_SET_ELEM_LIST.ELEMENTS);
  return list === undefined ? [] : attributes(list.value, 0).map(one => decodeElement(one.value));
}

function decodeElement(bytes: Buffer): Element {
  const element: Element = { key: Buffer.alloc(0) };
  for (const { type, value } of attributes(bytes, 0)) {
    // The buffer is reused for the next message, so what stays is copied.
    if (type === NFTA_SET_ELEM.KEY) element.key = Buffer.from(attributes(value, 0)[0]?.value ?? []);
    else if (type === NFTA_SET_ELEM.DATA) {
      const data = attributes(value, 0)[0];
      if (data?.type === NFTA_DATA.VERDICT) element.data = decodeVerdict(data.value);
      else if (data !== undefined) element.data = Buffer.from(data.value);
    } else if (type === NFTA_SET_ELEM.USERDATA) {
      const comment = decodeComment(value);
      if (comment !== undefined) element.comment = comment;
    }
  }
  return element;
}
