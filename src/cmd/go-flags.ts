// Command lines as Go's `flag` package reads them, for programs that stand in for one written in Go: `-name` and `--name`
// are the same, a boolean takes a value only after `=`, a list is repeated, and a variable PREFIX_NAME of the
// environment stands for a flag that is not given. Pure. Source: https://pkg.go.dev/flag.

interface Definition {
  kind: 'string' | 'list' | 'boolean' | 'integer';
  value?: string | number | boolean;
  help: string;
}

/** One table of all flags; `value` is the default. */
export type FlagTable = Record<string, Definition>;

type ValueOf<D extends Definition> = D['kind'] extends 'string'
  ? string
  : D['kind'] extends 'list'
    ? string[]
    : D['kind'] extends 'boolean'
      ? boolean
      : number;

export type FlagValues<T extends FlagTable> = { [Name in keyof T]: ValueOf<T[Name]> };

export interface ParsedFlags<T extends FlagTable> {
  values: FlagValues<T>;
  /** Everything wrong with the command line. */
  problems: string[];
}

const TRUE = new Set(['1', 't', 'T', 'true', 'TRUE', 'True']);
const FALSE = new Set(['0', 'f', 'F', 'false', 'FALSE', 'False']);

function defaultOf(definition: Definition): unknown {
  switch (definition.kind) {
    case 'list':
      return [];
    case 'string':
      return definition.value ?? '';
    case 'integer':
      return definition.value ?? 0;
    case 'boolean':
      return definition.value ?? false;
  }
}

/** Reads `argv` (without program), then the environment for what is not given. */
export function parseGoFlags<T extends FlagTable>(
  table: T,
  argv: readonly string[],
  options: { env?: NodeJS.ProcessEnv; envPrefix?: string } = {},
): ParsedFlags<T> {
  const problems: string[] = [];
  const given = new Set<string>();
  const values: Record<string, unknown> = {};
  for (const [name, definition] of Object.entries(table)) values[name] = defaultOf(definition);
  const set = (name: string, kind: Definition['kind'], text: string, source: string): void => {
    given.add(name);
    if (kind === 'string') values[name] = text;
    else if (kind === 'list') (values[name] as string[]).push(text);
    else if (kind === 'boolean') {
      if (TRUE.has(text) || FALSE.has(text)) values[name] = TRUE.has(text);
      else problems.push(`${source}: "${text}" is neither true nor false`);
    } else if (/^-?\d{1,15}$/.test(text)) values[name] = Number(text);
    else problems.push(`${source}: "${text}" is not a whole number`);
  };
  const rest = [...argv];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const match = /^--?([^-=][^=]*)(?:=([\s\S]*))?$/.exec(word);
    if (!match) {
      // `--` and the first word that is no flag end the flags; the programs this serves take nothing more.
      for (const extra of word === '--' ? rest : [word, ...rest])
        problems.push(`unexpected argument "${extra}"`);
      break;
    }
    const [, name = '', attached] = match;
    const definition = table[name];
    if (definition === undefined) {
      problems.push(`there is no flag -${name}`);
      continue;
    }
    const text = attached ?? (definition.kind === 'boolean' ? 'true' : rest.shift());
    if (text === undefined) problems.push(`--${name} needs a value`);
    else set(name, definition.kind, text, `--${name}`);
  }
  const { env = {}, envPrefix } = options;
  if (envPrefix !== undefined)
    for (const [name, { kind }] of Object.entries(table)) {
      const variable = `${envPrefix}_${name.replaceAll('-', '_').toUpperCase()}`;
      const text = env[variable];
      if (text && !given.has(name)) set(name, kind, text, variable);
    }
  return { values: values as FlagValues<T>, problems };
}

/** The list of flags for `--help`. */
export function describeFlags(table: FlagTable): string {
  return Object.entries(table)
    .map(([name, { kind, value, help }]) => {
      const shown = value === undefined || value === '' ? '' : ` (default ${JSON.stringify(value)})`;
      return `  --${name}${kind === 'boolean' ? '' : ` ${kind === 'integer' ? 'int' : 'string'}`}\n        ${help}${shown}`;
    })
    .join('\n');
}
