// What a table knows of its chains and jumps, in columns: a proxy has 60,000 chains and 160,000 jumps, and an object for
// each would be most of the work.

export interface ChainColumns {
  names: readonly string[];
  /** Index into HOOKS; -1 for chains of users. */
  hooks: Int8Array;
  /** Offsets of their first entries, of their first rules, and of the rules at their ends. */
  starts: Int32Array;
  firsts: Int32Array;
  tails: Int32Array;
  /** Numbers of the entries at `starts`. */
  entries: Int32Array;
  /** Of digest.ts; NaN until somebody asks. */
  digests: Float64Array;
}

/** All jumps in order, and rules without a target, which "jump" to the next rule. */
export interface Jumps {
  /** Offsets of their verdicts, */
  offsets: Int32Array;
  /** and what stands there. */
  verdicts: Int32Array;
}

function grown(old: Int32Array, size: number): Int32Array {
  const now = new Int32Array(size);
  now.set(old);
  return now;
}

/** Jumps while they are collected. */
export class JumpList {
  offsets: Int32Array;
  verdicts: Int32Array;
  count = 0;

  constructor(capacity: number) {
    this.offsets = new Int32Array(capacity);
    this.verdicts = new Int32Array(capacity);
  }

  add(offset: number, verdict: number): void {
    const i = this.count++;
    if (i === this.offsets.length) {
      this.offsets = grown(this.offsets, i * 2 + 64);
      this.verdicts = grown(this.verdicts, i * 2 + 64);
    }
    this.offsets[i] = offset;
    this.verdicts[i] = verdict;
  }

  done(): Jumps {
    const { offsets, verdicts, count } = this;
    return { offsets: offsets.subarray(0, count), verdicts: verdicts.subarray(0, count) };
  }
}

/** Chains while they are collected. */
export class ColumnList {
  readonly names: string[];
  hooks: Int8Array;
  starts: Int32Array;
  firsts: Int32Array;
  tails: Int32Array;
  entries: Int32Array;
  digests: Float64Array;
  count = 0;

  constructor(capacity: number) {
    this.names = new Array<string>(capacity);
    this.hooks = new Int8Array(capacity);
    this.starts = new Int32Array(capacity);
    this.firsts = new Int32Array(capacity);
    this.tails = new Int32Array(capacity);
    this.entries = new Int32Array(capacity);
    this.digests = new Float64Array(capacity);
  }

  /** `tail` and `digest` may be set later, at `count - 1`. */
  add(name: string, hook: number, start: number, first: number, entry: number): void {
    const i = this.count++;
    if (i === this.starts.length) this.#grow(i * 2 + 64);
    this.names[i] = name;
    this.hooks[i] = hook;
    this.starts[i] = start;
    this.firsts[i] = first;
    this.entries[i] = entry;
    this.digests[i] = Number.NaN;
  }

  #grow(size: number): void {
    const hooks = new Int8Array(size);
    hooks.set(this.hooks);
    this.hooks = hooks;
    const digests = new Float64Array(size);
    digests.set(this.digests);
    this.digests = digests;
    this.starts = grown(this.starts, size);
    this.firsts = grown(this.firsts, size);
    this.tails = grown(this.tails, size);
    this.entries = grown(this.entries, size);
  }

  done(): ChainColumns {
    const { names, count } = this;
    names.length = count;
    return {
      names,
      hooks: this.hooks.subarray(0, count),
      starts: this.starts.subarray(0, count),
      firsts: this.firsts.subarray(0, count),
      tails: this.tails.subarray(0, count),
      entries: this.entries.subarray(0, count),
      digests: this.digests.subarray(0, count),
    };
  }
}
