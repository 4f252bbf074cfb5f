// What a plugin is: five verbs over a Call. A Call carries everything a verb may know; a Site is the place the request
// came from (the launcher's namespaces and environment), so that one process can serve the plugins of many hosts.
import { CniError } from '../../src/lib/errors.ts';
import type { Netns } from '../../src/linux/netns.ts';
import type { Logger } from '../../src/observe/log.ts';
import type { Command, Environment, Parameters } from './environment.ts';
import { CNI_ERROR, configError } from './errors.ts';
import { Fields } from './fields.ts';
import type { KeyedLocks } from './locks.ts';
import type { Result } from './result.ts';
import { decodeResult } from './result-versions.ts';
import type { CniVersion } from './versions.ts';

export interface Plugin {
  readonly name: string;
  readonly versions: readonly CniVersion[];
  add(call: Call): Promise<Result>;
  /** Succeeds when there is nothing (left) to remove. */
  del(call: Call): Promise<void>;
  check(call: Call): Promise<void>;
  /** Throws code 50 or 51 when an ADD would not succeed now. */
  status(call: Call): Promise<void>;
  /** Removes what belongs to none of `call.validAttachments`. */
  gc(call: Call): Promise<void>;
}

export type PluginTable = ReadonlyMap<string, Plugin>;

/** Where a request came from. Owned by whoever runs the request, closed by it afterwards. */
export interface Site {
  /** The namespace the launcher was started in: the plugin's host. */
  readonly hostNetns: Netns;
  /** Opens CNI_NETNS as the launcher sees it; throws when there is no such namespace. */
  readonly openPodNetns: () => Netns;
  readonly environment: Environment;
  readonly plugins: PluginTable;
  /** The launcher's own binary, to recognise our other plugins in CNI_PATH. */
  readonly exe: string;
  readonly signal: AbortSignal;
  readonly locks: KeyedLocks;
  readonly log: Logger;
  /** Where the DHCP daemon of this process listens, when it has one. */
  readonly dhcpSocketPath?: string | undefined;
  /** Text that delegates wrote to stderr, passed on to the runtime. */
  readonly stderr: string[];
}

export interface Attachment {
  containerId: string;
  ifName: string;
}

export interface Call extends Parameters {
  readonly config: Fields;
  /** The configuration's text as it arrived; delegates get it unchanged. */
  readonly stdin: string;
  readonly cniVersion: CniVersion;
  readonly networkName: string;
  readonly site: Site;
}

/** The result of the plugins before this one; undefined for the first in a list. */
export function prevResult(call: Call): Result | undefined {
  const fields = call.config.fields('prevResult');
  return fields === undefined ? undefined : decodeResult(fields, call.cniVersion);
}

/** For chained plugins, which have nothing to work on without one. */
export function requirePrevResult(call: Call): Result {
  const result = prevResult(call);
  if (result === undefined)
    throw configError('required prevResult is missing', 'this plugin works after another');
  return result;
}

/** For DEL: whatever of the earlier result can be read. A DEL must not fail because of it. */
export function prevResultIfReadable(call: Call): Result | undefined {
  try {
    return prevResult(call);
  } catch {
    return undefined;
  }
}

export function runtimeConfig(call: Call): Fields {
  return call.config.fields('runtimeConfig') ?? new Fields({}, 'runtimeConfig');
}

/** `args.cni` of the configuration (CONVENTIONS.md). */
export function argsCni(call: Call): Fields {
  return call.config.fields('args')?.fields('cni') ?? new Fields({}, 'args.cni');
}

/** GC's list. libcni wrote it under a wrong name first and writes both since. */
export function validAttachments(config: Fields): Attachment[] {
  const key = ['cni.dev/valid-attachments', 'cni.dev/attachments'].find(
    name => config.raw(name) !== undefined,
  );
  if (key === undefined)
    throw configError('GC without cni.dev/valid-attachments', 'an empty list would release every attachment');
  return config.fieldsList(key).map(one => ({
    containerId: one.string('containerID') ?? '',
    ifName: one.string('ifname') ?? '',
  }));
}

/** The same call with another verb, for delegation. */
export function withCommand(call: Call, command: Command): Call {
  return { ...call, command };
}

/** CNI_NETNS for ADD and CHECK. The plugin's own namespace is refused: `eth0` of the host would be taken for the pod's. */
export function openPodNetns(call: Call): Netns {
  let netns: Netns;
  try {
    netns = call.site.openPodNetns();
  } catch (cause) {
    throw new CniError(
      CNI_ERROR.INVALID_NETNS,
      `cannot open network namespace ${JSON.stringify(call.netns)}`,
      cause instanceof Error ? cause.message : String(cause),
      { cause },
    );
  }
  if (netns.inode === call.site.hostNetns.inode && !netnsOverride(call)) {
    netns.close();
    throw new CniError(
      CNI_ERROR.INVALID_NETNS,
      "plugin's netns and netns from CNI_NETNS should not be the same",
      'CNI_NETNS_OVERRIDE=1 allows it',
    );
  }
  return netns;
}

/** CNI_NETNS for DEL: undefined when it is empty, gone, or the host's own, which holds nothing of the pod. */
export function podNetnsIfThere(call: Call): Netns | undefined {
  if (call.netns === '') return undefined;
  try {
    return openPodNetns(call);
  } catch {
    return undefined;
  }
}

function netnsOverride(call: Call): boolean {
  return /^(1|true)$/i.test(call.site.environment.CNI_NETNS_OVERRIDE ?? '');
}
