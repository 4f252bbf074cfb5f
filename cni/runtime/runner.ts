// A CNI runtime: executes the plugins of a network list in order, hands results on, keeps them, undoes in reverse.
// What libcni is for Go. The plugins are any in CNI_PATH; nothing here knows podwire's own.
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { CniError, hasCode } from '../../src/lib/errors.ts';
import { run } from '../../src/linux/exec.ts';
import type { Netns } from '../../src/linux/netns.ts';
import { ResultCache } from './cache.ts';
import type { Command } from './environment.ts';
import { CNI_ERROR, configError, joinErrors, withContext } from './errors.ts';
import { Fields, type JsonObject } from './fields.ts';
import { KeyedLocks } from './locks.ts';
import { type NetworkList, parseNetworkList } from './network-list.ts';
import type { Attachment } from './plugin.ts';
import { atLeast } from './versions.ts';

export const DEFAULT_CACHE_DIR = '/var/lib/cni';
const DEFAULT_TIMEOUT_MS = 240_000;
/** A plugin that is being replaced cannot be executed for a moment. */
const BUSY_ATTEMPTS = 6;

export interface RunnerOptions {
  /** CNI_PATH. */
  path: readonly string[];
  cacheDir?: string;
  /** The plugins' host namespace; the process's own unless told. */
  netns?: Netns;
  /** Added to the process's own environment, such as PODWIRE_CNI_SOCKET. */
  env?: Readonly<Record<string, string>>;
  timeoutMs?: number;
}

export interface RuntimeRequest {
  containerId: string;
  /** Path; empty when the namespace is gone. */
  netns: string;
  ifName: string;
  /** CNI_ARGS. */
  args?: [string, string][];
  /** Values for declared capabilities, such as `portMappings`. */
  capabilities?: JsonObject;
}

export class CniRunner {
  readonly #options: RunnerOptions;
  readonly #cache: ResultCache;
  readonly #locks = new KeyedLocks();

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#cache = new ResultCache(options.cacheDir ?? DEFAULT_CACHE_DIR);
  }

  /** ADD of every plugin; the last result. A failure is not undone here: that is the DEL that a runtime owes. */
  add(list: NetworkList, request: RuntimeRequest): Promise<JsonObject> {
    return this.#alone(request.containerId, async () => {
      let result: JsonObject | undefined;
      for (const plugin of list.plugins) result = await this.#execute(list, plugin, 'ADD', request, result);
      this.#cache.save(list, request, result ?? {});
      return result ?? {};
    });
  }

  /** CHECK of every plugin against the kept result; nothing when the list disables it. */
  check(list: NetworkList, request: RuntimeRequest): Promise<void> {
    return this.#alone(request.containerId, async () => {
      if (!atLeast(list.cniVersion, '0.4.0'))
        throw new CniError(
          CNI_ERROR.INCOMPATIBLE_VERSION,
          `configuration version ${JSON.stringify(list.cniVersion)} does not support CHECK`,
        );
      if (list.disableCheck) return;
      const cached = this.#cache.load(list.name, request.containerId, request.ifName);
      for (const plugin of list.plugins)
        await this.#execute(list, plugin, 'CHECK', withCached(request, cached), cached?.result);
    });
  }

  /** DEL of every plugin, last first, with the kept result when there is one. */
  del(list: NetworkList, request: RuntimeRequest): Promise<void> {
    return this.#alone(request.containerId, () => this.#del(list, request));
  }

  async #del(list: NetworkList, request: RuntimeRequest): Promise<void> {
    const cached = this.#cache.load(list.name, request.containerId, request.ifName);
    const result = atLeast(list.cniVersion, '0.4.0') ? cached?.result : undefined;
    for (const plugin of list.plugins.toReversed())
      await this.#execute(list, plugin, 'DEL', withCached(request, cached), result);
    this.#cache.remove(list.name, request.containerId, request.ifName);
  }

  /** DEL for every kept attachment that is not valid, then GC where the version has it. All failures are reported. */
  async gc(list: NetworkList, valid: readonly Attachment[]): Promise<void> {
    if (list.disableGc) return;
    const keep = new Set(valid.map(one => `${one.containerId}\n${one.ifName}`));
    const failures: unknown[] = [];
    for (const cached of this.#cache.list(list.name)) {
      if (keep.has(`${cached.containerId}\n${cached.ifName}`)) continue;
      const { containerId, ifName, netns } = cached;
      const request = { containerId, ifName, netns: existsSync(netns) ? netns : '' };
      await this.#alone(containerId, () => this.#del(storedList(cached.config, list), request)).catch(error =>
        failures.push(error),
      );
    }
    if (atLeast(list.cniVersion, '1.1.0')) {
      const attachments = valid.map(one => ({ containerID: one.containerId, ifname: one.ifName }));
      const extra = { 'cni.dev/valid-attachments': attachments, 'cni.dev/attachments': attachments };
      for (const plugin of list.plugins)
        await this.#execute(list, plugin, 'GC', undefined, undefined, extra).catch(error =>
          failures.push(error),
        );
    }
    if (failures.length > 0) throw joinErrors(`GC of network ${list.name}`, failures);
  }

  /** Throws when a plugin says that an ADD would fail now. Before 1.1.0 there is nothing to ask. */
  async status(list: NetworkList): Promise<void> {
    if (!atLeast(list.cniVersion, '1.1.0')) return;
    for (const plugin of list.plugins) await this.#execute(list, plugin, 'STATUS', undefined, undefined);
  }

  /** The versions each plugin of the list supports. */
  async versions(list: NetworkList): Promise<Map<string, string[]>> {
    const found = new Map<string, string[]>();
    for (const plugin of list.plugins) {
      const answer = await this.#execute(list, plugin, 'VERSION', undefined, undefined);
      found.set(plugin.string('type')!, new Fields(answer ?? {}).strings('supportedVersions'));
    }
    return found;
  }

  /** The kept result of an attachment. */
  cachedResult(network: string, containerId: string, ifName: string): JsonObject | undefined {
    return this.#cache.load(network, containerId, ifName)?.result;
  }

  /** The specification forbids operations in parallel for one container. */
  #alone<T>(containerId: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.run(containerId, AbortSignal.timeout(this.#timeoutMs), work);
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  async #execute(
    list: NetworkList,
    plugin: Fields,
    command: Command,
    request: RuntimeRequest | undefined,
    prevResult: JsonObject | undefined,
    extra: JsonObject = {},
  ): Promise<JsonObject | undefined> {
    const type = plugin.string('type')!;
    const config = { ...requestConfig(list, plugin, request, prevResult), ...extra };
    const env = {
      ...process.env,
      ...this.#options.env,
      ...requestEnvironment(command, request, this.#options.path),
    };
    const file = this.#find(type);
    for (let attempt = 1; ; attempt++)
      try {
        const output = await run(file, [], {
          env,
          input: JSON.stringify(config),
          timeoutMs: this.#timeoutMs,
          ...(this.#options.netns === undefined ? {} : { netns: this.#options.netns }),
        });
        if (output.code !== 0) throw pluginError(output.stdout, output.stderr);
        return output.stdout.trim() === '' ? undefined : resultObject(output.stdout);
      } catch (error) {
        if (!hasCode(error, 'ETXTBSY') || attempt === BUSY_ATTEMPTS)
          throw withContext(`plugin ${type} ${command} of network ${list.name}`, error);
        await pause(1000);
      }
  }

  #find(type: string): string {
    if (type.includes('/')) throw configError(`invalid plugin name: ${type}`);
    for (const directory of this.#options.path) {
      const file = join(directory, type);
      if (statSync(file, { throwIfNoEntry: false })?.isFile()) return file;
    }
    throw configError(
      `failed to find plugin ${JSON.stringify(type)} in path [${this.#options.path.join(' ')}]`,
    );
  }
}

