// DHCPv4 messages (RFC 2131 section 2). Pure and total: bytes in, a value or a DecodeError out.
//
//    0                   1                   2                   3
//    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//   +---------------+---------------+---------------+---------------+
//   |    op (1)     |   htype (1)   |   hlen (1)    |   hops (1)    |
//   +---------------+---------------+---------------+---------------+
//   |                            xid (4)                            |
//   +-------------------------------+-------------------------------+
//   |           secs (2)            |B|         flags (2)           |
//   +-------------------------------+-------------------------------+
//   |  ciaddr (4): the client's address, when it can answer ARP     |
//   |  yiaddr (4): "your" address, from the server                  |
//   |  siaddr (4): next server         giaddr (4): relay agent      |
//   |  chaddr (16)   sname (64)   file (128)                        |
//   +---------------------------------------------------------------+
//   |  magic cookie 63 82 53 63, options: code (1), length (1), …   |
//   +---------------------------------------------------------------+
import { ByteReader, ByteWriter } from '../../lib/bytes.ts';
import { formatIp, requireIp } from '../../lib/ip.ts';
import { formatMac, requireMac } from '../../lib/mac.ts';
import { OPTION, OVERLOAD } from './constants.ts';

const MAGIC_COOKIE = 0x63825363;
const HTYPE_ETHERNET = 1;
const BROADCAST_FLAG = 0x8000;
const CHADDR_BYTES = 16;
const SNAME_BYTES = 64;
const FILE_BYTES = 128;
/** Of a BOOTP message (RFC 1542 section 2.1); some servers and relays drop shorter ones. */
const MIN_MESSAGE_BYTES = 300;
const MAX_OPTION_BYTES = 255;

export type DhcpOptions = Map<number, Buffer>;

export interface DhcpMessage {
  op: 'request' | 'reply';
  xid: number;
  secs: number;
  /** The client cannot take unicast before it has its address. */
  broadcast: boolean;
  ciaddr: string;
  yiaddr: string;
  siaddr: string;
  giaddr: string;
  /** The client's Ethernet address. */
  chaddr: string;
  /** By code; parts of one option are joined (RFC 3396). */
  options: DhcpOptions;
}

export function encodeDhcpMessage(message: DhcpMessage): Buffer {
  const w = new ByteWriter(MIN_MESSAGE_BYTES);
  w.u8(message.op === 'request' ? 1 : 2)
    .u8(HTYPE_ETHERNET)
    .u8(6)
    .u8(0);
  w.u32be(message.xid);
  w.u16be(message.secs).u16be(message.broadcast ? BROADCAST_FLAG : 0);
  for (const address of [message.ciaddr, message.yiaddr, message.siaddr, message.giaddr])
    w.bytes(requireIp(address));
  w.bytes(requireMac(message.chaddr)).zero(CHADDR_BYTES - 6);
  w.zero(SNAME_BYTES + FILE_BYTES);
  w.u32be(MAGIC_COOKIE);
  for (const [code, value] of message.options) encodeOption(w, code, value);
  w.u8(OPTION.END);
  if (w.length < MIN_MESSAGE_BYTES) w.zero(MIN_MESSAGE_BYTES - w.length);
  return w.toBuffer();
}

/** A value that is too long for one option goes into several of the same code (RFC 3396). */
function encodeOption(w: ByteWriter, code: number, value: Buffer): void {
  for (let at = 0; at === 0 || at < value.length; at += MAX_OPTION_BYTES) {
    const part = value.subarray(at, at + MAX_OPTION_BYTES);
    w.u8(code).u8(part.length).bytes(part);
  }
}

export function decodeDhcpMessage(bytes: Uint8Array): DhcpMessage {
  const r = new ByteReader(bytes, 'dhcp');
  const op = r.u8('op');
  if (op !== 1 && op !== 2) r.fail('op', `${op} is neither request nor reply`);
  const htype = r.u8('htype');
  const hlen = r.u8('hlen');
  if (htype !== HTYPE_ETHERNET || hlen !== 6) r.fail('htype', `hardware ${htype}/${hlen} is not Ethernet`);
  r.skip(1, 'hops');
  const xid = r.u32be('xid');
  const secs = r.u16be('secs');
  const broadcast = (r.u16be('flags') & BROADCAST_FLAG) !== 0;
  const address = (field: string): string => formatIp(r.bytes(4, field));
  const ciaddr = address('ciaddr');
  const yiaddr = address('yiaddr');
  const siaddr = address('siaddr');
  const giaddr = address('giaddr');
  const chaddr = formatMac(r.bytes(6, 'chaddr'));
  r.skip(CHADDR_BYTES - 6, 'chaddr');
  const sname = r.sub(SNAME_BYTES, 'sname');
  const file = r.sub(FILE_BYTES, 'file');
  if (r.u32be('magic cookie') !== MAGIC_COOKIE) r.fail('magic cookie', 'it is not 63 82 53 63');
  const options: DhcpOptions = new Map();
  decodeOptions(r, options);
  // Option 52: the two fields carry more options, file first (RFC 2131 section 4.1).
  const overload = options.get(OPTION.OVERLOAD)?.[0] ?? 0;
  if ((overload & OVERLOAD.FILE) !== 0) decodeOptions(file, options);
  if ((overload & OVERLOAD.SNAME) !== 0) decodeOptions(sname, options);
  return {
    ...{ op: op === 1 ? 'request' : 'reply', xid, secs, broadcast },
    ...{ ciaddr, yiaddr, siaddr, giaddr, chaddr, options },
  };
}

/** Up to the end option, or the end of the field: some servers leave the end option out. */
function decodeOptions(r: ByteReader, options: DhcpOptions): void {
  while (r.remaining > 0) {
    const code = r.u8('option');
    if (code === OPTION.PAD) continue;
    if (code === OPTION.END) return;
    const value = Buffer.from(r.bytes(r.u8('option length'), `option ${code}`));
    const before = options.get(code);
    options.set(code, before === undefined ? value : Buffer.concat([before, value]));
  }
}
