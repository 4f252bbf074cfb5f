// Protobuf forms of the schema's scalar types, among them those that are small messages on the wire and scalars in JSON:
//   Time, MicroTime {1: seconds, 2: nanos} · Quantity {1: text} · IntOrString {1: kind, 2: int, 3: text}
//   RawExtension, FieldsV1, JSON {1: raw}
import {
  type BinaryReader,
  type BinaryWriter,
  BinaryReader as Reader,
  WireType,
} from '@bufbuild/protobuf/wire';
import type { JsonValue } from '../lib/json.ts';
import { badRequest } from './status.ts';

const VARINTS = new Set(['bool', 'int32', 'int64']);
const MESSAGES = new Set([
  'Time',
  'MicroTime',
  'Quantity',
  'IntOrString',
  'RawExtension',
  'FieldsV1',
  'JSON',
]);

export function isLeafMessage(element: string): boolean {
  return MESSAGES.has(element);
}

/** How a value of this type is framed; types of the schema and leaf messages are length-delimited. */
export function leafWireType(element: string): WireType {
  if (VARINTS.has(element)) return WireType.Varint;
  return element === 'double' ? WireType.Bit64 : WireType.LengthDelimited;
}

/** Reads one value. Undefined means "not set" (a zero time). */
export function decodeLeaf(reader: BinaryReader, wire: WireType, element: string): JsonValue | undefined {
  if (wire !== leafWireType(element))
    throw badRequest(`error decoding protobuf: wire type ${wire} for a field of type ${element}`);
  switch (element) {
    case 'bool':
      return reader.bool();
    case 'int32':
      return reader.int32();
    case 'int64':
      return Number(reader.int64());
    case 'double':
      return reader.double();
    case 'bytes':
      return Buffer.from(reader.bytes()).toString('base64');
    case 'string':
      return reader.string();
    default:
      return decodeSmallMessage(reader.bytes(), element);
  }
}

interface SmallMessage {
  number: (field: number) => number;
  bytes: (field: number) => Uint8Array | undefined;
}

/** The small messages have at most one value per field, of a varint or of bytes. */
function readSmallMessage(bytes: Uint8Array): SmallMessage {
  const numbers = new Map<number, number>();
  const blobs = new Map<number, Uint8Array>();
  const reader = new Reader(bytes);
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (wire === WireType.Varint) numbers.set(number, Number(reader.int64()));
    else if (wire === WireType.LengthDelimited) blobs.set(number, reader.bytes());
    else reader.skip(wire, number);
  }
  return { number: field => numbers.get(field) ?? 0, bytes: field => blobs.get(field) };
}

function text(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString('utf8');
}

function decodeSmallMessage(bytes: Uint8Array, element: string): JsonValue | undefined {
  const message = readSmallMessage(bytes);
  switch (element) {
    case 'Time':
    case 'MicroTime':
      return timeText(message.number(1), message.number(2), element === 'MicroTime');
    case 'Quantity':
      return text(message.bytes(1)) || '0';
    case 'IntOrString':
      return message.number(1) === 1 ? text(message.bytes(3)) : message.number(2) | 0;
    default: {
      const raw = text(message.bytes(1));
      return raw === '' ? undefined : (JSON.parse(raw) as JsonValue);
    }
  }
}

/** RFC 3339: whole seconds, or six digits for MicroTime. The zero time is none. */
function timeText(seconds: number, nanos: number, micro: boolean): string | undefined {
  if (seconds === 0 && nanos === 0) return undefined;
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) throw badRequest('error decoding protobuf: time out of range');
  const whole = date.toISOString().slice(0, -5);
  return micro ? `${whole}.${String(Math.floor(nanos / 1000)).padStart(6, '0')}Z` : `${whole}Z`;
}

export function encodeLeaf(writer: BinaryWriter, value: JsonValue, element: string): void {
  switch (element) {
    case 'bool':
      writer.bool(value === true);
      return;
    case 'int32':
      writer.int32(Number(value) | 0);
      return;
    case 'int64':
      writer.int64(BigInt(Math.trunc(Number(value) || 0)));
      return;
    case 'double':
      writer.double(Number(value));
      return;
    case 'bytes':
      writer.bytes(Buffer.from(String(value), 'base64'));
      return;
    case 'string':
      writer.string(String(value));
      return;
    default:
      writer.fork();
      encodeSmallMessage(writer, value, element);
      writer.join();
  }
}

function encodeSmallMessage(writer: BinaryWriter, value: JsonValue, element: string): void {
  switch (element) {
    case 'Time':
    case 'MicroTime': {
      const ms = Date.parse(String(value));
      if (Number.isNaN(ms)) return;
      const fraction = /\.(\d{1,9})/.exec(String(value))?.[1] ?? '';
      writer.tag(1, WireType.Varint).int64(BigInt(Math.floor(ms / 1000)));
      writer.tag(2, WireType.Varint).int32(element === 'MicroTime' ? Number(fraction.padEnd(9, '0')) : 0);
      return;
    }
    case 'Quantity':
      writer.tag(1, WireType.LengthDelimited).string(String(value));
      return;
    case 'IntOrString': {
      const isText = typeof value === 'string';
      writer.tag(1, WireType.Varint).int64(isText ? 1n : 0n);
      writer.tag(2, WireType.Varint).int32(isText ? 0 : Number(value) | 0);
      writer.tag(3, WireType.LengthDelimited).string(isText ? value : '');
      return;
    }
    default:
      writer.tag(1, WireType.LengthDelimited).bytes(Buffer.from(JSON.stringify(value), 'utf8'));
  }
}
