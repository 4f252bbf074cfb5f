// Label selectors and field selectors: text form (query parameters), object form (LabelSelector), matching.
// The grammar and the messages are those of k8s.io/apimachinery `labels` and `fields`.
import { ownValue } from '../lib/json.ts';
import { checkLabelValue, checkQualifiedName } from './names.ts';
import { badRequest } from './status.ts';
import type { LabelSelector } from './types.ts';

export type LabelOperator = 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'Gt' | 'Lt';

export interface LabelRequirement {
  readonly key: string;
  readonly operator: LabelOperator;
  readonly values: readonly string[];
}

/** All requirements hold, or the selector does not match. No requirement matches everything. */
export type ParsedLabelSelector = readonly LabelRequirement[];

export const EVERYTHING: ParsedLabelSelector = [];
/** A requirement no object meets: what a missing LabelSelector selects. */
export const NOTHING: ParsedLabelSelector = [{ key: '', operator: 'In', values: [] }];

const SYMBOLS = ['==', '!=', '=', '!', ',', '(', ')', '<', '>'] as const;

/** `a=b, c in (d,e), !f` → its tokens; words end at white space and at symbols. */
function tokenize(text: string): string[] {
  const tokens: string[] = [];
  let at = 0;
  while (at < text.length) {
    const char = text[at] ?? '';
    if (/[ \t\r\n]/.test(char)) {
      at++;
      continue;
    }
    const symbol = SYMBOLS.find(candidate => text.startsWith(candidate, at));
    if (symbol) {
      tokens.push(symbol);
      at += symbol.length;
      continue;
    }
    const word = /^[^ \t\r\n=!,()<>]+/.exec(text.slice(at))?.[0] ?? char;
    tokens.push(word);
    at += word.length;
  }
  return tokens;
}

function isSymbol(token: string | undefined): boolean {
  return token !== undefined && (SYMBOLS as readonly string[]).includes(token);
}

class SelectorParser {
  readonly #tokens: string[];
  #at = 0;

  constructor(text: string) {
    this.#tokens = tokenize(text);
  }

  parse(): LabelRequirement[] {
    const requirements: LabelRequirement[] = [];
    if (this.#tokens.length === 0) return requirements;
    for (;;) {
      requirements.push(this.#requirement());
      const token = this.#next();
      if (token === undefined) return requirements;
      if (token !== ',') throw selectorError(`found '${token}', expected: ',' or 'end of string'`);
      if (this.#peek() === undefined) throw selectorError(`found '', expected: identifier after ','`);
    }
  }

  #peek(): string | undefined {
    return this.#tokens[this.#at];
  }

  #next(): string | undefined {
    return this.#tokens[this.#at++];
  }

  #key(): string {
    const key = this.#next();
    if (key === undefined || isSymbol(key))
      throw selectorError(`found '${key ?? ''}', expected: !, identifier, or 'end of string'`);
    const errors = checkQualifiedName(key);
    if (errors.length > 0) throw selectorError(`key: Invalid value: "${key}": ${errors.join('; ')}`);
    return key;
  }

