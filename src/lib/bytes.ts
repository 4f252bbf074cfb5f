// A cursor over bytes, for pure codecs: ByteReader is total (it throws DecodeError, never reads past its end),
// ByteWriter grows one Buffer. Both name their byte order in the method: `u16be`, `u32le`.
import { DecodeError } from './errors.ts';

export class ByteReader {
  readonly buffer: Buffer;
  readonly proto: string;
  readonly end: number;
  offset: number;

  constructor(bytes: Uint8Array, proto: string, start = 0, end = bytes.length) {
    this.buffer = Buffer.isBuffer(bytes)
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.proto = proto;
    this.offset = start;
    this.end = Math.min(end, bytes.length);
  }

  get remaining(): number {
    return this.end - this.offset;
  }

  #take(size: number, field: string): number {
    const at = this.offset;
    if (size < 0 || at + size > this.end)
      throw new DecodeError(
        this.proto,
        field,
        at,
        `${size} bytes wanted, ${this.end - at} left`,
        'TRUNCATED',
      );
    this.offset = at + size;
    return at;
  }

  fail(field: string, message: string, code?: string): never {
    throw new DecodeError(this.proto, field, this.offset, message, code);
  }

  u8(field = 'u8'): number {
    return this.buffer[this.#take(1, field)]!;
  }
  u16be(field = 'u16'): number {
    return this.buffer.readUInt16BE(this.#take(2, field));
  }
  u32be(field = 'u32'): number {
    return this.buffer.readUInt32BE(this.#take(4, field));
  }
  u64be(field = 'u64'): bigint {
    return this.buffer.readBigUInt64BE(this.#take(8, field));
  }
  u16le(field = 'u16'): number {
    return this.buffer.readUInt16LE(this.#take(2, field));
  }
  u32le(field = 'u32'): number {
    return this.buffer.readUInt32LE(this.#take(4, field));
  }
  i32le(field = 'i32'): number {
    return this.buffer.readInt32LE(this.#take(4, field));
  }
  u64le(field = 'u64'): bigint {
    return this.buffer.readBigUInt64LE(this.#take(8, field));
  }
  /** A view, not a copy. */
  bytes(size: number, field = 'bytes'): Buffer {
    const at = this.#take(size, field);
    return this.buffer.subarray(at, at + size);
  }
  skip(size: number, field = 'padding'): void {
    this.#take(size, field);
  }
  /** A reader of the next `size` bytes, which are consumed here. */
  sub(size: number, field = 'part'): ByteReader {
    const at = this.#take(size, field);
    return new ByteReader(this.buffer, this.proto, at, at + size);
  }
}

export class ByteWriter {
  buffer: Buffer;
  length = 0;

  constructor(capacity = 256) {
    this.buffer = Buffer.allocUnsafe(capacity);
  }

  /** Makes room for `size` more bytes and returns where they begin. */
  reserve(size: number): number {
    const at = this.length;
    const need = at + size;
    if (need > this.buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(need, this.buffer.length * 2));
      this.buffer.copy(grown, 0, 0, at);
      this.buffer = grown;
    }
    this.length = need;
    return at;
  }

  u8(value: number): this {
    const at = this.reserve(1);
    this.buffer[at] = value;
    return this;
  }
  u16be(value: number): this {
    const at = this.reserve(2);
    this.buffer.writeUInt16BE(value, at);
    return this;
  }
  u32be(value: number): this {
    const at = this.reserve(4);
    this.buffer.writeUInt32BE(value, at);
    return this;
  }
  u64be(value: bigint): this {
    const at = this.reserve(8);
    this.buffer.writeBigUInt64BE(value, at);
    return this;
  }
  u16le(value: number): this {
    const at = this.reserve(2);
    this.buffer.writeUInt16LE(value, at);
    return this;
  }
  u32le(value: number): this {
    const at = this.reserve(4);
    this.buffer.writeUInt32LE(value, at);
    return this;
  }
  i32le(value: number): this {
    const at = this.reserve(4);
    this.buffer.writeInt32LE(value, at);
    return this;
  }
  bytes(value: Uint8Array): this {
    const at = this.reserve(value.length);
    this.buffer.set(value, at);
    return this;
  }
  zero(size: number): this {
    const at = this.reserve(size);
    this.buffer.fill(0, at, at + size);
    return this;
  }
  /** Starts over, keeping the memory. */
  reset(): void {
    this.length = 0;
  }
  /** A view of what was written; the next write may overwrite it after reset(). */
  view(): Buffer {
    return this.buffer.subarray(0, this.length);
  }
  /** A copy of what was written. */
  toBuffer(): Buffer {
    return Buffer.from(this.view());
  }
}
