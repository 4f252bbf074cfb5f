// Speakers in this process on 127.0.0.0/8, for unit tests: real TCP, no namespace, no root.
import { ACCEPT_ALL } from '../../../routing/bgp/policy/policy.ts';
import type { PeerConfig } from '../../../routing/bgp/session/peer-config.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import type { SpeakerConfig } from '../../../routing/bgp/speaker/speaker-config.ts';
import type { SpeakerOptions } from '../../../routing/bgp/speaker/speaker-options.ts';
import { silentLogger } from '../../../src/observe/log.ts';

/** One port for a test file: addresses tell the speakers apart. */
export const PORT = 20_000 + (process.pid % 20_000);

export function peerTo(address: string, asn: number, changes: Partial<PeerConfig> = {}): PeerConfig {
  return {
    name: address,
    address,
    asn,
    port: PORT,
    importPolicy: ACCEPT_ALL,
    multihop: 10,
    connectRetryMs: 300,
    ...changes,
  };
}

export function configFor(
  address: string,
  asn: number,
  peers: readonly PeerConfig[],
  changes: Partial<SpeakerConfig> = {},
): SpeakerConfig {
  return {
    asn,
    routerId: address,
    listen: [{ address, port: PORT }],
    nextHops: { 6: `fd00::${address.split('.').at(-1)}` },
    peers: peers.map(peer => ({ localAddress: address, ...peer })),
    originate: [],
    ...changes,
  };
}

export class Loopback implements AsyncDisposable {
  readonly #speakers: Speaker[] = [];

  async start(config: SpeakerConfig, options: Partial<SpeakerOptions> = {}): Promise<Speaker> {
    const speaker = new Speaker({
      config,
      transport: new TcpTransport(),
      log: silentLogger(),
      // 127.0.0.0/8 is no next hop in earnest; tests that look at next hops set their own.
      ...options,
    });
    this.#speakers.push(speaker);
    await speaker.start();
    return speaker;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const speaker of this.#speakers) await speaker.stop();
  }
}
