// Network configuration lists (`*.conflist`) and single configurations (`*.conf`, `*.json`) as runtimes load them.
// Source: SPEC.md section 1 and libcni/conf.go.
import { readdirSync, readFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { hasCode } from '../../src/lib/errors.ts';
import { checkNetworkName } from './environment.ts';
import { configError } from './errors.ts';
import { Fields } from './fields.ts';
import { atLeast, type CniVersion, isCniVersion } from './versions.ts';

export interface NetworkList {
  name: string;
  cniVersion: CniVersion;
  disableCheck: boolean;
  disableGc: boolean;
  plugins: Fields[];
  /** As read; kept in the cache beside results. */
  text: string;
}

/** Reads a list, or a single plugin's configuration as a list of one. */
export function parseNetworkList(text: string, file: string): NetworkList {
  const fields = Fields.parse(text, file);
  if (fields.raw('plugins') === undefined) {
    if (!fields.string('type')) throw configError(`${file}: missing 'type' and 'plugins'`);
    return makeList(fields, [fields], text, file);
  }
  const inline = fields.fieldsList('plugins');
  const beside = fields.boolean('loadOnlyInlinedPlugins') ? [] : pluginsBeside(file, fields.string('name'));
  return makeList(fields, [...inline, ...beside], text, file);
}

function makeList(fields: Fields, plugins: Fields[], text: string, file: string): NetworkList {
  if (plugins.length === 0) throw configError(`${file}: no plugins in list`);
  for (const plugin of plugins)
    if (!plugin.string('type')) throw configError(`${file}: ${plugin.path || 'plugin'} has no type`);
  return {
    name: checkNetworkName(fields.string('name')),
    cniVersion: chooseVersion(fields, file),
    disableCheck: fields.boolean('disableCheck') ?? false,
    disableGc: fields.boolean('disableGC') ?? false,
    plugins,
    text,
  };
}

/** The highest of `cniVersion` and `cniVersions` that we know. */
function chooseVersion(fields: Fields, file: string): CniVersion {
  const listed = [fields.string('cniVersion') || '0.1.0', ...fields.strings('cniVersions')];
  const known = listed.filter(isCniVersion);
  if (known.length === 0)
    throw configError(`${file}: none of the CNI versions ${listed.join(', ')} is known`);
  return known.reduce((best, one) => (atLeast(one, best) ? one : best));
}

/** `<directory of the list>/<network>/*.conf`, CNI 1.1.0's way to add plugins to a list. */
function pluginsBeside(file: string, name: string | undefined): Fields[] {
  if (!name) return [];
  const directory = join(file, '..', name);
  return listFiles(directory, ['.conf']).map(one => Fields.parse(readFileSync(one, 'utf8'), one));
}

function listFiles(directory: string, endings: readonly string[]): string[] {
  try {
    return readdirSync(directory)
      .filter(name => endings.includes(extname(name)))
      .sort()
      .map(name => join(directory, name));
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return [];
    throw error;
  }
}

/** All networks of a directory in the order of file names, which is the order runtimes choose by. */
export function loadNetworkLists(directory: string): NetworkList[] {
  return listFiles(directory, ['.conflist', '.conf', '.json']).map(file =>
    parseNetworkList(readFileSync(file, 'utf8'), file),
  );
}

export function findNetworkList(directory: string, name: string): NetworkList {
  for (const file of listFiles(directory, ['.conflist', '.conf', '.json'])) {
    const text = readFileSync(file, 'utf8');
    // One broken file must not hide the network that is asked for.
    try {
      const list = parseNetworkList(text, file);
      if (list.name === name) return list;
    } catch (error) {
      if (basename(file, extname(file)) === name || text.includes(JSON.stringify(name))) throw error;
    }
  }
  throw configError(`no network ${JSON.stringify(name)} in ${directory}`);
}
