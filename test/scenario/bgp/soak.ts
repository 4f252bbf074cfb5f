// A mesh under random session kills, link cuts, restarts and changes of blocks. After every few seconds of that the
// links are mended, and every kernel must have exactly the right routes again; memory and descriptors must not grow.
//
//   sh scripts/run.sh test/scenario/bgp/soak.ts [SECONDS=600] [SEED]
import { readdirSync } from 'node:fs';
import { queryObjects } from 'node:v8';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { Namespaces, netnsName, until, wait } from '../../harness/bgp/bench-net.ts';
import { BIRD, missing, TemporaryDirectory } from '../../harness/bgp/peers.ts';
import { randomSource } from '../../harness/bgp/route-blob.ts';
import { addressOf, BirdNode, KilledNode, netnsOf, OursNode, type SoakNode } from './soak-nodes.ts';

const CHAOS_MS = 4000;
/** Hold time, BIRD's waits and its kernel scan, on a busy machine. */
const MEND_MS = 40_000;

export interface SoakRound {
  /** What was done to whom. */
  readonly actions: Readonly<Record<string, number>>;
  /** From the last link mended to the last kernel right. */
  readonly mendedMs: number;
  readonly heapMb: number;
  readonly rssMb: number;
  /** Alive in memory: those that were stopped should not be. */
  readonly speakers: number;
  readonly descriptors: number;
}

interface Member {
  readonly node: SoakNode;
  readonly blocks: Set<string>;
  readonly netns: Netns;
  readonly kernel: Rtnetlink;
  cut: boolean;
  /** What happens to one node happens in turn. */
  busy: Promise<void>;
}

class Soak {
  readonly #random: () => number;
  readonly #members: Member[];
  readonly #switch: Rtnetlink;
  #actions: Record<string, number> = {};

