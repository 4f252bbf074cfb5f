// A writer of ustar archives (POSIX.1-1988, pax(1) "ustar interchange format"): plain files, directories and symbolic
// links owned by root, with a fixed time, so that the same entries give the same bytes. It does not read archives.
import { PodwireError } from '../lib/errors.ts';

export type TarEntry =
  | { type: 'file'; name: string; mode?: number; content: Uint8Array }
  | { type: 'directory'; name: string; mode?: number }
  | { type: 'symlink'; name: string; target: string };

const BLOCK_BYTES = 512;
const NAME_BYTES = 100;
const TYPE_FLAG = { file: '0', symlink: '2', directory: '5' } as const;

export function tarArchive(entries: readonly TarEntry[]): Buffer {
  const blocks: Uint8Array[] = [];
  for (const entry of entries) {
    blocks.push(header(entry));
    if (entry.type !== 'file') continue;
    blocks.push(entry.content);
    const rest = entry.content.length % BLOCK_BYTES;
    if (rest > 0) blocks.push(new Uint8Array(BLOCK_BYTES - rest));
  }
  blocks.push(new Uint8Array(2 * BLOCK_BYTES));
  return Buffer.concat(blocks);
}

/*
 *  offset  size  field            offset  size  field
 *       0   100  name                156     1  typeflag
 *     100     8  mode                157   100  linkname
 *     108     8  uid                 257     6  magic "ustar\0"
 *     116     8  gid                 263     2  version "00"
 *     124    12  size                265    32  uname
 *     136    12  mtime               297    32  gname
 *     148     8  checksum
 */
function header(entry: TarEntry): Buffer {
  const name = entry.type === 'directory' ? `${entry.name}/` : entry.name;
  if (Buffer.byteLength(name) > NAME_BYTES)
    throw new PodwireError('TAR_NAME', `tar entry ${name}: the name has more than ${NAME_BYTES} bytes`);
  const mode =
    entry.type === 'symlink' ? 0o777 : (entry.mode ?? (entry.type === 'directory' ? 0o755 : 0o644));
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, offset: number, size: number) =>
    block.write(`${value.toString(8).padStart(size - 1, '0')}\0`, offset, 'latin1');
  block.write(name, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(entry.type === 'file' ? entry.content.length : 0, 124, 12);
  octal(0, 136, 12);
  block.write('        ', 148, 'latin1');
  block.write(TYPE_FLAG[entry.type], 156, 'latin1');
  if (entry.type === 'symlink') block.write(entry.target, 157);
  block.write('ustar\x0000', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}
