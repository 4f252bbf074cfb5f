// Mutated kernel messages: a decoder returns a value or throws DecodeError, never anything else, never hangs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeConntrack } from '../../../src/codec/netlink/conntrack.ts';
import { decodeRouteEvent } from '../../../src/codec/netlink/event.ts';
import { decodeError, decodeMessages, type NetlinkMessage } from '../../../src/codec/netlink/message.ts';
import { DecodeError, PodwireError } from '../../../src/lib/errors.ts';

const RUNS = Number(process.env.FUZZ_RUNS ?? 100_000);
const recorded = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../fixtures/netlink/iproute2.json'), 'utf8'),
) as Record<string, { hex: string }>;
const seeds = Object.values(recorded).map(({ hex }) => Buffer.from(hex, 'hex'));

/** A small generator with a fixed seed: a failure can be run again. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

const decoders: ((message: NetlinkMessage) => unknown)[] = [decodeRouteEvent, decodeError, decodeConntrack];

test(`netlink decoders survive ${RUNS} mutations`, () => {
  const random = mulberry32(Number(process.env.FUZZ_SEED ?? 1));
  for (let run = 0; run < RUNS; run++) {
    const bytes = Buffer.from(seeds[random() % seeds.length]!);
    for (let i = random() % 6; i >= 0; i--) bytes[random() % bytes.length] = random();
    const cut = random() % 4 === 0 ? bytes.subarray(0, random() % (bytes.length + 1)) : bytes;
    try {
      for (const message of decodeMessages(cut)) for (const decode of decoders) decode(message);
    } catch (error) {
      const known =
        error instanceof DecodeError || (error instanceof PodwireError && error.code === 'INVALID_ADDRESS');
      if (!known) throw new Error(`run ${run}: ${cut.toString('hex')}`, { cause: error });
    }
  }
});
