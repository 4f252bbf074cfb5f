// Results of ADD on disk, in libcni's form and place, so that DEL, CHECK and GC work after a restart of the runtime and
// with libcni's own tools: `<cacheDir>/results/<network>-<container>-<ifname>`.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasCode } from '../../src/lib/errors.ts';
import { Fields, type JsonObject } from './fields.ts';
import type { NetworkList } from './network-list.ts';
import type { RuntimeRequest } from './runner.ts';

const KIND = 'cniCacheV1';

export interface CachedAttachment {
  containerId: string;
  ifName: string;
  networkName: string;
  netns: string;
  config: string;
  args: [string, string][];
  capabilities: JsonObject;
  result: JsonObject | undefined;
}

export class ResultCache {
  readonly #directory: string;

  constructor(cacheDir: string) {
    this.#directory = join(cacheDir, 'results');
  }

  #file(network: string, containerId: string, ifName: string): string {
    return join(this.#directory, `${network}-${containerId}-${ifName}`);
  }

  save(list: NetworkList, request: RuntimeRequest, result: JsonObject): void {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    const file = this.#file(list.name, request.containerId, request.ifName);
    const cached = {
      kind: KIND,
      containerId: request.containerId,
      config: Buffer.from(list.text).toString('base64'),
      ifName: request.ifName,
      networkName: list.name,
      netns: request.netns,
      cniArgs: request.args ?? [],
      capabilityArgs: request.capabilities ?? {},
      result,
    };
    writeFileSync(`${file}.new`, JSON.stringify(cached), { mode: 0o600 });
    renameSync(`${file}.new`, file);
  }

  load(network: string, containerId: string, ifName: string): CachedAttachment | undefined {
    return read(this.#file(network, containerId, ifName));
  }

  remove(network: string, containerId: string, ifName: string): void {
    rmSync(this.#file(network, containerId, ifName), { force: true });
  }

  /** What is cached of one network. */
  list(network: string): CachedAttachment[] {
    let names: string[];
    try {
      names = readdirSync(this.#directory);
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return [];
      throw error;
    }
    return names
      .filter(name => name.startsWith(`${network}-`) && !name.endsWith('.new'))
      .flatMap(name => read(join(this.#directory, name)) ?? [])
      .filter(one => one.networkName === network);
  }
}

/** Undefined for a file that is not there, or not whole: it then counts as not cached. */
function read(file: string): CachedAttachment | undefined {
  try {
    const fields = Fields.parse(readFileSync(file, 'utf8'), file);
    if (fields.string('kind') !== KIND) return undefined;
    return {
      containerId: fields.string('containerId') ?? '',
      ifName: fields.string('ifName') ?? '',
      networkName: fields.string('networkName') ?? '',
      netns: fields.string('netns') ?? '',
      config: Buffer.from(fields.string('config') ?? '', 'base64').toString('utf8'),
      args: fields.list('cniArgs').flatMap(one => (isPair(one) ? [one] : [])),
      capabilities: { ...fields.fields('capabilityArgs')?.object },
      result: fields.fields('result')?.object as JsonObject | undefined,
    };
  } catch {
    return undefined;
  }
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every(part => typeof part === 'string');
}