  #requirement(): LabelRequirement {
    if (this.#peek() === '!') {
      this.#next();
      return { key: this.#key(), operator: 'DoesNotExist', values: [] };
    }
    const key = this.#key();
    const operator = this.#peek();
    if (operator === undefined || operator === ',') return { key, operator: 'Exists', values: [] };
    this.#next();
    switch (operator) {
      case '=':
      case '==':
        return checked({ key, operator: 'In', values: [this.#value()] });
      case '!=':
        return checked({ key, operator: 'NotIn', values: [this.#value()] });
      case 'in':
        return checked({ key, operator: 'In', values: this.#values() });
      case 'notin':
        return checked({ key, operator: 'NotIn', values: this.#values() });
      case '<':
      case '>':
        return this.#comparison(key, operator === '<' ? 'Lt' : 'Gt');
      default:
        throw selectorError(`found '${operator}', expected: in, notin, =, ==, !=, gt, lt`);
    }
  }

  #value(): string {
    const token = this.#peek();
    if (token === undefined || token === ',') return '';
    this.#next();
    if (isSymbol(token)) throw selectorError(`found '${token}', expected: identifier`);
    return token;
  }

  #comparison(key: string, operator: 'Lt' | 'Gt'): LabelRequirement {
    const value = this.#value();
    if (!/^[-+]?\d+$/.test(value))
      throw selectorError(
        `values[0][${key}]: Invalid value: "${value}": for 'Gt', 'Lt' operators, the value must be an integer`,
      );
    return { key, operator, values: [value] };
  }

  #values(): string[] {
    if (this.#next() !== '(') throw selectorError("found '', expected: '('");
    const values: string[] = [];
    let wanted = true;
    for (;;) {
      const token = this.#next();
      if (token === ')') {
        if (wanted) values.push('');
        return [...new Set(values)].sort();
      }
      if (token === ',') {
        if (wanted) values.push('');
        wanted = true;
      } else if (token === undefined || isSymbol(token) || !wanted) {
        throw selectorError(`found '${token ?? ''}', expected: ',', ')' or identifier`);
      } else {
        values.push(token);
        wanted = false;
      }
    }
  }
}

function checked(requirement: LabelRequirement): LabelRequirement {
  for (const [index, value] of requirement.values.entries()) {
    const errors = checkLabelValue(value);
    if (errors.length > 0)
      throw selectorError(
        `values[${index}][${requirement.key}]: Invalid value: "${value}": ${errors.join('; ')}`,
      );
  }
  return requirement;
}

function selectorError(why: string) {
  return badRequest(`unable to parse requirement: ${why}`);
}

/** Parses the `labelSelector` query parameter. Throws ApiError 400. */
export function parseLabelSelector(text: string): ParsedLabelSelector {
  return new SelectorParser(text).parse();
}

/** The text form, as status.selector of a Scale needs it; parseLabelSelector reads it back. */
export function formatLabelSelector(selector: ParsedLabelSelector): string {
  return selector.map(formatRequirement).join(',');
}

function formatRequirement({ key, operator, values }: LabelRequirement): string {
  switch (operator) {
    case 'Exists':
      return key;
    case 'DoesNotExist':
      return `!${key}`;
    case 'Gt':
      return `${key}>${values[0] ?? ''}`;
    case 'Lt':
      return `${key}<${values[0] ?? ''}`;
    default:
      if (values.length === 1) return `${key}${operator === 'In' ? '=' : '!='}${values[0]}`;
      return `${key} ${operator === 'In' ? 'in' : 'notin'} (${values.join(',')})`;
  }
}

/** A LabelSelector object's requirements. Missing selects nothing, empty selects everything (metav1.LabelSelectorAsSelector). */
export function labelSelectorFromObject(selector: LabelSelector | undefined | null): ParsedLabelSelector {
  if (!selector) return NOTHING;
  const requirements: LabelRequirement[] = labelSelectorFromMap(selector.matchLabels).slice();
  for (const expression of selector.matchExpressions ?? []) {
    const operator = expression.operator;
    if (operator !== 'In' && operator !== 'NotIn' && operator !== 'Exists' && operator !== 'DoesNotExist')
      throw badRequest(`"${operator}" is not a valid label selector operator`);
    requirements.push({ key: expression.key, operator, values: expression.values ?? [] });
  }
  return requirements;
}

/** A plain map as selector, as Services and ReplicationControllers have it. */
export function labelSelectorFromMap(map: Record<string, string> | undefined | null): ParsedLabelSelector {
  return Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => ({ key, operator: 'In', values: [value] }));
}

export function matchesLabelSelector(
  selector: ParsedLabelSelector,
  labels: Record<string, string> | undefined,
): boolean {
  return selector.every(requirement => meets(requirement, ownValue(labels ?? {}, requirement.key)));
}

function meets({ operator, values }: LabelRequirement, label: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return label !== undefined && values.includes(label);
    case 'NotIn':
      return label === undefined || !values.includes(label);
    case 'Exists':
      return label !== undefined;
    case 'DoesNotExist':
      return label === undefined;
    default: {
      if (label === undefined || !/^[-+]?\d+$/.test(label)) return false;
      const [have, limit] = [BigInt(label.replace('+', '')), BigInt((values[0] ?? '0').replace('+', ''))];
      return operator === 'Gt' ? have > limit : have < limit;
    }
  }
}

export interface FieldRequirement {
  readonly field: string;
  readonly operator: '=' | '!=';
  readonly value: string;
}

export type ParsedFieldSelector = readonly FieldRequirement[];

/** Splits at unescaped commas; `\\`, `\,` and `\=` stand for the character itself (fields.EscapeValue). */
function splitTerms(text: string): string[] {
  return (text.match(/(?:\\.|[^\\,])+|\\$/gs) ?? []).filter(term => term !== '');
}

function unescapeValue(term: string, value: string): string {
  if (/(?:^|[^\\])(?:\\\\)*\\(?:[^\\,=]|$)/s.test(value) || /(?:^|[^\\])(?:\\\\)*=/s.test(value))
    throw badRequest(`invalid field selector: '${term}': can't understand '${value}'`);
  return value.replace(/\\([\\,=])/g, '$1');
}

/** Parses the `fieldSelector` query parameter: `a=b,c!=d`. Throws ApiError 400. */
export function parseFieldSelector(text: string): ParsedFieldSelector {
  return splitTerms(text).map(term => {
    const match = /^((?:\\.|[^\\=!])*)(!=|==|=)(.*)$/s.exec(term);
    if (!match) throw badRequest(`invalid selector: '${term}'; can't understand '${term}'`);
    return {
      field: (match[1] ?? '').trim(),
      operator: match[2] === '!=' ? '!=' : '=',
      value: unescapeValue(term, match[3] ?? ''),
    };
  });
}

/**
 * Matches against a resource's selectableFields. A field the resource does not offer is refused, as Kubernetes does:
 * silence would make a client believe that its watch is complete.
 */
export function matchesFieldSelector(selector: ParsedFieldSelector, fields: Record<string, string>): boolean {
  return selector.every(({ field, operator, value }) => {
    const have = ownValue(fields, field);
    if (have === undefined) throw badRequest(`field label not supported: ${field}`);
    return (have === value) === (operator === '=');
  });
}

/** Checks a selector once, before any object is looked at. */
export function checkFieldSelector(selector: ParsedFieldSelector, offered: Iterable<string>): void {
  const known = new Set(offered);
  for (const { field } of selector)
    if (!known.has(field)) throw badRequest(`field label not supported: ${field}`);
}
