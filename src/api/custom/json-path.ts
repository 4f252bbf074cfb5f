// The JSONPath subset that definitions may use for columns, scale and selectable fields: `.spec.a`, `['a.b']`, `[0]`,
// `[*]`, and `[?(@.type=="Ready")]` (client-go util/jsonpath, "simple" form).
import { isJsonObject, type JsonValue, ownValue } from '../../lib/json.ts';

type Step =
  | { readonly member: string }
  | { readonly index: number }
  | { readonly all: true }
  | { readonly filter: readonly string[]; readonly equals: JsonValue };

export interface JsonPath {
  readonly steps: readonly Step[];
  /** Exactly one place, such as `.spec.replicas`. */
  readonly isPlain: boolean;
}

const TOKEN =
  /\.([A-Za-z_$][\w$-]*)|\.\*|\[\s*'((?:[^'\\]|\\.)*)'\s*\]|\[\s*"((?:[^"\\]|\\.)*)"\s*\]|\[\s*(-?\d+)\s*\]|\[\s*\*\s*\]|\[\?\(\s*@((?:\.[\w$-]+)+)\s*==\s*("[^"]*"|'[^']*'|-?\d+|true|false)\s*\)\]/y;

/** Undefined for what is outside the subset. Braces round the path, as kubectl writes them, are allowed. */
export function parseJsonPath(text: string): JsonPath | undefined {
  const path = text
    .trim()
    .replace(/^\{(.*)\}$/s, '$1')
    .replace(/^\$/, '');
  const source = path.startsWith('.') || path.startsWith('[') || path === '' ? path : `.${path}`;
  const steps: Step[] = [];
  TOKEN.lastIndex = 0;
  let at = 0;
  while (at < source.length) {
    // `\.` in a name stands for a dot: `.metadata.annotations.a\.b/c`.
    const escaped = /^\.((?:[^.[\\]|\\.)+)/.exec(source.slice(at));
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(source);
    if (
      escaped &&
      (escaped[1]!.includes('\\') || (match?.[1] ?? '').length < escaped[1]!.length) &&
      escaped[1] !== '*'
    ) {
      steps.push({ member: escaped[1]!.replace(/\\(.)/g, '$1') });
      at += escaped[0].length;
      continue;
    }
    if (!match) return undefined;
    const [whole, name, single, double, index, filter, value] = match;
    const member = name ?? single ?? double;
    if (member !== undefined) steps.push({ member });
    else if (index !== undefined) steps.push({ index: Number(index) });
    else if (filter !== undefined)
      steps.push({ filter: filter.slice(1).split('.'), equals: literal(value!) });
    else steps.push({ all: true });
    at += whole.length;
  }
  return { steps, isPlain: steps.every(step => 'member' in step) };
}

function literal(text: string): JsonValue {
  if (/^["']/.test(text)) return text.slice(1, -1);
  return text === 'true' ? true : text === 'false' ? false : Number(text);
}

/** Every value the path leads to. */
export function evaluateJsonPath(path: JsonPath, root: JsonValue): JsonValue[] {
  let values: JsonValue[] = [root];
  for (const step of path.steps) values = values.flatMap(value => follow(value, step));
  return values;
}

function follow(value: JsonValue, step: Step): JsonValue[] {
  if ('member' in step) {
    const found = isJsonObject(value) ? ownValue(value, step.member) : undefined;
    return found === undefined ? [] : [found];
  }
  if ('all' in step) return Array.isArray(value) ? value : isJsonObject(value) ? Object.values(value) : [];
  if (!Array.isArray(value)) return [];
  if ('index' in step) {
    const found = value.at(step.index);
    return found === undefined ? [] : [found];
  }
  const plain: JsonPath = { steps: step.filter.map(member => ({ member })), isPlain: true };
  return value.filter(item => evaluateJsonPath(plain, item).some(found => found === step.equals));
}

/** The one value at a plain path. */
export function valueAt(path: JsonPath, root: JsonValue): JsonValue | undefined {
  return evaluateJsonPath(path, root)[0];
}

/** Sets the value at a plain path, making objects on the way. */
export function setAt(path: JsonPath, root: JsonValue, value: JsonValue): void {
  let node = root;
  for (const [index, step] of path.steps.entries()) {
    if (!('member' in step) || !isJsonObject(node)) return;
    if (index === path.steps.length - 1) node[step.member] = value;
    else {
      const below = ownValue(node, step.member);
      const next = isJsonObject(below) ? below : {};
      node[step.member] = next;
      node = next;
    }
  }
}
