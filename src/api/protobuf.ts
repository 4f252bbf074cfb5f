// Kubernetes' protobuf form of objects, both ways, driven by the schema (field numbers in gen/schema.json).
//
//   "k8s\0" | runtime.Unknown { 1: TypeMeta {1: apiVersion, 2: kind}, 2: raw, 3: contentEncoding, 4: contentType }
//
// `raw` is the object's message. kubectl sends it for what it creates itself, and kubelet, kube-proxy and controllers
// for nearly everything. https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { ApiError, errorMessage } from '../lib/errors.ts';
import { isJsonObject, type JsonObject, type JsonValue, ownValue, setOwn } from '../lib/json.ts';
import { decodeLeaf, encodeLeaf, isLeafMessage, leafWireType } from './protobuf-leaf.ts';
import { type FieldSchema, schemaOfKind, splitApiVersion, type TypeSchema, typeSchema } from './schema.ts';
import { badRequest } from './status.ts';

export const PROTOBUF_MEDIA_TYPE = 'application/vnd.kubernetes.protobuf';

const MAGIC = Uint8Array.of(0x6b, 0x38, 0x73, 0x00);
/** JSON's own limit in Kubernetes' decoder; no served type nests as deep, except schemas of custom resources. */
const MAX_DEPTH = 100;

/** What a field number means in a type: a field, or an embedded struct with numbers of its own. */
type NumberMeaning = FieldSchema | Map<number, FieldSchema>;

const tables = new WeakMap<TypeSchema, Map<number, NumberMeaning>>();

function tableOf(type: TypeSchema): Map<number, NumberMeaning> {
  const known = tables.get(type);
  if (known) return known;
  const table = new Map<number, NumberMeaning>();
  for (const field of type.fields.values()) {
    const [outer = 0, inner] = field.number;
    if (outer === 0) continue;
    if (inner === undefined) {
      table.set(outer, field);
      continue;
    }
    const embedded = table.get(outer);
    if (embedded instanceof Map) embedded.set(inner, field);
    else table.set(outer, new Map([[inner, field]]));
  }
  tables.set(type, table);
  return table;
}

/** True when the bytes start as Kubernetes' protobuf does. */
export function isKubernetesProtobuf(bytes: Uint8Array): boolean {
  return MAGIC.every((byte, index) => bytes[index] === byte);
}

/** Decodes a request body to the object its JSON form would be. Throws ApiError 400 on anything malformed. */
export function decodeKubernetesProtobuf(bytes: Uint8Array): JsonObject {
  if (!isKubernetesProtobuf(bytes))
    throw badRequest('the body is not Kubernetes protobuf: it does not start with "k8s\\0"');
  try {
    return decodeUnknown(bytes.subarray(MAGIC.length));
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw badRequest(`error decoding protobuf: ${errorMessage(error)}`);
  }
}

function decodeUnknown(bytes: Uint8Array): JsonObject {
  const reader = new BinaryReader(bytes);
  let apiVersion = '';
  let kind = '';
  let raw = new Uint8Array();
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (number === 1 && wire === WireType.LengthDelimited)
      [apiVersion, kind] = decodeTypeMeta(reader.bytes());
    else if (number === 2 && wire === WireType.LengthDelimited)
      raw = reader.bytes() as Uint8Array<ArrayBuffer>;
    else reader.skip(wire, number);
  }
  const { group, version } = splitApiVersion(apiVersion);
  const type = schemaOfKind(group, version, kind);
  if (!type) throw badRequest(`no kind "${kind}" is registered for version "${apiVersion}" in protobuf`);
  return { apiVersion, kind, ...decodeMessage(raw, type, 0) };
}

function decodeTypeMeta(bytes: Uint8Array): [apiVersion: string, kind: string] {
  const reader = new BinaryReader(bytes);
  let [apiVersion, kind] = ['', ''];
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (number === 1 && wire === WireType.LengthDelimited) apiVersion = reader.string();
    else if (number === 2 && wire === WireType.LengthDelimited) kind = reader.string();
    else reader.skip(wire, number);
  }
  return [apiVersion, kind];
}

function decodeMessage(bytes: Uint8Array, type: TypeSchema, depth: number): JsonObject {
  const result: JsonObject = {};
  decodeInto(result, bytes, tableOf(type), depth);
  return result;
}

function decodeInto(
  result: JsonObject,
  bytes: Uint8Array,
  table: Map<number, NumberMeaning>,
  depth: number,
): void {
  if (depth > MAX_DEPTH) throw badRequest(`error decoding protobuf: nested deeper than ${MAX_DEPTH}`);
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    const meaning = table.get(number);
    if (meaning === undefined) reader.skip(wire, number);
    else if (meaning instanceof Map) decodeInto(result, lengthDelimited(reader, wire), meaning, depth + 1);
    else decodeField(result, reader, wire, meaning, depth);
  }
}

function lengthDelimited(reader: BinaryReader, wire: WireType): Uint8Array {
  if (wire !== WireType.LengthDelimited)
    throw badRequest(`error decoding protobuf: wire type ${wire} for a message`);
  return reader.bytes();
}

