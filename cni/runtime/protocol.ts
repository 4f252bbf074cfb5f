// The server's side of the launcher's conversation (cni/launcher/launcher.c shows all of it). Pure: bytes in, values out.
// A request arrives whole or not at all, and it is never larger than MAX_REQUEST_BYTES.
import { DecodeError } from '../../src/lib/errors.ts';
import type { Answer } from './dispatch.ts';

export const GREETING = Buffer.from('PWCNI 1\n');
/** 4 MiB of configuration, the environment, and the head. */
export const MAX_REQUEST_BYTES = (4 << 20) + (512 << 10);

/** What the launcher says of itself, besides environment and stdin. */
export interface LauncherRequest {
  plugin: string;
  exe: string;
  pid: number;
  /** Inode of its network namespace. */
  netnsInode: bigint;
  /** CNI_NETNS as the launcher opened it; absent when the variable is empty. */
  podNetns?: { fd: number; inode: bigint } | { errno: number };
  environment: Record<string, string>;
  stdin: string;
}

/** Bytes of the request that follow the length; undefined until the four bytes are there. */
export function requestLength(bytes: Buffer): number | undefined {
  if (bytes.length < 4) return undefined;
  const length = bytes.readUInt32LE(0);
  if (length > MAX_REQUEST_BYTES)
    throw bad('length', 0, `${length} bytes are more than ${MAX_REQUEST_BYTES}`);
  return length;
}

/** Decodes what follows the length. */
export function decodeRequest(body: Buffer): LauncherRequest {
  const [head, afterHead] = readStrings(body, 0, 'head');
  const [variables, afterEnvironment] = readStrings(body, afterHead, 'environment');
  const fields = new Map(head.map(pair));
  const pid = Number(fields.get('pid'));
  if (!Number.isInteger(pid) || pid <= 0) throw bad('pid', 0, 'it is not a process id');
  const podNetns = decodePodNetns(fields);
  return {
    plugin: fields.get('plugin') ?? '',
    exe: fields.get('exe') ?? '',
    pid,
    netnsInode: inode(fields.get('netns'), 'netns'),
    ...(podNetns === undefined ? {} : { podNetns }),
    environment: Object.fromEntries(variables.map(pair)),
    stdin: body.toString('utf8', afterEnvironment),
  };
}

function decodePodNetns(fields: ReadonlyMap<string, string>): LauncherRequest['podNetns'] {
  const error = fields.get('podnserror');
  if (error !== undefined) return { errno: Number(error) || 0 };
  const text = fields.get('podns');
  if (text === undefined) return undefined;
  const [fd, number] = text.split(':');
  if (fd === undefined || !/^[0-9]{1,9}$/.test(fd)) throw bad('podns', 0, 'it is not FD:INODE');
  return { fd: Number(fd), inode: inode(number, 'podns') };
}

function inode(text: string | undefined, field: string): bigint {
  if (text === undefined || !/^[0-9]{1,20}$/.test(text)) throw bad(field, 0, 'it is not an inode number');
  return BigInt(text);
}

/** Strings that each end in NUL, up to an empty one; and where that one ends. */
function readStrings(body: Buffer, start: number, field: string): [strings: string[], next: number] {
  const strings: string[] = [];
  for (let at = start; ; ) {
    const end = body.indexOf(0, at);
    if (end < 0) throw bad(field, at, 'it is cut off');
    if (end === at) return [strings, end + 1];
    strings.push(body.toString('utf8', at, end));
    at = end + 1;
  }
}

function pair(text: string): [key: string, value: string] {
  const equals = text.indexOf('=');
  return equals < 0 ? [text, ''] : [text.slice(0, equals), text.slice(equals + 1)];
}

export function encodeAnswer(answer: Answer): Buffer {
  const stdout = Buffer.from(answer.stdout);
  const stderr = Buffer.from(answer.stderr);
  const head = Buffer.alloc(13);
  head.write('D', 0, 'latin1');
  head.writeUInt32LE(answer.exitCode, 1);
  head.writeUInt32LE(stdout.length, 5);
  head.writeUInt32LE(stderr.length, 9);
  return Buffer.concat([head, stdout, stderr]);
}

/** "Refused before anything was done": the launcher runs the plugin with node. */
export const REFUSAL = Buffer.from('R');

function bad(field: string, offset: number, message: string): DecodeError {
  return new DecodeError('cni-launcher', field, offset, message);
}
