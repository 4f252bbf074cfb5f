// One request from its environment and stdin to what the plugin's process prints: the order of checks, the exit status
// and the JSON are those of the reference (containernetworking/cni pkg/skel), so that any runtime can call us.
import { CniError } from '../../src/lib/errors.ts';
import { callVerb } from './delegate.ts';
import { checkNetworkName, type Environment, readParameters } from './environment.ts';
import { CNI_ERROR, errorJson, toCniError } from './errors.ts';
import { Fields } from './fields.ts';
import { type Call, type Plugin, type Site, validAttachments } from './plugin.ts';
import type { Result } from './result.ts';
import { encodeResult } from './result-versions.ts';
import { atLeast, type CniVersion, isCniVersion, LATEST_CNI_VERSION, requireVersion } from './versions.ts';

export interface Request {
  plugin: string;
  stdin: string;
  environment: Environment;
  /** Made when the parameters are known to be good. */
  site: () => Site;
}

export interface Answer {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** The verbs that a version of the specification does not have yet. */
const SINCE: Partial<Record<string, CniVersion>> = { CHECK: '0.4.0', STATUS: '1.1.0', GC: '1.1.0' };

/** Never throws: whatever goes wrong is an answer in CNI's form. */
export async function dispatch(request: Request, plugin: Plugin | undefined): Promise<Answer> {
  const progress: { cniVersion?: CniVersion; stderr: string[] } = { stderr: [] };
  try {
    if (plugin === undefined)
      throw new CniError(CNI_ERROR.INTERNAL, `podwire has no CNI plugin ${request.plugin}`);
    if (!request.environment.CNI_COMMAND) return about(plugin);
    const parameters = readParameters(request.environment);
    if (parameters.command === 'VERSION') return print(versionJson(plugin, request.stdin));
    const config = Fields.parse(request.stdin, 'network configuration');
    const networkName = checkNetworkName(config.string('name'));
    const cniVersion = requireVersion(config.string('cniVersion') ?? '', plugin.versions);
    progress.cniVersion = cniVersion;
    const since = SINCE[parameters.command];
    if (since !== undefined && !atLeast(cniVersion, since))
      throw new CniError(
        CNI_ERROR.INCOMPATIBLE_VERSION,
        `config version does not allow ${parameters.command}`,
        `config is "${cniVersion}", ${parameters.command} needs ${since}`,
      );
    if (parameters.command === 'GC') validAttachments(config);
    const site = request.site();
    progress.stderr = site.stderr;
    const call: Call = { ...parameters, config, stdin: request.stdin, cniVersion, networkName, site };
    const result = await callVerb(plugin, call);
    return print(resultJson(result, cniVersion), progress.stderr);
  } catch (thrown) {
    const error = toCniError(thrown);
    return {
      exitCode: 1,
      stdout: `${JSON.stringify(errorJson(error, progress.cniVersion), null, 4)}\n`,
      stderr: progress.stderr.join(''),
    };
  }
}

function resultJson(result: Result | undefined, version: CniVersion): string {
  return result === undefined ? '' : `${JSON.stringify(encodeResult(result, version), null, 4)}\n`;
}

function print(stdout: string, stderr: readonly string[] = []): Answer {
  return { exitCode: 0, stdout, stderr: stderr.join('') };
}

/** Without CNI_COMMAND a person is asking what this program is. */
function about(plugin: Plugin): Answer {
  const stderr = `CNI ${plugin.name} plugin of podwire\nCNI protocol versions supported: ${plugin.versions.join(', ')}\n`;
  return { exitCode: 0, stdout: '', stderr };
}

/** The answer repeats the asker's version where there is one that we know (SPEC.md "VERSION"). */
function versionJson(plugin: Plugin, stdin: string): string {
  let cniVersion: string = LATEST_CNI_VERSION;
  if (stdin.trim() !== '') {
    try {
      const asked = Fields.parse(stdin, 'version request').string('cniVersion') ?? '';
      if (isCniVersion(asked)) cniVersion = asked;
    } catch {
      // The reference does not even read the input of VERSION.
    }
  }
  return `${JSON.stringify({ cniVersion, supportedVersions: plugin.versions })}\n`;
}
