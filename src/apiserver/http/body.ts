// Reading request bodies: bounded in size, in whatever form Kubernetes clients send (JSON, YAML, protobuf), with an error
// that says where a malformed one is wrong.
import type { IncomingMessage } from 'node:http';
import { createGunzip } from 'node:zlib';
import { decodeKubernetesProtobuf } from '../../api/protobuf.ts';
import { badRequest, requestEntityTooLarge, unsupportedMediaType } from '../../api/status.ts';
import { errorMessage } from '../../lib/errors.ts';
import { isJsonObject, type JsonObject } from '../../lib/json.ts';

/** k8s.io/apiserver MaxRequestBodyBytes: 3 MiB, etcd's own limit for a request with room to spare. */
export const MAX_BODY_BYTES = 3 * 1024 * 1024;

const ACCEPTED = 'application/json, application/yaml, application/vnd.kubernetes.protobuf';

/** The whole body; 413 beyond the limit, whatever Content-Length claimed and however well it was compressed. */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > MAX_BODY_BYTES) throw tooLarge();
  const gzipped = request.headers['content-encoding'] === 'gzip';
  const source = gzipped ? request.pipe(createGunzip()) : request;
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > MAX_BODY_BYTES) throw tooLarge();
      chunks.push(chunk);
    }
  } catch (error) {
    if (gzipped && (error as { code?: string }).code?.startsWith('Z_'))
      throw badRequest(`the body is not gzip: ${errorMessage(error)}`);
    throw error;
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

function tooLarge(): Error {
  return requestEntityTooLarge(`limit is ${MAX_BODY_BYTES}`);
}

/** `application/json; charset=utf-8` → `application/json`. */
export function mediaType(request: IncomingMessage): string {
  return (request.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase();
}

/** An API object from a body; undefined for an empty one. */
export async function decodeObject(bytes: Buffer, type: string): Promise<JsonObject | undefined> {
  if (bytes.length === 0) return undefined;
  const value = await decodeValue(bytes, type);
  if (!isJsonObject(value)) throw badRequest('the body of the request is not an object');
  return value;
}

async function decodeValue(bytes: Buffer, type: string): Promise<unknown> {
  switch (type) {
    case '':
    case 'application/json':
    case 'application/octet-stream':
      return parseJson(bytes.toString('utf8'));
    case 'application/yaml':
    case 'application/x-yaml':
    case 'text/yaml':
      return parseYaml(bytes.toString('utf8'));
    case 'application/vnd.kubernetes.protobuf':
      return decodeKubernetesProtobuf(bytes);
    default:
      throw unsupportedMediaType(ACCEPTED);
  }
}

/** V8 tells the position, line and column of what is wrong. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw badRequest(`error decoding JSON: ${errorMessage(error)}`);
  }
}

/** YAML is rare on the wire (server-side apply), and its parser takes a while to load: only then. */
export async function parseYaml(text: string): Promise<unknown> {
  // JSON is YAML, and what kubectl sends as YAML is mostly JSON.
  if (text.startsWith('{')) {
    try {
      return JSON.parse(text);
    } catch {
      // Not JSON after all: flow-style YAML.
    }
  }
  const { parse } = await import('yaml');
  try {
    return parse(text, { maxAliasCount: 100 });
  } catch (error) {
    throw badRequest(`error decoding YAML: ${errorMessage(error)}`);
  }
}
