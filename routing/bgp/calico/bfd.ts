// What a BGPPeer or the mesh asks of BFD, as the session's native form. Values that make no sense are named and replaced
// by the defaults: a path that is watched slowly is better than one that nobody watches.
import type { Problem } from '../../../src/lib/problem.ts';
import type { BfdConfig } from '../session/peer-config.ts';
import { parseDuration } from './names.ts';
import { type CalicoNode, inOwnSubnet } from './node-info.ts';
import type { BfdSpec } from './types.ts';

/** What BIRD and FRR use; below it a busy node's own silence would look like a broken path. */
const DEFAULT_INTERVAL_MS = 300;
const DEFAULT_MULTIPLIER = 3;
const INTERVAL_MS = { min: 10, max: 60_000 } as const;
/** RFC 5880 section 4.1: one byte, not zero. */
const MULTIPLIER = { min: 1, max: 255 } as const;

export function bfdProblem(spec: BfdSpec, owner: { kind: string; name: string }): Problem | undefined {
  const wrong = [
    ...(['minimumSendInterval', 'minimumReceiveInterval'] as const)
      .filter(key => spec[key] !== undefined && interval(spec[key]) === undefined)
      .map(key => `${key} ${JSON.stringify(spec[key])} is not 10ms to 60s`),
    ...(spec.multiplier !== undefined && multiplier(spec.multiplier) === undefined
      ? [`multiplier ${spec.multiplier} is not 1 to 255`]
      : []),
  ];
  if (wrong.length === 0) return undefined;
  const message = `BFD: ${wrong.join(', ')}; ${DEFAULT_INTERVAL_MS}ms and ${DEFAULT_MULTIPLIER} are used`;
  return { ...owner, reason: 'InvalidBFD', message };
}

export function bfdConfig(spec: BfdSpec, self: CalicoNode, peerAddress: string): BfdConfig {
  return {
    transmitMs: interval(spec.minimumSendInterval) ?? DEFAULT_INTERVAL_MS,
    receiveMs: interval(spec.minimumReceiveInterval) ?? DEFAULT_INTERVAL_MS,
    multiplier: multiplier(spec.multiplier) ?? DEFAULT_MULTIPLIER,
    multihop: spec.hops === 'Multi' || (spec.hops !== 'Single' && !inOwnSubnet(self, peerAddress)),
  };
}

function interval(text: string | undefined): number | undefined {
  const ms = parseDuration(text);
  return ms !== undefined && ms >= INTERVAL_MS.min && ms <= INTERVAL_MS.max ? ms : undefined;
}

function multiplier(value: number | undefined): number | undefined {
  const valid =
    value !== undefined && Number.isInteger(value) && value >= MULTIPLIER.min && value <= MULTIPLIER.max;
  return valid ? value : undefined;
}
