// The parameters that a runtime passes to a plugin in environment variables, checked as the specification and its Go
// library (pkg/skel, pkg/types/args.go) check them. Pure: it reads the map it is given.
import { CniError } from '../../src/lib/errors.ts';
import { CNI_ERROR, configError } from './errors.ts';

export const COMMANDS = ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC', 'VERSION'] as const;
export type Command = (typeof COMMANDS)[number];

export type Environment = Readonly<Record<string, string>>;

/** Which variables a verb cannot do without; an empty value counts as missing, as in the reference. */
const REQUIRED: Record<Command, readonly string[]> = {
  ADD: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  CHECK: ['CNI_CONTAINERID', 'CNI_NETNS', 'CNI_IFNAME', 'CNI_PATH'],
  DEL: ['CNI_CONTAINERID', 'CNI_IFNAME', 'CNI_PATH'],
  STATUS: ['CNI_PATH'],
  GC: ['CNI_PATH'],
  VERSION: [],
};

const ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

export interface Parameters {
  command: Command;
  containerId: string;
  /** As given; may be empty for DEL. */
  netns: string;
  ifName: string;
  args: CniArgs;
  path: string[];
}

export function isCommand(text: string): text is Command {
  return (COMMANDS as readonly string[]).includes(text);
}

/** Reads and checks the variables; code 4 names every one that is missing. */
export function readParameters(environment: Environment): Parameters {
  const command = environment.CNI_COMMAND ?? '';
  if (!isCommand(command)) throw environmentError(`unknown CNI_COMMAND: ${command}`);
  const missing = REQUIRED[command].filter(name => !environment[name]);
  if (missing.length > 0) throw environmentError(`required env variables [${missing.join(',')}] missing`);
  const containerId = environment.CNI_CONTAINERID ?? '';
  const ifName = environment.CNI_IFNAME ?? '';
  if (REQUIRED[command].includes('CNI_CONTAINERID')) {
    if (!ID.test(containerId)) throw environmentError('invalid characters in containerID', containerId);
    checkInterfaceName(ifName);
  }
  return {
    command,
    containerId,
    netns: environment.CNI_NETNS ?? '',
    ifName,
    args: parseArgs(environment.CNI_ARGS ?? ''),
    path: (environment.CNI_PATH ?? '').split(':').filter(directory => directory !== ''),
  };
}

/** What the kernel's dev_valid_name() and the reference accept as an interface name. */
export function checkInterfaceName(name: string): void {
  if (name === '') throw environmentError('interface name is empty');
  if (Buffer.byteLength(name) > 15)
    throw environmentError(
      'interface name is too long',
      `interface name should be less than 16 characters: ${name}`,
    );
  if (name === '.' || name === '..') throw environmentError('interface name is . or ..');
  if (/[/:\s]/.test(name))
    throw environmentError('interface name contains / or : or whitespace characters', name);
}

/** The network's name, which becomes part of file and chain names. */
export function checkNetworkName(name: string | undefined): string {
  if (name === undefined || name === '') throw configError('missing network name');
  if (!ID.test(name)) throw configError('invalid characters found in network name', name);
  return name;
}

/** CNI_ARGS, `K=V;K=V`. Each plugin knows some keys; others are an error unless IgnoreUnknown says otherwise. */
export class CniArgs {
  readonly #pairs: ReadonlyMap<string, string>;

  constructor(pairs: ReadonlyMap<string, string>) {
    this.#pairs = pairs;
  }

  get(key: string): string | undefined {
    return this.#pairs.get(key) || undefined;
  }

  /** Throws when there is a key that is neither in `known` nor one that every plugin accepts. */
  refuseUnknown(known: readonly string[]): void {
    if (/^(1|t|true)$/i.test(this.#pairs.get('IgnoreUnknown') ?? '')) return;
    const unknown = [...this.#pairs.keys()].filter(key => key !== 'IgnoreUnknown' && !known.includes(key));
    if (unknown.length > 0)
      throw environmentError(
        `ARGS: unknown args ${JSON.stringify(unknown)}`,
        `known are ${[...known, 'IgnoreUnknown'].join(', ')}; IgnoreUnknown=1 accepts all`,
      );
  }
}

function parseArgs(text: string): CniArgs {
  const pairs = new Map<string, string>();
  for (const pair of text.split(';')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    if (equals <= 0)
      throw environmentError(`ARGS: invalid pair ${JSON.stringify(pair)}`, 'expected KEY=VALUE');
    pairs.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  return new CniArgs(pairs);
}

function environmentError(message: string, details = ''): CniError {
  return new CniError(CNI_ERROR.INVALID_ENVIRONMENT, message, details);
}
