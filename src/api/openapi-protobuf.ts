// The OpenAPI v2 document in gnostic's protobuf form, the only one kubectl before 1.27 accepts.
// Field numbers: gnostic openapiv2/OpenAPIv2.proto.
// Only what openApiV2Document has is encoded.
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { isJsonObject, type JsonObject, type JsonValue } from '../lib/json.ts';

/** What kubectl's Accept says, and what the answer must say: its own MIME parser refuses the "@". */
export const OPENAPI_V2_ACCEPT = 'application/com.github.proto-openapi.spec.v2@v1.0+protobuf';
export const OPENAPI_V2_MEDIA_TYPE = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';

type Encode = (writer: BinaryWriter) => void;

function message(writer: BinaryWriter, field: number, encode: Encode): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  encode(writer);
  writer.join();
}

function text(writer: BinaryWriter, field: number, value: JsonValue | undefined): void {
  if (typeof value === 'string' && value !== '') writer.tag(field, WireType.LengthDelimited).string(value);
}

/** NamedX { name = 1, value = 2 }. */
function named(writer: BinaryWriter, field: number, name: string, encode: Encode): void {
  message(writer, field, entry => {
    text(entry, 1, name);
    message(entry, 2, encode);
  });
}

function objectOf(value: JsonValue | undefined): JsonObject {
  return isJsonObject(value) ? value : {};
}

/** Any { yaml = 2 }; JSON is YAML. */
function vendorExtensions(writer: BinaryWriter, field: number, object: JsonObject): void {
  for (const [name, value] of Object.entries(object))
    if (name.startsWith('x-')) named(writer, field, name, any => text(any, 2, JSON.stringify(value)));
}

/** Schema: $ref 1, format 2, description 4, required 19, additionalProperties 21, type 22, items 23, properties 25, x- 31. */
function schema(writer: BinaryWriter, value: JsonObject): void {
  text(writer, 1, value.$ref);
  text(writer, 2, value.format);
  text(writer, 4, value.description);
  for (const name of Array.isArray(value.required) ? value.required : []) text(writer, 19, name);
  if (isJsonObject(value.additionalProperties)) {
    const inner = value.additionalProperties;
    message(writer, 21, item => message(item, 1, child => schema(child, inner)));
  }
  if (typeof value.type === 'string') message(writer, 22, item => text(item, 1, value.type));
  if (isJsonObject(value.items)) {
    const inner = value.items;
    message(writer, 23, item => message(item, 1, child => schema(child, inner)));
  }
  if (isJsonObject(value.properties)) {
    const { properties } = value;
    message(writer, 25, list => {
      for (const [name, property] of Object.entries(properties))
        named(list, 1, name, child => schema(child, objectOf(property)));
    });
  }
  vendorExtensions(writer, 31, value);
}

/** ParametersItem { parameter 1 } → Parameter { nonBody 2 } → NonBodyParameter { query 3 } → in 2, description 3, name 4, type 6. */
function queryParameter(writer: BinaryWriter, parameter: JsonObject): void {
  message(writer, 1, one =>
    message(one, 2, nonBody =>
      message(nonBody, 3, query => {
        text(query, 2, parameter.in);
        text(query, 3, parameter.description);
        text(query, 4, parameter.name);
        text(query, 6, parameter.type);
      }),
    ),
  );
}

/** Operation: description 3, operationId 5, parameters 8, responses 9, x- 13. */
function operation(writer: BinaryWriter, value: JsonObject): void {
  text(writer, 3, value.description);
  text(writer, 5, value.operationId);
  for (const parameter of Array.isArray(value.parameters) ? value.parameters : [])
    message(writer, 8, item => queryParameter(item, objectOf(parameter)));
  message(writer, 9, responses => {
    for (const [code, response] of Object.entries(objectOf(value.responses)))
      named(responses, 1, code, item =>
        message(item, 1, one => text(one, 1, objectOf(response).description)),
      );
  });
  vendorExtensions(writer, 13, value);
}

/** Document: swagger 1, info 2 {title 1, version 2}, paths 8 {path 2}, definitions 9 {1}. */
export function encodeOpenApiV2(document: JsonObject): Uint8Array {
  const writer = new BinaryWriter();
  text(writer, 1, document.swagger);
  message(writer, 2, info => {
    text(info, 1, objectOf(document.info).title);
    text(info, 2, objectOf(document.info).version);
  });
  message(writer, 8, paths => {
    for (const [path, item] of Object.entries(objectOf(document.paths)))
      named(paths, 2, path, value =>
        message(value, 8, patch => operation(patch, objectOf(objectOf(item).patch))),
      );
  });
  message(writer, 9, definitions => {
    for (const [name, definition] of Object.entries(objectOf(document.definitions)))
      named(definitions, 1, name, value => schema(value, objectOf(definition)));
  });
  return writer.finish();
}