function decodeField(
  result: JsonObject,
  reader: BinaryReader,
  wire: WireType,
  field: FieldSchema,
  depth: number,
): void {
  if (field.shape === 'map') {
    decodeMapEntry(result, lengthDelimited(reader, wire), field, depth);
    return;
  }
  if (field.shape === 'list') {
    const list = (ownValue(result, field.name) as JsonValue[] | undefined) ?? [];
    setOwn(result, field.name, list);
    if (wire === WireType.LengthDelimited && leafWireType(field.element) !== WireType.LengthDelimited) {
      const packed = new BinaryReader(reader.bytes());
      while (packed.pos < packed.len)
        list.push(decodeLeaf(packed, leafWireType(field.element), field.element) ?? 0);
      return;
    }
    const value = decodeValue(reader, wire, field.element, depth);
    if (value !== undefined) list.push(value);
    return;
  }
  const value = decodeValue(reader, wire, field.element, depth);
  if (value === undefined || (isZero(value) && !field.pointer && !field.required)) delete result[field.name];
  else setOwn(result, field.name, value);
}

/** Go sends every field that is no pointer, zero or not; its JSON form leaves those out. */
function isZero(value: JsonValue): boolean {
  return value === '' || value === 0 || value === false;
}

function decodeValue(
  reader: BinaryReader,
  wire: WireType,
  element: string,
  depth: number,
): JsonValue | undefined {
  const type = typeSchema(element);
  if (type && !isLeafMessage(element)) return decodeMessage(lengthDelimited(reader, wire), type, depth + 1);
  return decodeLeaf(reader, wire, element);
}

/** map<string, V> is a list of entries {1: key, 2: value}. */
function decodeMapEntry(result: JsonObject, bytes: Uint8Array, field: FieldSchema, depth: number): void {
  const reader = new BinaryReader(bytes);
  let key = '';
  let value: JsonValue | undefined;
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (number === 1 && wire === WireType.LengthDelimited) key = reader.string();
    else if (number !== 2) reader.skip(wire, number);
    else if (field.nested) value = decodeItems(lengthDelimited(reader, wire), field.element, depth);
    else value = decodeValue(reader, wire, field.element, depth);
  }
  const map = (ownValue(result, field.name) as JsonObject | undefined) ?? {};
  setOwn(map, key, value ?? (field.element === 'string' || field.element === 'bytes' ? '' : null));
  setOwn(result, field.name, map);
}

/** A list as a map's value is wrapped in a message {1: items} (ExtraValue). */
function decodeItems(bytes: Uint8Array, element: string, depth: number): JsonValue[] {
  const reader = new BinaryReader(bytes);
  const items: JsonValue[] = [];
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (number !== 1) reader.skip(wire, number);
    else items.push(decodeValue(reader, wire, element, depth) ?? null);
  }
  return items;
}

/** Encodes an object as a client that asked for protobuf expects it. Throws TypeError for a kind without schema. */
export function encodeKubernetesProtobuf(object: JsonObject): Uint8Array {
  const apiVersion = String(object.apiVersion ?? '');
  const kind = String(object.kind ?? '');
  const { group, version } = splitApiVersion(apiVersion);
  const type = schemaOfKind(group, version, kind);
  if (!type) throw new TypeError(`${apiVersion} ${kind} has no protobuf form`);
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.LengthDelimited).string(apiVersion).tag(2, WireType.LengthDelimited).string(kind);
  writer.join();
  writer.tag(2, WireType.LengthDelimited).fork();
  encodeMessage(writer, object, type);
  writer.join();
  const body = writer.finish();
  const result = new Uint8Array(MAGIC.length + body.length);
  result.set(MAGIC);
  result.set(body, MAGIC.length);
  return result;
}

function encodeMessage(writer: BinaryWriter, object: JsonObject, type: TypeSchema): void {
  for (const [number, meaning] of tableOf(type)) {
    if (!(meaning instanceof Map)) {
      encodeField(writer, number, ownValue(object, meaning.name), meaning);
      continue;
    }
    const present = [...meaning].filter(([, field]) => (ownValue(object, field.name) ?? null) !== null);
    if (present.length === 0) continue;
    writer.tag(number, WireType.LengthDelimited).fork();
    for (const [inner, field] of present) encodeField(writer, inner, ownValue(object, field.name), field);
    writer.join();
  }
}

function encodeField(
  writer: BinaryWriter,
  number: number,
  value: JsonValue | undefined,
  field: FieldSchema,
): void {
  if (value === undefined || value === null) return;
  if (field.shape === 'list') {
    if (Array.isArray(value)) for (const item of value) encodeValue(writer, number, item, field.element);
  } else if (field.shape === 'map') {
    if (isJsonObject(value))
      for (const [key, item] of Object.entries(value)) encodeMapEntry(writer, number, key, item, field);
  } else encodeValue(writer, number, value, field.element);
}

function encodeMapEntry(
  writer: BinaryWriter,
  number: number,
  key: string,
  item: JsonValue,
  field: FieldSchema,
): void {
  writer.tag(number, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.LengthDelimited).string(key);
  if (field.nested) {
    writer.tag(2, WireType.LengthDelimited).fork();
    for (const inner of Array.isArray(item) ? item : []) encodeValue(writer, 1, inner, field.element);
    writer.join();
  } else encodeValue(writer, 2, item, field.element);
  writer.join();
}

function encodeValue(writer: BinaryWriter, number: number, value: JsonValue, element: string): void {
  const type = typeSchema(element);
  if (type && !isLeafMessage(element)) {
    writer.tag(number, WireType.LengthDelimited).fork();
    if (isJsonObject(value)) encodeMessage(writer, value, type);
    writer.join();
    return;
  }
  writer.tag(number, leafWireType(element));
  encodeLeaf(writer, value, element);
}
