// The tuning plugin's configuration: sysctls of the pod's namespace and attributes of its interface. Pure, but for the
// allow list that an administrator may have put on the host.
import { existsSync, readFileSync } from 'node:fs';
import { requestedMac } from '../../link/requested-mac.ts';
import { configError, decodeError } from '../../runtime/errors.ts';
import type { Fields } from '../../runtime/fields.ts';
import { argsCni, type Call } from '../../runtime/plugin.ts';

/** Lines of regular expressions; a sysctl must match one of them when the file is there. */
export const ALLOW_LIST = '/etc/cni/tuning/allowlist.conf';
const DEFAULT_DATA_DIR = '/run/cni/tuning';

/** Attributes of the interface; those that are undefined stay as they are. */
export interface LinkTuning {
  mac?: string;
  promisc?: boolean;
  mtu?: number;
  allmulti?: boolean;
  txQLen?: number;
}

export interface TuningConfig {
  /** Path below /proc/sys → value. */
  sysctls: Map<string, string>;
  link: LinkTuning;
  dataDir: string;
}

export function tuningDataDir(call: Call): string {
  return call.config.string('dataDir') || DEFAULT_DATA_DIR;
}

export function readTuningConfig(call: Call): TuningConfig {
  const { config } = call;
  const args = argsCni(call);
  const sysctls = new Map<string, string>();
  const seen = new Set<string>();
  for (const [fields, mayRepeat] of [
    [config.fields('sysctl'), false],
    [args.fields('sysctl'), true],
  ] as const)
    for (const key of Object.keys(fields?.object ?? {})) {
      const path = sysctlPath(key, call.ifName);
      if (seen.has(path) && !mayRepeat) throw configError(`duplicate sysctl ${key}`);
      seen.add(path);
      sysctls.set(path, sysctlValue(fields!, key));
    }
  checkAllowed(sysctls);
  const mac = requestedMac(call) ?? (config.string('mac') || undefined);
  const link: LinkTuning = {
    ...(mac === undefined ? {} : { mac }),
    ...pick('promisc', args.boolean('promisc') ?? config.boolean('promisc')),
    ...pick('mtu', args.integer('mtu', 0, 65535) || config.integer('mtu', 0, 65535) || undefined),
    ...pick('allmulti', args.boolean('allmulti') ?? config.boolean('allmulti')),
    ...pick('txQLen', args.integer('txQLen') ?? config.integer('txQLen')),
  };
  return { sysctls, link, dataDir: tuningDataDir(call) };
}

function pick<K extends keyof LinkTuning>(key: K, value: LinkTuning[K]): LinkTuning {
  return value === undefined ? {} : { [key]: value };
}

/** `net.ipv4.conf.IFNAME.arp_filter` or `net/ipv4/conf/IFNAME/arp_filter`; names with dots need the slashes. */
function sysctlPath(key: string, ifName: string): string {
  const path = (key.includes('/') ? key : key.replaceAll('.', '/')).replaceAll('IFNAME', ifName);
  if (!path.startsWith('net/') || path.split('/').some(part => part === '..' || part === ''))
    throw configError(`invalid net sysctl key: ${JSON.stringify(key)}`);
  return path;
}

function sysctlValue(fields: Fields, key: string): string {
  const value = fields.object[key];
  if (typeof value !== 'string') throw decodeError(`field ${fields.at(key)} must be a string`);
  return value;
}

function checkAllowed(sysctls: ReadonlyMap<string, string>): void {
  if (sysctls.size === 0 || !existsSync(ALLOW_LIST)) return;
  const patterns = readFileSync(ALLOW_LIST, 'utf8')
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '')
    .map(line => new RegExp(line));
  for (const path of sysctls.keys()) {
    const dotted = path.replaceAll('/', '.');
    if (!patterns.some(pattern => pattern.test(dotted)))
      throw configError(`sysctl ${dotted} is not allowed`, `${ALLOW_LIST} has no pattern for it`);
  }
}
