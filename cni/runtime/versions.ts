// The versions of the CNI specification and what each of them allows. A configuration without one means 0.1.0.
import { CniError } from '../../src/lib/errors.ts';
import { CNI_ERROR } from './errors.ts';

export const CNI_VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof CNI_VERSIONS)[number];

export const LATEST_CNI_VERSION: CniVersion = '1.1.0';

export function isCniVersion(text: string): text is CniVersion {
  return (CNI_VERSIONS as readonly string[]).includes(text);
}

/** True when `version` is `least` or newer. */
export function atLeast(version: CniVersion, least: CniVersion): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(least);
}

/** All versions from `least` on, for plugins that did not exist before it. */
export function versionsFrom(least: CniVersion): readonly CniVersion[] {
  return CNI_VERSIONS.slice(CNI_VERSIONS.indexOf(least));
}

/** The configuration's version when the plugin supports it; code 1 otherwise. */
export function requireVersion(text: string, supported: readonly CniVersion[]): CniVersion {
  const version = text === '' ? '0.1.0' : text;
  if (isCniVersion(version) && supported.includes(version)) return version;
  const list = supported.map(one => `"${one}"`).join(' ');
  throw new CniError(
    CNI_ERROR.INCOMPATIBLE_VERSION,
    'incompatible CNI versions',
    `config is "${version}", plugin supports [${list}]`,
  );
}
