// The OPEN we send to a peer (RFC 4271 section 4.2 and the capabilities' RFCs).
import { requireIp } from '../../../src/lib/ip.ts';
import type { Family } from '../packet/context.ts';
import type { OpenMessage } from '../packet/message/open.ts';
import { DEFAULT_HOLD_SECONDS, DEFAULT_RESTART_SECONDS, type PeerConfig } from '../session/peer-config.ts';
import type { SpeakerConfig } from './speaker-config.ts';

export const BOTH_FAMILIES: readonly Family[] = [4, 6];

/** A dotted router id as a number; never zero (RFC 6286), whatever was configured. */
export function routerIdNumber(text: string): number {
  const bytes = requireIp(text, 'router id');
  return Buffer.from(bytes).readUInt32BE(0);
}

export function localAsnOf(config: SpeakerConfig, peer: PeerConfig): number {
  return peer.localAsn ?? config.asn;
}

/** `restarting` is the R bit of RFC 4724: true until all peers that are up have told us everything. */
export function localOpen(config: SpeakerConfig, peer: PeerConfig, restarting: boolean): OpenMessage {
  const families = peer.families ?? BOTH_FAMILIES;
  const restartSeconds = peer.gracefulRestartSeconds ?? DEFAULT_RESTART_SECONDS;
  const asn = localAsnOf(config, peer);
  const { send = false, receive = true } = peer.addPath ?? { send: false, receive: false };
  return {
    asn,
    holdTimeSeconds: peer.holdTimeSeconds ?? DEFAULT_HOLD_SECONDS,
    routerId: routerIdNumber(config.routerId),
    capabilities: {
      families,
      routeRefresh: true,
      enhancedRouteRefresh: true,
      extendedMessage: true,
      extendedNextHop: families.includes(4),
      as4: asn,
      gracefulRestart:
        restartSeconds === 0
          ? undefined
          : {
              restarting,
              notification: true,
              restartSeconds,
              // The kernel keeps our routes while we are away.
              families: families.map(family => ({ family, forwarding: true })),
            },
      addPath: send || receive ? families.map(family => ({ family, send, receive })) : [],
      unknown: [],
    },
  };
}
