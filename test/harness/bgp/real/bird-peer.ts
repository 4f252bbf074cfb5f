// BIRD 2 for the interop matrix: configuration as a file, `birdc` for the rest.
import { OURS, type Pair, THEIRS } from '../pair.ts';
import { Bird, killed } from '../peers.ts';
import { isV6, neighboursOf, type RealPeer, type RealPeerSetup } from './real-peer.ts';

export class BirdPeer implements RealPeer {
  readonly #pair: Pair;
  readonly #setup: RealPeerSetup;
  #cidrs: readonly string[];
  #bird: Bird | undefined;

  constructor(pair: Pair, setup: RealPeerSetup, cidrs: readonly string[]) {
    this.#pair = pair;
    this.#setup = setup;
    this.#cidrs = cidrs;
  }

  #config(): string {
    const { asn, remoteAsn, password, gracefulRestart, addPath, reflector } = this.#setup;
    const channel = `import all; export where source != RTS_DEVICE;${addPath === true ? ' add paths on;' : ''}`;
    const routes = (v6: boolean): string =>
      this.#cidrs
        .filter(cidr => isV6(cidr) === v6)
        .map(cidr => `route ${cidr} blackhole; `)
        .join('');
    const sessions = neighboursOf(this.#setup).map(
      (address, i) => `protocol bgp n${i} { local ${THEIRS.v4} as ${asn}; neighbor ${address} as ${remoteAsn};
  connect delay time 1; connect retry time 1; error wait time 1,2; graceful restart ${gracefulRestart === true ? 'on' : 'aware'};
  ${password === undefined ? '' : `password "${password}";`} ${reflector === true ? 'rr client;' : ''}
  ipv4 { ${channel} }; ipv6 { ${channel} next hop address ${THEIRS.v6}; }; }`,
    );
    return `router id ${THEIRS.v4};
log stderr all;
protocol device { scan time 2; }
protocol direct { ipv4; ipv6; }
protocol static s4 { ipv4; ${routes(false)} }
protocol static s6 { ipv6; ${routes(true)} }
${sessions.join('\n')}
`;
  }

  async start(): Promise<void> {
    const { namespaces, theirNetns, directory } = this.#pair;
    const again = this.#bird === undefined ? [] : ['-R'];
    this.#bird = new Bird(namespaces, theirNetns, directory.path, this.#config(), again);
  }

  async announce(cidrs: readonly string[]): Promise<void> {
    this.#cidrs = cidrs;
    await this.#bird!.configure(this.#config());
  }

  async learned(): Promise<string[]> {
    const text = await this.#bird!.ask('show route protocol n0');
    const list: string[] = [];
    let prefix = '';
    // A second path stands below the first, without the prefix.
    for (const line of text.split('\n')) {
      prefix = /^(?:\d{4}-)?\s?([0-9a-f.:]+\/\d+)\s/.exec(line)?.[1] ?? prefix;
      if (/(unicast|unreachable) \[n0 /.test(line)) list.push(prefix);
    }
    return list.sort();
  }

  show(cidr: string): Promise<string> {
    return this.#bird!.ask(`show route ${cidr} all`);
  }

  async requestRefresh(): Promise<void> {
    await this.#bird!.ask('reload in n0');
  }

  async reset(): Promise<void> {
    await this.#bird!.ask('restart n0');
  }

  async kill(): Promise<void> {
    await killed(this.#bird!.child);
  }
}

/** The session of BIRD that is ours is the first, `n0`. */
export const birdPeer = (pair: Pair, setup: RealPeerSetup, cidrs: readonly string[]): RealPeer =>
  new BirdPeer(
    pair,
    { ...setup, neighbours: [OURS.v4, ...(setup.neighbours ?? []).filter(a => a !== OURS.v4)] },
    cidrs,
  );
