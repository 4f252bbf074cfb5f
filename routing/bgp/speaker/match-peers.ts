// Which neighbours of before are neighbours of the new configuration. A neighbour that only got another name (a peering of
// the mesh that became one with a reflector) is the same one: its session stays. Pure.
import { CEASE } from '../packet/iana.ts';
import { BGP_PORT, type PeerConfig, sessionKey } from '../session/peer-config.ts';

export interface PeerMatch {
  /** Names of neighbours that go, and the subcode of the Cease they get. */
  readonly gone: readonly { readonly name: string; readonly subcode: number }[];
  /** Neighbours that stay, by the name they have now. */
  readonly kept: readonly { readonly name: string; readonly config: PeerConfig }[];
  readonly fresh: readonly PeerConfig[];
}

const place = ({ address, port = BGP_PORT }: PeerConfig): string => `${address} ${port}`;

export function matchPeers(present: readonly PeerConfig[], wanted: readonly PeerConfig[]): PeerMatch {
  const byName = new Map(wanted.map(config => [config.name, config]));
  const names = new Set(present.map(({ name }) => name));
  const renamed = new Map(
    wanted.filter(({ name }) => !names.has(name)).map(config => [place(config), config]),
  );
  const gone: { name: string; subcode: number }[] = [];
  const kept: { name: string; config: PeerConfig }[] = [];
  for (const before of present) {
    const config = byName.get(before.name) ?? renamed.get(place(before));
    if (config !== undefined && sessionKey(config) === sessionKey(before))
      kept.push({ name: before.name, config });
    else
      gone.push({
        name: before.name,
        subcode: config === undefined ? CEASE.PEER_DECONFIGURED : CEASE.CONFIGURATION_CHANGE,
      });
  }
  const there = new Set(kept.map(({ config }) => config.name));
  return { gone, kept, fresh: [...byName.values()].filter(({ name }) => !there.has(name)) };
}
