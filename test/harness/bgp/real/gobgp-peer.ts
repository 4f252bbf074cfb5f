// GoBGP for the interop matrix: a TOML file for sessions, its own client for routes.
import { type ChildProcess, execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../bench-net.ts';
import { OURS, type Pair, THEIRS } from '../pair.ts';
import { GOBGPD, killed } from '../peers.ts';
import { isV6, neighboursOf, type RealPeer, type RealPeerSetup } from './real-peer.ts';

export class GobgpPeer implements RealPeer {
  readonly #pair: Pair;
  readonly #setup: RealPeerSetup;
  readonly #file: string;
  #cidrs: readonly string[];
  #child: ChildProcess | undefined;

  constructor(pair: Pair, setup: RealPeerSetup, cidrs: readonly string[]) {
    this.#pair = pair;
    this.#setup = setup;
    this.#cidrs = cidrs;
    this.#file = join(pair.directory.path, 'gobgp.toml');
  }

  #neighbour(address: string): string {
    const { remoteAsn, password, gracefulRestart, addPath, reflector } = this.#setup;
    const families = ['ipv4-unicast', 'ipv6-unicast'].map(
      name => ` [[neighbors.afi-safis]]
  [neighbors.afi-safis.config]
   afi-safi-name = "${name}"
${gracefulRestart === true ? '  [neighbors.afi-safis.mp-graceful-restart.config]\n   enabled = true\n' : ''}${addPath === true ? '  [neighbors.afi-safis.add-paths.config]\n   receive = true\n   send-max = 8\n' : ''}`,
    );
    return `[[neighbors]]
 [neighbors.config]
  neighbor-address = "${address}"
  peer-as = ${remoteAsn}
${password === undefined ? '' : `  auth-password = "${password}"\n`} [neighbors.timers.config]
  connect-retry = 1
${gracefulRestart === true ? ' [neighbors.graceful-restart.config]\n  enabled = true\n  restart-time = 60\n' : ''}${reflector === true ? ` [neighbors.route-reflector.config]\n  route-reflector-client = true\n  route-reflector-cluster-id = "${THEIRS.v4}"\n` : ''}${families.join('')}`;
  }

  async start(): Promise<void> {
    const again = this.#child === undefined ? [] : ['-r'];
    writeFileSync(
      this.#file,
      `[global.config]
 as = ${this.#setup.asn}
 router-id = "${THEIRS.v4}"
${neighboursOf(this.#setup)
  .map(address => this.#neighbour(address))
  .join('')}`,
    );
    const args = ['-f', this.#file, '-l', 'warn', '--api-hosts', '127.0.0.1:50051', ...again];
    this.#child = this.#pair.namespaces.spawn(this.#pair.theirNetns, GOBGPD, args);
    await until(() => this.#try('global').includes('AS:'), 5000, 100);
    for (const cidr of this.#cidrs) this.#change('add', cidr);
  }

  #ask(...args: string[]): string {
    return execFileSync('nsenter', [`--net=/run/netns/${this.#pair.theirNetns}`, 'gobgp', ...args], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  }

  /** Empty where the server is not there, or knows nothing. */
  #try(...args: string[]): string {
    try {
      return this.#ask(...args);
    } catch {
      return '';
    }
  }

  #change(verb: 'add' | 'del', cidr: string): void {
    const hop = isV6(cidr) ? THEIRS.v6 : THEIRS.v4;
    const family = isV6(cidr) ? 'ipv6' : 'ipv4';
    this.#ask('global', 'rib', '-a', family, verb, cidr, ...(verb === 'add' ? ['nexthop', hop] : []));
  }

  async announce(cidrs: readonly string[]): Promise<void> {
    for (const cidr of this.#cidrs) if (!cidrs.includes(cidr)) this.#change('del', cidr);
    for (const cidr of cidrs) if (!this.#cidrs.includes(cidr)) this.#change('add', cidr);
    this.#cidrs = cidrs;
  }

  async learned(): Promise<string[]> {
    return ['ipv4', 'ipv6']
      .flatMap(family => {
        const text = this.#try('neighbor', OURS.v4, 'adj-in', '-a', family, '-j');
        if (!text.startsWith('{')) return [];
        const table = JSON.parse(text) as Record<string, readonly unknown[]>;
        return Object.entries(table).flatMap(([prefix, paths]) => paths.map(() => prefix));
      })
      .sort();
  }

  async show(cidr: string): Promise<string> {
    return this.#try('neighbor', OURS.v4, 'adj-in', cidr, '-a', isV6(cidr) ? 'ipv6' : 'ipv4', '-j');
  }

  async requestRefresh(): Promise<void> {
    throw new Error('GoBGP answers ROUTE-REFRESH, and never sends it: softresetin reads its own copy again');
  }

  async reset(): Promise<void> {
    // After `reset` it refuses everybody for 30 s (its idle hold time, which no configuration of its changes).
    for (const verb of ['disable', 'enable']) this.#ask('neighbor', OURS.v4, verb);
  }

  async kill(): Promise<void> {
    await killed(this.#child!);
  }
}

export const gobgpPeer = (pair: Pair, setup: RealPeerSetup, cidrs: readonly string[]): RealPeer =>
  new GobgpPeer(pair, setup, cidrs);
