// The nodes of the soak (soak.ts): speakers of ours in this process over a reconciler as in the agent, one in a process
// of its own that is killed, and a BIRD as Calico configures it. All in one mesh with short timers.
import { ACCEPT_ALL } from '../../../routing/bgp/policy/policy.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import type { SpeakerConfig } from '../../../routing/bgp/speaker/speaker-config.ts';
import { ReconcilerRouteSink } from '../../../routing/fib/reconciler-route-sink.ts';
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import { requireCidr } from '../../../src/lib/cidr.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { type JsonProcess, type Namespaces, netnsName } from '../../harness/bgp/bench-net.ts';
import { Bird } from '../../harness/bgp/peers.ts';

const HOLD_SECONDS = 3;
const RETRY_MS = 300;

export const addressOf = (n: number): string => `10.6.0.${n}`;
export const netnsOf = (n: number): string => netnsName(`s${n}`);

export interface SoakNode {
  readonly n: number;
  /** Says whether routes in the kernel come back by themselves after the link was down (not only without carrier). */
  readonly mendsKernel: boolean;
  start(blocks: readonly string[]): Promise<void>;
  announce(blocks: readonly string[]): Promise<void>;
  /** Dies and comes back: as an upgrade does it, or as a crash. */
  restart(blocks: readonly string[], kind: 'graceful' | 'hard'): Promise<void>;
  /** Ends one session, with a NOTIFICATION or without a word; undefined where that is not in our hands. */
  killSession?(other: number, kind: 'reset' | 'cut'): void;
  stop(): Promise<void>;
}

interface Mesh {
  readonly namespaces: Namespaces;
  readonly directory: string;
  readonly members: readonly number[];
}

const sessions = (mesh: Mesh, n: number): SpeakerConfig['peers'] =>
  mesh.members
    .filter(other => other !== n)
    .map(other => ({
      ...{ name: `n${other}`, address: addressOf(other), localAddress: addressOf(n), asn: 64512 },
      ...{ families: [4 as const], holdTimeSeconds: HOLD_SECONDS, connectRetryMs: RETRY_MS },
      ...{ importPolicy: ACCEPT_ALL, passive: other > n },
    }));

const speakerConfig = (mesh: Mesh, n: number): Omit<SpeakerConfig, 'originate'> => ({
  asn: 64512,
  routerId: addressOf(n),
  listen: [{ address: addressOf(n), port: 179 }],
  nextHops: { 4: addressOf(n) },
  peers: sessions(mesh, n),
});

export class OursNode implements SoakNode {
  readonly n: number;
  readonly mendsKernel = true;
  readonly #mesh: Mesh;
  readonly #netns: Netns;
  readonly #reconciler: KernelReconciler;
  #speaker: Speaker | undefined;

  constructor(mesh: Mesh, n: number) {
    this.n = n;
    this.#mesh = mesh;
    this.#netns = Netns.open(`/run/netns/${netnsOf(n)}`);
    this.#reconciler = new KernelReconciler({
      ...{ netns: this.#netns, lockDirectory: '/run', log: silentLogger(), verifyIntervalMs: 30_000 },
    });
  }

  #config(blocks: readonly string[]): SpeakerConfig {
    const originate = blocks.map(cidr => ({ cidr: requireCidr(cidr), origin: 'block', blackhole: true }));
    return { ...speakerConfig(this.#mesh, this.n), originate };
  }

  async start(blocks: readonly string[]): Promise<void> {
    await this.#reconciler.start();
    await this.#begin(blocks, false);
  }

  async #begin(blocks: readonly string[], restarting: boolean): Promise<void> {
    const setDesired: ReconcilerRouteSink['setTunnels'] = state => this.#reconciler.setDesired('bgp', state);
    this.#speaker = new Speaker({
      ...{ config: this.#config(blocks), transport: new TcpTransport(this.#netns), log: silentLogger() },
      ...{ sink: new ReconcilerRouteSink({ setDesired, restarting }), restarting },
    });
    await this.#speaker.start();
  }

  async announce(blocks: readonly string[]): Promise<void> {
    await this.#speaker!.configure(this.#config(blocks));
  }

  async restart(blocks: readonly string[], kind: 'graceful' | 'hard'): Promise<void> {
    await this.#speaker!.stop({ keepRoutes: kind === 'graceful' });
    await this.#begin(blocks, kind === 'graceful');
  }

  killSession(other: number, kind: 'reset' | 'cut'): void {
    const peer = this.#speaker?.neighbours.get(`n${other}`)?.peer;
    if (kind === 'cut') peer?.connection?.socket.destroy();
    else peer?.reset({ code: 6, subcode: 4, data: new Uint8Array(0) }, 'soak');
  }

  async stop(): Promise<void> {
    await this.#speaker?.stop();
    await this.#reconciler.stop();
    this.#netns.close();
  }
}

