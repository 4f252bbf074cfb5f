// Our speaker in this process, in one of two namespaces; the real peer runs in the other. For interop tests.
import { ACCEPT_ALL } from '../../../routing/bgp/policy/policy.ts';
import type { PeerConfig } from '../../../routing/bgp/session/peer-config.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import type { OriginatedRoute, SpeakerConfig } from '../../../routing/bgp/speaker/speaker-config.ts';
import type { SpeakerOptions } from '../../../routing/bgp/speaker/speaker-options.ts';
import { formatCidr, requireCidr } from '../../../src/lib/cidr.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Namespaces, until } from './bench-net.ts';
import { TemporaryDirectory } from './peers.ts';

export const OURS = { v4: '10.9.0.1', v6: 'fd09::1' };
export const THEIRS = { v4: '10.9.0.2', v6: 'fd09::2' };

export const originate = (...cidrs: string[]): OriginatedRoute[] =>
  cidrs.map(cidr => ({ cidr: requireCidr(cidr), origin: 'test' }));

export class Pair implements AsyncDisposable {
  readonly namespaces = new Namespaces();
  readonly directory = new TemporaryDirectory();
  readonly ourNetns: string;
  readonly theirNetns: string;
  readonly #netns: Netns;
  readonly #closing: (() => Promise<void>)[] = [];

  constructor(name: string) {
    this.ourNetns = this.namespaces.add(`${name}-a`);
    this.theirNetns = this.namespaces.add(`${name}-b`);
    this.namespaces.connect(this.ourNetns, this.theirNetns, 'v', `${OURS.v4}/24`, `${THEIRS.v4}/24`);
    for (const [ns, link, address] of [
      [this.ourNetns, 'va', OURS.v6],
      [this.theirNetns, 'vb', THEIRS.v6],
    ] as const)
      Namespaces.command('ip', '-n', ns, 'addr', 'add', `${address}/64`, 'dev', link, 'nodad');
    this.#netns = Netns.open(`/run/netns/${this.ourNetns}`);
  }

  config(peer: Partial<PeerConfig>, changes: Partial<SpeakerConfig> = {}): SpeakerConfig {
    return {
      asn: 65001,
      routerId: '10.9.0.1',
      listen: [
        { address: OURS.v4, port: 179 },
        { address: OURS.v6, port: 179 },
      ],
      nextHops: { 4: OURS.v4, 6: OURS.v6 },
      peers: [
        {
          name: 'peer',
          address: THEIRS.v4,
          asn: 65002,
          importPolicy: ACCEPT_ALL,
          connectRetryMs: 500,
          ...peer,
        },
      ],
      originate: originate('10.20.1.0/24', '10.20.2.0/25', 'fd20:1::/64'),
      ...changes,
    };
  }

  get netns(): Netns {
    return this.#netns;
  }

  /** Done before the namespaces go. */
  onClose(close: () => Promise<void>): void {
    this.#closing.push(close);
  }

  async start(
    config: SpeakerConfig,
    restarting = false,
    options: Partial<SpeakerOptions> = {},
  ): Promise<Speaker> {
    const speaker = new Speaker({
      config,
      transport: new TcpTransport(this.#netns),
      log: silentLogger(),
      restarting,
      ...options,
    });
    this.onClose(() => speaker.stop());
    await speaker.start();
    return speaker;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const close of this.#closing) await close();
    await this.namespaces.killChildren();
    this.#netns.close();
    this.namespaces[Symbol.dispose]();
    this.directory[Symbol.dispose]();
  }
}

/** Chosen routes as `PREFIX via NEXTHOP`, sorted; our own have no next hop. */
export function chosen(speaker: Speaker): string[] {
  const list: string[] = [];
  for (const family of [4, 6] as const) {
    const { rib } = speaker.locRibs[family];
    for (let net = 0; net < rib.nets.limit; net++)
      if (rib.nets.has(net) && rib.best[net] !== -1)
        list.push(
          `${formatCidr(rib.nets.cidr(net))} via ${rib.entry[rib.best[net]!]!.attributes.nextHop ?? 'local'}`,
        );
  }
  return list.sort();
}

export const isUp = (speaker: Speaker, name = 'peer'): boolean =>
  speaker.neighbours.get(name)?.peer.state === 'Established';

/** Waits until `read` answers what is wanted; answers the last value, for a useful assertion. */
export async function eventually<T>(
  read: () => T | Promise<T>,
  good: (value: T) => boolean,
  timeoutMs = 15_000,
): Promise<T> {
  let last = await read();
  await until(
    async () => {
      last = await read();
      return good(last);
    },
    timeoutMs,
    50,
  );
  return last;
}
