// What the looking glass answers, as data; cmd prints it, the agent serves it as JSON.
import type { SessionState } from '../fsm/events.ts';

export interface StatusView {
  readonly asn: number;
  readonly routerId: string;
  readonly clusterId: string | undefined;
  readonly startedAt: string;
  /** False while End-of-RIB is held back after a restart. */
  readonly complete: boolean;
  readonly neighbours: { readonly configured: number; readonly established: number };
  readonly routes: Record<'ipv4' | 'ipv6', { readonly prefixes: number; readonly paths: number }>;
  readonly attributeSets: number;
  readonly announced: readonly { readonly prefix: string; readonly origin: string }[];
}

export interface NeighbourView {
  readonly name: string;
  readonly address: string;
  readonly asn: number | undefined;
  readonly routerId: string | undefined;
  readonly kind: 'internal' | 'external' | 'unknown';
  readonly state: SessionState;
  readonly since: string;
  readonly lastError: string | undefined;
  readonly timesEstablished: number;
  readonly received: Record<'ipv4' | 'ipv6', number>;
  readonly advertised: Record<'ipv4' | 'ipv6', number>;
  readonly updatesReceived: number;
  readonly malformedAttributes: number;
  readonly reflectorClient: boolean;
  readonly holdTimeSeconds: number | undefined;
  readonly capabilities: readonly string[];
  /** RFC 5880; undefined where it was not asked for. */
  readonly bfd:
    | { readonly state: string; readonly multihop?: boolean; readonly detectionMs?: number }
    | undefined;
  /** Its routes are kept over its restart since then (RFC 4724). */
  readonly staleSince: string | undefined;
  readonly history: readonly { readonly at: string; readonly state: SessionState; readonly reason: string }[];
}

export interface PathView {
  readonly prefix: string;
  readonly best: boolean;
  readonly multipath: boolean;
  readonly stale: boolean;
  readonly from: string;
  readonly nextHop: string | undefined;
  readonly asPath: string;
  readonly origin: 'IGP' | 'EGP' | 'incomplete';
  readonly localPref: number | undefined;
  readonly med: number | undefined;
  readonly communities: readonly string[];
  readonly largeCommunities: readonly string[];
  readonly originatorId: string | undefined;
  readonly clusterList: readonly string[];
}

export interface WhyView {
  readonly prefix: string;
  /** The prefix asked for, or the longest one that covers it. */
  readonly found: boolean;
  readonly paths: readonly (PathView & {
    /** `best`, `equal to the best`, why import refused it, or the step of the decision at which it lost. */
    readonly verdict: string;
  })[];
  /** Per neighbour that is up: whether the prefix is announced to it, and if not, why. */
  readonly advertised: readonly {
    readonly to: string;
    readonly announced: boolean;
    readonly reason: string;
  }[];
}