/** SIGKILL is its only way to restart. */
export class KilledNode implements SoakNode {
  readonly n: number;
  readonly mendsKernel = false;
  readonly #mesh: Mesh;
  #process: JsonProcess | undefined;

  constructor(mesh: Mesh, n: number) {
    this.n = n;
    this.#mesh = mesh;
  }

  #config(blocks: readonly string[]): object {
    return {
      ...speakerConfig(this.#mesh, this.n),
      originate: blocks.map(cidr => ({ cidr, blackhole: true })),
    };
  }

  async start(blocks: readonly string[]): Promise<void> {
    await this.#begin(blocks, false);
  }

  async #begin(blocks: readonly string[], restarting: boolean): Promise<void> {
    const config = { ...this.#config(blocks), fib: true, restarting };
    this.#process = this.#mesh.namespaces.spawnNode(netnsOf(this.n), 'speaker-process.ts', config);
    await this.#process.next();
  }

  async announce(blocks: readonly string[]): Promise<void> {
    await this.#process!.ask({ ask: 'configure', config: this.#config(blocks) });
  }

  async restart(blocks: readonly string[]): Promise<void> {
    const { child } = this.#process!;
    const gone = new Promise(resolve => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
    await this.#begin(blocks, true);
  }

  async stop(): Promise<void> {
    this.#process?.child.kill('SIGKILL');
  }
}

export class BirdNode implements SoakNode {
  readonly n: number;
  readonly mendsKernel = false;
  readonly #mesh: Mesh;
  #bird: Bird | undefined;

  constructor(mesh: Mesh, n: number) {
    this.n = n;
    this.#mesh = mesh;
  }

  #config(blocks: readonly string[]): string {
    const { n } = this;
    const peers = this.#mesh.members
      .filter(other => other !== n)
      .map(
        other =>
          `protocol bgp n${other} from mesh { neighbor ${addressOf(other)} as 64512; ${other > n ? 'passive on; ' : ''}}`,
      );
    return `router id ${addressOf(n)};
log stderr all;
protocol device { scan time 2; }
protocol direct { ipv4; }
protocol kernel { learn; persist; scan time 2; graceful restart; merge paths on; ipv4 { import all; export all; }; }
protocol static { ipv4; ${blocks.map(block => `route ${block} blackhole; `).join('')} }
template bgp mesh { local ${addressOf(n)} as 64512; multihop; graceful restart; hold time ${HOLD_SECONDS};
  connect delay time 1; connect retry time 1; error wait time 1,2;
  ipv4 { import all; add paths on; gateway recursive; export filter { if source = RTS_STATIC then accept; reject; }; }; }
${peers.join('\n')}
`;
  }

  #begin(blocks: readonly string[], extra: string[]): void {
    const { namespaces, directory } = this.#mesh;
    this.#bird = new Bird(namespaces, netnsOf(this.n), directory, this.#config(blocks), extra);
  }

  async start(blocks: readonly string[]): Promise<void> {
    this.#begin(blocks, []);
  }

  async announce(blocks: readonly string[]): Promise<void> {
    await this.#bird!.configure(this.#config(blocks));
  }

  async restart(blocks: readonly string[]): Promise<void> {
    const { child } = this.#bird!;
    const gone = new Promise(resolve => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
    this.#begin(blocks, ['-R']);
  }

  async stop(): Promise<void> {
    this.#bird?.child.kill('SIGKILL');
  }
}
