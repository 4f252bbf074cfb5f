// What a match or target is to rule.ts: a structure of a certain revision and size, and the options that fill it.
import type { XtablesFamily } from './layout.ts';
import type { OptionReader } from './option-reader.ts';

/** Where an extension writes. */
export interface ExtensionSite {
  bytes: Buffer;
  /** Of the extension's own structure. */
  at: number;
  family: XtablesFamily;
  /** Of the rule; 0 for any. */
  protocol: number;
}

export interface ExtensionCodec {
  /** As the kernel calls it, where that differs from the option's name. */
  name?: string;
  revision: number;
  /** sizeof; the caller aligns. */
  size: number;
  /** Whether it says nothing without any option, and iptables refuses it so. */
  needsOption?: true;
  start?: (site: ExtensionSite) => void;
  /** Reads the values of one option; false when it is none of this extension's. */
  option: (site: ExtensionSite, name: string, negated: boolean, values: OptionReader) => boolean;
  /** When all options are read. */
  finish?: (site: ExtensionSite) => void;
}
