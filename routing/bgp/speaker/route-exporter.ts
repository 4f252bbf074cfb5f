// What a group of peers is told, whichever way it is kept: one path a prefix (adj-rib-out.ts) or several (add-path-out.ts).
import type { Family } from '../packet/context.ts';
import type { GroupMember } from './adj-rib-out.ts';
import type { ExportContext } from './export.ts';

export interface RouteExporter {
  readonly family: Family;
  readonly context: ExportContext;
  readonly memberCount: number;
  /** Routes announced. */
  readonly size: number;
  /** Some member has yet to be told of nets, so their numbers must not be reused. */
  readonly hasPending: boolean;
  /**
   * A session came up: the whole table, then End-of-RIB unless that is held back. `told` are nets it knows from another
   * group: those that are not for it here are withdrawn.
   */
  join(member: GroupMember, endOfRib: boolean, told?: readonly number[]): void;
  leave(member: GroupMember): void;
  /** The whole table again (RFC 2918), then `after` (RFC 7313). */
  resend(member: GroupMember, after?: Buffer): void;
  /** The member moves to another group: the nets it was told, as far as they are not taken back here. */
  handOver(member: GroupMember): readonly number[];
  endOfRib(member: GroupMember): void;
  lags(member: GroupMember): boolean;
  /** The member reads again. */
  drain(member: GroupMember): void;
  process(nets: readonly number[]): void;
}
