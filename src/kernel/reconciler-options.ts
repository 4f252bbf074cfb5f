// What the kernel reconciler is told at the beginning, and what it tells of its repairs.
import type { IptablesBackend } from '../linux/iptables.ts';
import type { Netns } from '../linux/netns.ts';
import type { Logger } from '../observe/log.ts';
import type { Operation } from './diff.ts';
import type { Kind } from './objects.ts';

/** Something that was not as desired though nobody here had changed it, and was mended. */
export interface Repair {
  action: Operation['action'];
  kind: Kind;
  key: string;
  /** `add route 10.244.1.0/24 via …`. */
  text: string;
  /** Who wants it so; nobody, when it was removed. */
  rooms: readonly string[];
}

export interface KernelReconcilerOptions {
  netns?: Netns;
  /** The rooms that will speak, in order of precedence. Nothing found is removed before all of them have. */
  rooms?: readonly string[];
  /** For the lock of legacy iptables. */
  lockDirectory?: string;
  iptablesBackend?: IptablesBackend;
  log: Logger;
  /** Between two full comparisons with the kernel; 30 s unless told. */
  verifyIntervalMs?: number;
  /** Between two comparisons of iptables rules alone; none beside the full ones unless told. */
  xtablesIntervalMs?: number;
  onRepair?: (repair: Repair) => void;
  /** Each time rules of a legacy table went through iptables-restore, as they cannot be written without it. */
  onIptablesFallback?: (reason: string) => void;
}
