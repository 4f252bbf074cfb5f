// The flannel meta plugin: turns the node's subnet.env into the configuration of another plugin (bridge unless told
// otherwise, with host-local) and delegates to it. The rendered configuration is kept per container as the reference
// (flannel-io/cni-plugin) keeps it, so that DEL does what ADD did though subnet.env may have changed.
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { formatCidr } from '../../../src/lib/cidr.ts';
import { CniError, hasCode } from '../../../src/lib/errors.ts';
import { delegate } from '../../runtime/delegate.ts';
import { CNI_ERROR, configError, joinErrors } from '../../runtime/errors.ts';
import { Fields, isJsonObject, type JsonObject } from '../../runtime/fields.ts';
import { type Call, type Plugin, validAttachments } from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';
import { parseSubnetEnv, rangesOf, type SubnetEnv } from './subnet-env.ts';

const DEFAULT_SUBNET_FILE = '/run/flannel/subnet.env';
const DEFAULT_DATA_DIR = '/var/lib/cni/flannel';

export const flannel: Plugin = {
  name: 'flannel',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    const rendered = renderConfig(call, readSubnetEnv(call));
    // Before the delegate runs: a DEL after a crash must know what to undo.
    save(call, rendered);
    const result = await delegate(call, typeOf(rendered), 'ADD', new Fields(rendered));
    if (result === undefined)
      throw new CniError(CNI_ERROR.DECODE, `plugin ${typeOf(rendered)} printed no result`);
    return result;
  },

  async del(call: Call): Promise<void> {
    const rendered = withRequest(call, load(call) ?? bareConfig(call));
    await delegate(call, typeOf(rendered), 'DEL', new Fields(rendered));
    rmSync(savedFile(call), { force: true });
  },

  async check(call: Call): Promise<void> {
    const rendered = withRequest(call, load(call) ?? renderConfig(call, readSubnetEnv(call)));
    await delegate(call, typeOf(rendered), 'CHECK', new Fields(rendered));
  },

  async status(call: Call): Promise<void> {
    let rendered: JsonObject;
    try {
      rendered = renderConfig(call, readSubnetEnv(call));
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new CniError(CNI_ERROR.NOT_AVAILABLE, message, '', { cause });
    }
    await delegate(call, typeOf(rendered), 'STATUS', new Fields(rendered));
  },

  async gc(call: Call): Promise<void> {
    const failures: unknown[] = [];
    const rendered = withRequest(call, bareConfig(call));
    await delegate(call, typeOf(rendered), 'GC', new Fields(rendered)).catch(error => failures.push(error));
    try {
      collectSaved(call);
    } catch (error) {
      failures.push(error);
    }
    if (failures.length > 0) throw joinErrors('flannel GC', failures);
  },
};

function readSubnetEnv(call: Call): SubnetEnv {
  const file = call.config.string('subnetFile') || DEFAULT_SUBNET_FILE;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if (!hasCode(cause, 'ENOENT')) throw cause;
    throw new CniError(
      CNI_ERROR.TRY_AGAIN_LATER,
      `${file} does not exist: the overlay network of this node is not ready yet`,
      'flanneld or podwire writes it once the node has a subnet',
      { cause },
    );
  }
  return parseSubnetEnv(text, file);
}

function delegateFields(call: Call): JsonObject {
  const given = call.config.fields('delegate')?.object ?? {};
  if (given.name !== undefined)
    throw configError("'delegate' dictionary must not have 'name' field, it'll be set by flannel");
  if (given.ipam !== undefined)
    throw configError("'delegate' dictionary must not have 'ipam' field, it'll be set by flannel");
  if (given.type !== undefined && typeof given.type !== 'string')
    throw configError("'delegate' dictionary, if present, must have (string) 'type' field");
  return { type: 'bridge', ...given };
}

/** Pure: the configuration of the delegate. */
export function renderConfig(call: Call, env: SubnetEnv): JsonObject {
  const conf = delegateFields(call);
  const ipam = call.config.fields('ipam')?.object ?? {};
  const routes = Array.isArray(ipam.routes) ? ipam.routes : [];
  return withRequest(call, {
    ...conf,
    ipMasq: conf.ipMasq ?? !env.ipMasq,
    ...(conf.mtu === undefined && env.mtuBytes !== undefined ? { mtu: env.mtuBytes } : {}),
    ...(conf.type === 'bridge' ? { isGateway: conf.isGateway ?? true } : {}),
    ipam: {
      type: 'host-local',
      ...ipam,
      ranges: rangesOf(env),
      routes: [...routes, ...env.networks.map(network => ({ dst: formatCidr(network) }))],
    },
  });
}

/** What DEL and GC can do without a saved configuration and without subnet.env: name and directories are enough. */
function bareConfig(call: Call): JsonObject {
  const ipam = call.config.fields('ipam')?.object ?? {};
  return { ...delegateFields(call), ipam: { type: 'host-local', ...ipam } };
}

/** What belongs to this request rather than to the saved configuration. */
function withRequest(call: Call, conf: JsonObject): JsonObject {
  const passed: JsonObject = {};
  for (const key of [
    'prevResult',
    'runtimeConfig',
    'args',
    'cni.dev/valid-attachments',
    'cni.dev/attachments',
  ]) {
    const value = call.config.raw(key);
    if (value !== undefined) passed[key] = value;
  }
  return { ...conf, ...passed, name: call.networkName, cniVersion: call.cniVersion };
}

function typeOf(conf: JsonObject): string {
  return typeof conf.type === 'string' ? conf.type : 'bridge';
}

function dataDir(call: Call): string {
  return call.config.string('dataDir') || DEFAULT_DATA_DIR;
}

function savedFile(call: Call): string {
  return join(dataDir(call), call.containerId);
}

function save(call: Call, conf: JsonObject): void {
  mkdirSync(dataDir(call), { recursive: true, mode: 0o700 });
  const unfinished = `${savedFile(call)}.new`;
  const fd = openSync(unfinished, 'w', 0o600);
  try {
    writeSync(fd, JSON.stringify(conf));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(unfinished, savedFile(call));
}

/** Undefined when there is none, or what is there cannot be read: DEL goes on with what it knows. */
function load(call: Call): JsonObject | undefined {
  return parseSaved(savedFile(call));
}

function parseSaved(file: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
    return isJsonObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function collectSaved(call: Call): void {
  const keep = new Set(validAttachments(call.config).map(one => one.containerId));
  let names: string[];
  try {
    names = readdirSync(dataDir(call));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  for (const name of names) {
    if (keep.has(name.replace(/\.new$/, ''))) continue;
    const file = join(dataDir(call), name);
    if (parseSaved(file)?.name === call.networkName) rmSync(file, { force: true });
  }
}