  constructor(nodes: readonly SoakNode[], sw: Rtnetlink, seed: number) {
    this.#random = randomSource(seed);
    this.#switch = sw;
    this.#members = nodes.map(node => {
      const netns = Netns.open(`/run/netns/${netnsOf(node.n)}`);
      const blocks = new Set([`10.244.${node.n}.0/26`]);
      return { node, blocks, netns, kernel: Rtnetlink.open(netns), cut: false, busy: Promise.resolve() };
    });
  }

  async start(): Promise<void> {
    for (const { node, blocks } of this.#members) await node.start([...blocks]);
    await this.mended();
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)]!;
  }

  #count(action: string): void {
    this.#actions[action] = (this.#actions[action] ?? 0) + 1;
  }

  #act(): void {
    const member = this.#pick(this.#members);
    const { node, blocks } = member;
    const dice = this.#random();
    if (dice < 0.4) {
      const kind = this.#pick(['reset', 'cut'] as const);
      const other = this.#pick(this.#members);
      if (node.killSession === undefined || other === member) return;
      node.killSession(other.node.n, kind);
      this.#count(`session ${kind}`);
    } else if (dice < 0.6) this.#cut(member);
    else if (dice < 0.75) {
      const kind = this.#pick(['graceful', 'hard'] as const);
      member.busy = member.busy.then(() => node.restart([...blocks], kind));
      this.#count(`restart ${kind}`);
    } else {
      const extra = `10.244.${node.n}.${64 * (1 + Math.floor(this.#random() * 3))}/26`;
      if (!blocks.delete(extra)) blocks.add(extra);
      member.busy = member.busy.then(() => node.announce([...blocks]));
      this.#count('change');
    }
  }

  /** Without carrier, or where routes come back by themselves, down for good: the kernel drops every route of the link. */
  #cut(member: Member): void {
    if (member.cut) return;
    member.cut = true;
    const down = member.node.mendsKernel && this.#random() < 0.5;
    const set = (up: boolean): void => {
      if (down) member.kernel.setLink('eth0', { up });
      else this.#switch.setLink(`p${this.#members.indexOf(member)}`, { up });
    };
    set(false);
    this.#count(down ? 'link down' : 'no carrier');
    const milliseconds = 50 + this.#random() ** 2 * 5000;
    const restored = wait(milliseconds).then(() => {
      set(true);
      member.cut = false;
    });
    member.busy = Promise.all([member.busy, restored]).then(() => undefined);
  }

  #wanted(member: Member): string[] {
    return this.#members
      .flatMap(other =>
        [...other.blocks].map(
          block => `${block} ${other === member ? 'blackhole' : addressOf(other.node.n)}`,
        ),
      )
      .sort();
  }

  #found(member: Member): string[] {
    return member.kernel
      .listRoutes({ family: 4 })
      .filter(route => route.destination.startsWith('10.244.') && (route.table ?? 254) === 254)
      .map(route => `${route.destination} ${route.type === 'blackhole' ? 'blackhole' : route.gateway}`)
      .sort();
  }

  /** What is wrong in which kernel; empty when every kernel is right. */
  #wrong(): string[] {
    return this.#members.flatMap(member => {
      const wanted = this.#wanted(member);
      const found = this.#found(member);
      return [
        ...wanted.filter(route => !found.includes(route)).map(route => `n${member.node.n} lacks ${route}`),
        ...found
          .filter(route => !wanted.includes(route))
          .map(route => `n${member.node.n} still has ${route}`),
      ];
    });
  }

  async mended(): Promise<number> {
    await Promise.all(this.#members.map(({ busy }) => busy));
    const from = performance.now();
    if (!(await until(() => this.#wrong().length === 0, MEND_MS, 50)))
      throw new Error(`not mended within ${MEND_MS / 1000} s: ${this.#wrong().join(', ')}`);
    return performance.now() - from;
  }

  async round(): Promise<SoakRound> {
    this.#actions = {};
    for (const end = performance.now() + CHAOS_MS; performance.now() < end; ) {
      this.#act();
      await wait(30 + this.#random() * 300);
    }
    const mendedMs = await this.mended();
    // Counting collects all garbage first, more thoroughly than gc() does.
    const speakers = queryObjects(Speaker, { format: 'count' });
    const { heapUsed, rss } = process.memoryUsage();
    return {
      ...{ actions: this.#actions, mendedMs, speakers, heapMb: heapUsed / 2 ** 20, rssMb: rss / 2 ** 20 },
      descriptors: readdirSync('/proc/self/fd').length,
    };
  }

  async stop(): Promise<void> {
    for (const { node, kernel, netns } of this.#members) {
      await node.stop();
      kernel.close();
      netns.close();
    }
  }
}

/** Throws when a route is wrong for good. */
export async function soak(
  seconds: number,
  seed: number,
  report: (round: SoakRound) => void = () => undefined,
): Promise<SoakRound[]> {
  using namespaces = new Namespaces();
  using directory = new TemporaryDirectory();
  const members = missing(BIRD, 'bird2') === false ? [1, 2, 3, 4, 5, 6] : [1, 2, 3, 4, 5];
  namespaces.addLan(
    'ssw',
    members.map(n => ({ name: `s${n}`, addresses: [`${addressOf(n)}/24`] })),
  );
  const mesh = { namespaces, directory: directory.path, members };
  using swNetns = Netns.open(`/run/netns/${netnsName('ssw')}`);
  using sw = Rtnetlink.open(swNetns);
  const nodes = members.map(n =>
    n === 6 ? new BirdNode(mesh, n) : n === 5 ? new KilledNode(mesh, n) : new OursNode(mesh, n),
  );
  const running = new Soak(nodes, sw, seed);
  const rounds: SoakRound[] = [];
  try {
    await running.start();
    for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
      const round = await running.round();
      rounds.push(round);
      report(round);
    }
  } finally {
    await running.stop();
    await namespaces.killChildren();
  }
  return rounds;
}

/** By least squares: what one more round adds. */
export function slope(values: readonly number[]): number {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const spread = values.reduce((sum, _, i) => sum + (i - middle) ** 2, 0);
  return values.reduce((sum, value, i) => sum + (i - middle) * (value - mean), 0) / spread;
}

if (import.meta.main) {
  const seed = Number(process.argv[3] ?? Date.now() % 2147483646);
  console.log(`seed ${seed}`);
  const seconds = Number(process.argv[2] ?? 600);
  const rounds = await soak(seconds, seed, ({ actions, mendedMs, heapMb, rssMb, descriptors, speakers }) =>
    console.log(
      `mended in ${mendedMs.toFixed(0)} ms, heap ${heapMb.toFixed(1)} MB, resident ${rssMb.toFixed(0)} MB,`,
      `${descriptors} descriptors, ${speakers} speakers,`,
      Object.entries(actions)
        .map(([name, count]) => `${name} ${count}`)
        .join(', '),
    ),
  );
  // The first third warms up.
  const later = rounds.slice(Math.floor(rounds.length / 3));
  const perRound = (of: (round: SoakRound) => number): string => (slope(later.map(of)) * 1024).toFixed(1);
  console.log(
    `${rounds.length} rounds, no route lost for good; per round heap ${perRound(one => one.heapMb)} kB,`,
    `resident ${perRound(one => one.rssMb)} kB; slowest mend ${Math.max(...rounds.map(one => one.mendedMs)).toFixed(0)} ms`,
  );
}
