// Reading KubeProxyConfiguration and kube-proxy's flags by the table in fields.ts. All mistakes are listed at once, each
// with its path. `--config` wins over flags for the same fields, as upstream. Pure: the caller reads the file.
import { parse as parseYaml, stringify as stringifyYaml } from 'yaml';
import { errorMessage, PodwireError } from '../../src/lib/errors.ts';
import { formatDuration, parseDuration } from './duration.ts';
import { COMMAND_FLAGS, FIELDS, type Field } from './fields.ts';
import { checkMeaning } from './meaning.ts';

const API_VERSION = 'kubeproxy.config.k8s.io/v1alpha1';
const KIND = 'KubeProxyConfiguration';

/** Everything wrong with a configuration at once, each with its flag or path. */
export class ConfigError extends PodwireError {
  readonly problems: readonly string[];
  constructor(problems: readonly string[], options?: ErrorOptions) {
    super('INVALID_CONFIG', problems.join('; '), options);
    this.problems = problems;
  }
}

/** Values by path; see FIELDS for each one's type. Durations are milliseconds. */
export class ProxyConfiguration {
  readonly #values: ReadonlyMap<string, unknown>;
  /** Fields that were set although they have no effect here. */
  readonly ignored: readonly string[];

  constructor(values: ReadonlyMap<string, unknown>, ignored: readonly string[] = []) {
    this.#values = values;
    this.ignored = ignored;
  }