function resultObject(stdout: string): JsonObject {
  return { ...Fields.parse(stdout, 'the result of the plugin').object };
}

function pluginError(stdout: string, stderr: string): CniError {
  if (stdout.trim() === '')
    return new CniError(CNI_ERROR.INTERNAL, `netplugin failed: ${JSON.stringify(stderr.trim())}`);
  const fields = Fields.parse(stdout, 'the error of the plugin');
  return new CniError(
    fields.integer('code') ?? CNI_ERROR.INTERNAL,
    fields.string('msg') ?? 'plugin failed without a message',
    fields.string('details') ?? '',
  );
}

/** The list as it was when the attachment was made, where it can still be read. */
function storedList(text: string, present: NetworkList): NetworkList {
  try {
    return parseNetworkList(text, `cached configuration of ${present.name}`);
  } catch {
    return present;
  }
}

/** What the request does not say is taken from the ADD that is undone. */
function withCached(
  request: RuntimeRequest,
  cached: { args: [string, string][]; capabilities: JsonObject } | undefined,
): RuntimeRequest {
  return {
    ...request,
    args: request.args ?? cached?.args ?? [],
    capabilities: request.capabilities ?? cached?.capabilities ?? {},
  };
}

/** Pure: the configuration that one plugin gets on stdin. */
export function requestConfig(
  list: NetworkList,
  plugin: Fields,
  request: RuntimeRequest | undefined,
  prevResult: JsonObject | undefined,
): JsonObject {
  const declared = plugin.fields('capabilities');
  const runtimeConfig = Object.fromEntries(
    Object.entries(request?.capabilities ?? {}).filter(([name]) => declared?.boolean(name) === true),
  );
  return {
    ...plugin.object,
    name: list.name,
    cniVersion: list.cniVersion,
    ...(Object.keys(runtimeConfig).length > 0 ? { runtimeConfig } : {}),
    ...(prevResult === undefined ? {} : { prevResult }),
  };
}

/** Pure: the variables of the specification. Those of an outer plugin must not shine through. */
export function requestEnvironment(
  command: Command,
  request: RuntimeRequest | undefined,
  path: readonly string[],
): Record<string, string> {
  return {
    CNI_COMMAND: command,
    CNI_CONTAINERID: request?.containerId ?? '',
    CNI_NETNS: request?.netns ?? '',
    CNI_IFNAME: request?.ifName ?? '',
    CNI_ARGS: (request?.args ?? []).map(([key, value]) => `${key}=${value}`).join(';'),
    CNI_PATH: path.join(':'),
    CNI_NETNS_OVERRIDE: '',
  };
}
