// A routing table as pre-built UPDATE bytes, the same for every receiver: prefix lengths as the Internet has them
// (60 % /24), AS paths of 1 to 6, MED on 30 %, communities on 60 %. Written with no code of the speaker's codec, so
// that a mistake there is not made twice.

/** Park–Miller: small, and the same numbers everywhere. */
export function randomSource(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

const LENGTHS = [
  ...new Array<number>(60).fill(24),
  ...new Array<number>(9).fill(23),
  ...new Array<number>(12).fill(22),
  ...new Array<number>(6).fill(21),
  ...new Array<number>(6).fill(20),
  ...new Array<number>(4).fill(19),
  18,
  17,
  16,
];

/** NLRI of `count` disjoint prefixes from 11.0.0.0 on. */
export function nlriList(count: number): Buffer[] {
  const random = randomSource(7);
  const list: Buffer[] = [];
  let next = 11 * 2 ** 24;
  for (let i = 0; i < count; i++) {
    const length = LENGTHS[Math.floor(random() * LENGTHS.length)]!;
    const size = 2 ** (32 - length);
    next = Math.ceil(next / size) * size;
    if (Math.floor(next / 2 ** 24) === 127) next = 128 * 2 ** 24;
    const bytes = Buffer.alloc(5);
    bytes[0] = length;
    bytes.writeUInt32BE(next, 1);
    list.push(bytes.subarray(0, 1 + ((length + 7) >> 3)));
    next += size;
  }
  return list;
}

function attributeSet(random: () => number, nextHop: Buffer): Buffer {
  const pick = (low: number, high: number): number => low + Math.floor(random() * (high - low + 1));
  const parts: Buffer[] = [Buffer.from([0x40, 1, 1, random() < 0.8 ? 0 : 2])];
  const hops = [1, 2, 3, 3, 4, 4, 4, 5, 6][pick(0, 8)]!;
  const path = Buffer.alloc(2 + hops * 4);
  path[0] = 2;
  path[1] = hops;
  for (let i = 0; i < hops; i++)
    path.writeUInt32BE(random() < 0.6 ? pick(1000, 23000) : pick(131072, 400000), 2 + i * 4);
  parts.push(Buffer.from([0x40, 2, path.length]), path, Buffer.from([0x40, 3, 4]), nextHop);
  if (random() < 0.3) parts.push(Buffer.from([0x80, 4, 4, 0, 0, 0, pick(0, 200)]));
  parts.push(Buffer.from([0x40, 5, 4, 0, 0, 0, 100]));
  if (random() < 0.6) {
    const count = pick(1, 6);
    const communities = Buffer.alloc(count * 4);
    for (let i = 0; i < count; i++) {
      communities.writeUInt16BE(pick(1000, 64000), i * 4);
      communities.writeUInt16BE(pick(0, 999), i * 4 + 2);
    }
    parts.push(Buffer.from([0xc0, 8, communities.length]), communities);
  }
  return Buffer.concat(parts);
}

function updateMessage(attributes: Buffer, nlri: Buffer[]): Buffer {
  const length = 23 + attributes.length + nlri.reduce((sum, one) => sum + one.length, 0);
  const head = Buffer.alloc(23, 0xff);
  head.writeUInt16BE(length, 16);
  head[18] = 2;
  head.writeUInt16BE(0, 19);
  head.writeUInt16BE(attributes.length, 21);
  return Buffer.concat([head, attributes, ...nlri]);
}

/** `perUpdate` 1: one prefix a message, a sixth as many attribute sets; otherwise 1 to 2·perUpdate−1 share one set. */
export function buildTable(count: number, perUpdate: number, nextHop: string): Buffer {
  const random = randomSource(11);
  const hop = Buffer.from(nextHop.split('.').map(Number));
  const prefixes = nlriList(count);
  const messages: Buffer[] = [];
  if (perUpdate === 1) {
    const sets = Array.from({ length: Math.max(1, Math.floor(count / 6)) }, () => attributeSet(random, hop));
    for (const [i, prefix] of prefixes.entries())
      messages.push(updateMessage(sets[i % sets.length]!, [prefix]));
  } else
    for (let i = 0; i < prefixes.length; ) {
      const size = 1 + Math.floor(random() * (2 * perUpdate - 1));
      messages.push(updateMessage(attributeSet(random, hop), prefixes.slice(i, i + size)));
      i += size;
    }
  // End-of-RIB (RFC 4724).
  messages.push(Buffer.from(`${'ff'.repeat(16)}00170200000000`, 'hex'));
  return Buffer.concat(messages);
}
