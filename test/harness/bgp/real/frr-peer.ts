// FRR's bgpd, without zebra, for the interop matrix: a configuration file and vtysh.
import { OURS, type Pair, THEIRS } from '../pair.ts';
import { Frr } from '../peers.ts';
import { isV6, neighboursOf, type RealPeer, type RealPeerSetup } from './real-peer.ts';

interface FrrTable {
  readonly routes?: Readonly<Record<string, readonly { readonly peerId?: string }[]>>;
}

export class FrrPeer implements RealPeer {
  readonly #pair: Pair;
  readonly #setup: RealPeerSetup;
  readonly #frr: Frr;
  #cidrs: readonly string[];

  constructor(pair: Pair, setup: RealPeerSetup, cidrs: readonly string[]) {
    this.#pair = pair;
    this.#setup = setup;
    this.#cidrs = cidrs;
    this.#frr = new Frr(pair.theirNetns, pair.directory.path);
  }

  #config(): string {
    const { asn, remoteAsn, password, gracefulRestart, addPath, reflector } = this.#setup;
    const neighbours = neighboursOf(this.#setup);
    const each = (line: (address: string) => string): string => neighbours.map(line).join('\n');
    const family = (v6: boolean): string =>
      `${this.#cidrs
        .filter(cidr => isV6(cidr) === v6)
        .map(cidr => `  network ${cidr}\n`)
        .join('')}${each(
        address => `  neighbor ${address} activate
${addPath === true ? `  neighbor ${address} addpath-tx-all-paths\n` : ''}${reflector === true ? `  neighbor ${address} route-reflector-client\n` : ''}${v6 ? `  neighbor ${address} route-map v6hop out\n` : ''}`,
      )}`;
    return `router bgp ${asn}
 bgp router-id ${THEIRS.v4}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
${gracefulRestart === true ? ' bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n' : ''}${each(
  address => ` neighbor ${address} remote-as ${remoteAsn}
 neighbor ${address} timers connect 1
${password === undefined ? '' : ` neighbor ${address} password ${password}\n`}`,
)}
 address-family ipv4 unicast
${family(false)}
 exit-address-family
 address-family ipv6 unicast
${family(true)}
 exit-address-family
!
route-map v6hop permit 10
 set ipv6 next-hop global ${THEIRS.v6}
`;
  }

  async start(): Promise<void> {
    await this.#frr.start(this.#pair.namespaces, THEIRS.v4, this.#config(), false);
  }

  async announce(cidrs: readonly string[]): Promise<void> {
    const change = (cidr: string, no: string): void => {
      const family = `address-family ${isV6(cidr) ? 'ipv6' : 'ipv4'} unicast`;
      this.#frr.ask('configure terminal', `router bgp ${this.#setup.asn}`, family, `${no}network ${cidr}`);
    };
    for (const cidr of this.#cidrs) if (!cidrs.includes(cidr)) change(cidr, 'no ');
    for (const cidr of cidrs) if (!this.#cidrs.includes(cidr)) change(cidr, '');
    this.#cidrs = cidrs;
  }

  async learned(): Promise<string[]> {
    return ['ipv4', 'ipv6']
      .flatMap(family => {
        const table = JSON.parse(this.#frr.ask(`show bgp ${family} unicast json`)) as FrrTable;
        return Object.entries(table.routes ?? {}).flatMap(([prefix, paths]) =>
          paths.filter(path => path.peerId === OURS.v4).map(() => prefix),
        );
      })
      .sort();
  }

  async show(cidr: string): Promise<string> {
    return this.#frr.ask(`show bgp ${isV6(cidr) ? 'ipv6' : 'ipv4'} unicast ${cidr}`);
  }

  async requestRefresh(): Promise<void> {
    for (const family of ['ipv4', 'ipv6']) this.#frr.ask(`clear bgp ${family} unicast ${OURS.v4} soft in`);
  }

  async reset(): Promise<void> {
    this.#frr.ask(`clear bgp ipv4 unicast ${OURS.v4}`);
  }

  async kill(): Promise<void> {
    await this.#frr.kill();
  }
}

export const frrPeer = (pair: Pair, setup: RealPeerSetup, cidrs: readonly string[]): RealPeer =>
  new FrrPeer(pair, setup, cidrs);