  #get(path: string): unknown {
    const field = FIELDS.find(candidate => candidate.path === path);
    if (!field) throw new PodwireError('UNKNOWN_FIELD', `${path} is no field of ${KIND}`);
    return this.#values.get(path) ?? field.default;
  }

  string(path: string): string {
    return String(this.#get(path));
  }
  boolean(path: string): boolean {
    return this.#get(path) === true;
  }
  number(path: string): number {
    return Number(this.#get(path));
  }
  strings(path: string): readonly string[] {
    return this.#get(path) as readonly string[];
  }

  /** True when the file or a flag says so, not the default. */
  isSet(path: string): boolean {
    return this.#values.has(path);
  }

  /** The whole configuration, defaults filled in, as /configz shows it. */
  toObject(): Record<string, unknown> {
    const root: Record<string, unknown> = { apiVersion: API_VERSION, kind: KIND };
    for (const field of FIELDS) {
      const value = this.#get(field.path);
      const parts = field.path.split('.');
      let at = root;
      for (const part of parts.slice(0, -1)) {
        at[part] ??= {};
        at = at[part] as Record<string, unknown>;
      }
      at[parts.at(-1) ?? ''] = field.type === 'duration' ? formatDuration(value as number) : value;
    }
    return root;
  }

  /** For --write-config-to. */
  toYaml(): string {
    return stringifyYaml(this.toObject());
  }
}

/** The value in the field's type, or a sentence about what is wrong with it. */
function convert(field: Field, raw: unknown, fromFlag: boolean): { value: unknown } | string {
  const shown = JSON.stringify(raw);
  const text = typeof raw === 'string' ? raw : undefined;
  switch (field.type) {
    case 'string':
      return text === undefined ? `${shown} is not a string` : { value: text };
    case 'boolean':
      if (typeof raw === 'boolean') return { value: raw };
      if (fromFlag && /^(true|false|1|0|t|f)$/i.test(text ?? ''))
        return { value: /^(true|1|t)$/i.test(text ?? '') };
      return `${shown} is not true or false`;
    case 'integer':
    case 'number': {
      const value = fromFlag && text?.trim() ? Number(text) : raw;
      if (typeof value !== 'number' || Number.isNaN(value)) return `${shown} is not a number`;
      if (field.type === 'integer' && !Number.isInteger(value)) return `${shown} is not a whole number`;
      return inRange(field, value, shown);
    }
    case 'duration': {
      const value = text === undefined ? undefined : parseDuration(text);
      if (value === undefined) return `${shown} is not a duration such as 30s or 1m30s`;
      return inRange(field, value, shown);
    }
    case 'strings':
      if (fromFlag && text !== undefined)
        return {
          value: text
            .split(',')
            .map(part => part.trim())
            .filter(Boolean),
        };
      if (Array.isArray(raw) && raw.every(part => typeof part === 'string')) return { value: raw };
      return raw === null ? { value: [] } : `${shown} is not a list of strings`;
    case 'gates': {
      if (raw === null) return { value: {} };
      const pairs =
        fromFlag && text !== undefined
          ? text
              .split(',')
              .filter(Boolean)
              .map(part => part.split('='))
          : undefined;
      const gates = pairs ? Object.fromEntries(pairs.map(([name, value]) => [name, value === 'true'])) : raw;
      return typeof gates === 'object' && !Array.isArray(gates)
        ? { value: gates }
        : `${shown} is not a map of feature gates`;
    }
    case 'any':
      return { value: raw };
  }
}

function inRange(field: Field, value: number, shown: string): { value: number } | string {
  const { minimum = -Infinity, maximum = Infinity } = field;
  if (value >= minimum && value <= maximum) return { value };
  return `${shown} is not ${maximum === Infinity ? `${minimum} or more` : `between ${minimum} and ${maximum}`}`;
}

/** In a file Go's zero values mean "not set", as upstream's defaulting has it. */
function meansDefault(field: Field, raw: unknown): boolean {
  if (raw === null || raw === '') return true;
  if (field.pointer || field.type === 'boolean') return false;
  return raw === 0 || (field.type === 'duration' && typeof raw === 'string' && parseDuration(raw) === 0);
}

function finish(values: ReadonlyMap<string, unknown>, problems: readonly string[]): ProxyConfiguration {
  const all = [...problems, ...checkMeaning(values)];
  if (all.length > 0) throw new ConfigError(all);
  const ignored = FIELDS.filter(field => field.ignored && values.has(field.path)).map(field => field.path);
  return new ProxyConfiguration(values, ignored);
}

/** Reads a KubeProxyConfiguration file (YAML or JSON). */
export function parseConfigFile(text: string): ProxyConfiguration {
  let root: unknown;
  try {
    root = parseYaml(text);
  } catch (cause) {
    throw new ConfigError([`not YAML: ${errorMessage(cause)}`], { cause });
  }
  if (typeof root !== 'object' || root === null || Array.isArray(root))
    throw new ConfigError([`not a ${KIND} object`]);
  const { apiVersion, kind, ...fields } = root as Record<string, unknown>;
  const problems: string[] = [];
  if (apiVersion !== API_VERSION)
    problems.push(
      `apiVersion: ${JSON.stringify(apiVersion)} is not ${API_VERSION}, the only version there is`,
    );
  if (kind !== KIND) problems.push(`kind: ${JSON.stringify(kind)} is not ${KIND}`);
  const values = new Map<string, unknown>();
  const walk = (object: Record<string, unknown>, prefix: string): void => {
    for (const [key, raw] of Object.entries(object)) {
      const path = prefix + key;
      const field = FIELDS.find(candidate => candidate.path === path);
      if (field) {
        const result = meansDefault(field, raw) ? undefined : convert(field, raw, false);
        if (typeof result === 'string') problems.push(`${path}: ${result}`);
        else if (result) values.set(path, result.value);
      } else if (FIELDS.some(candidate => candidate.path.startsWith(`${path}.`))) {
        if (typeof raw === 'object' && raw !== null && !Array.isArray(raw))
          walk(raw as Record<string, unknown>, `${path}.`);
        else if (raw !== null) problems.push(`${path}: ${JSON.stringify(raw)} is not an object`);
      } else problems.push(`${path}: unknown field`);
    }
  };
  walk(fields, '');
  return finish(values, problems);
}

export interface CommandLine {
  config?: string;
  'write-config-to'?: string;
  cleanup?: boolean;
  'init-only'?: boolean;
  master?: string;
  version?: boolean;
  help?: boolean;
}

/** Reads kube-proxy's flags: `--name=value`, `--name value`, `--boolean`; klog's single dash is taken too. */
export function parseFlags(args: readonly string[]): {
  command: CommandLine;
  configuration: ProxyConfiguration;
} {
  const problems: string[] = [];
  const command: Record<string, unknown> = {};
  const values = new Map<string, unknown>();
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? '';
    const match = /^--?([a-zA-Z][\w-]*)(?:=([\s\S]*))?$/.exec(arg);
    if (!match) {
      problems.push(`${JSON.stringify(arg)}: not a flag`);
      continue;
    }
    const name = (match[1] ?? '').replaceAll('_', '-');
    const field = FIELDS.find(candidate => candidate.flag === name);
    const commandType = Object.hasOwn(COMMAND_FLAGS, name)
      ? COMMAND_FLAGS[name as keyof typeof COMMAND_FLAGS]
      : undefined;
    const type = field?.type ?? commandType;
    if (type === undefined) {
      problems.push(`--${name}: unknown flag`);
      continue;
    }
    const value = match[2] ?? (type === 'boolean' ? 'true' : args[++index]);
    if (value === undefined) problems.push(`--${name}: needs a value`);
    else if (field) {
      const result = convert(field, value, true);
      if (typeof result === 'string') problems.push(`--${name}: ${result}`);
      else values.set(field.path, result.value);
    } else command[name] = type === 'boolean' ? value === 'true' : value;
  }
  return { command: command as CommandLine, configuration: finish(values, problems) };
}
