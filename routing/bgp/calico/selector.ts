// Calico's selector language (libcalico-go/lib/selector): all(), has(k), !, &&, ||, ==, !=, in, not in, contains,
// starts with, ends with, global(). A recursive-descent parser that answers a predicate over labels.
import { DecodeError } from '../../../src/lib/errors.ts';

export type Labels = Readonly<Record<string, string>>;
export type Selector = (labels: Labels) => boolean;

const TOKEN = /\s*(?:(&&|\|\||==|!=|!|\(|\)|\{|\}|,)|"([^"]*)"|'([^']*)'|([A-Za-z0-9_./-]+))/y;

interface Token {
  readonly kind: 'symbol' | 'string' | 'word';
  readonly text: string;
  readonly at: number;
}

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  const end = text.trimEnd().length;
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < end) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null) throw bad(at, `${JSON.stringify(text.slice(at, at + 10))} is not understood`);
    if (match[1] !== undefined) tokens.push({ kind: 'symbol', text: match[1], at });
    else if (match[4] !== undefined) tokens.push({ kind: 'word', text: match[4], at });
    else tokens.push({ kind: 'string', text: match[2] ?? match[3] ?? '', at });
  }
  return tokens;
}

function bad(at: number, message: string): DecodeError {
  return new DecodeError('calico selector', 'expression', at, message, 'INVALID_SELECTOR');
}

class Parser {
  readonly #tokens: Token[];
  #at = 0;

  constructor(text: string) {
    this.#tokens = tokenize(text);
  }

  parse(): Selector {
    const selector = this.#or();
    const rest = this.#tokens[this.#at];
    if (rest !== undefined) throw bad(rest.at, `${rest.text} is left over`);
    return selector;
  }

  #take(text: string): boolean {
    if (this.#tokens[this.#at]?.text !== text || this.#tokens[this.#at]?.kind === 'string') return false;
    this.#at++;
    return true;
  }

  #need(kind: Token['kind'], what: string): string {
    const token = this.#tokens[this.#at++];
    if (token?.kind !== kind) throw bad(token?.at ?? 0, `${what} is missing`);
    return token.text;
  }

  #needSymbol(text: string): void {
    if (!this.#take(text)) throw bad(this.#tokens[this.#at]?.at ?? 0, `${text} is missing`);
  }

  #or(): Selector {
    const terms = [this.#and()];
    while (this.#take('||')) terms.push(this.#and());
    return terms.length === 1 ? terms[0]! : labels => terms.some(term => term(labels));
  }

  #and(): Selector {
    const terms = [this.#unary()];
    while (this.#take('&&')) terms.push(this.#unary());
    return terms.length === 1 ? terms[0]! : labels => terms.every(term => term(labels));
  }

  #unary(): Selector {
    if (this.#take('!')) {
      const inner = this.#unary();
      return labels => !inner(labels);
    }
    if (this.#take('(')) {
      const inner = this.#or();
      this.#needSymbol(')');
      return inner;
    }
    return this.#term();
  }

  #term(): Selector {
    const key = this.#need('word', 'a label name');
    if ((key === 'all' || key === 'global') && this.#take('(')) {
      this.#needSymbol(')');
      return () => true;
    }
    if (key === 'has' && this.#take('(')) {
      const name = this.#need('word', 'a label name');
      this.#needSymbol(')');
      return labels => Object.hasOwn(labels, name);
    }
    return this.#comparison(key);
  }

  #comparison(key: string): Selector {
    if (this.#take('==')) {
      const value = this.#need('string', 'a quoted value');
      return labels => labels[key] === value;
    }
    if (this.#take('!=')) {
      const value = this.#need('string', 'a quoted value');
      return labels => labels[key] !== value;
    }
    if (this.#take('contains')) {
      const value = this.#need('string', 'a quoted value');
      return labels => labels[key]?.includes(value) === true;
    }
    if (this.#take('starts')) {
      this.#needSymbol('with');
      const value = this.#need('string', 'a quoted value');
      return labels => labels[key]?.startsWith(value) === true;
    }
    if (this.#take('ends')) {
      this.#needSymbol('with');
      const value = this.#need('string', 'a quoted value');
      return labels => labels[key]?.endsWith(value) === true;
    }
    const negated = this.#take('not');
    this.#needSymbol('in');
    const values = this.#set();
    return labels => (Object.hasOwn(labels, key) && values.has(labels[key]!)) !== negated;
  }

  #set(): Set<string> {
    this.#needSymbol('{');
    const values = new Set<string>();
    while (!this.#take('}')) {
      values.add(this.#need('string', 'a quoted value'));
      if (!this.#take(',')) {
        this.#needSymbol('}');
        break;
      }
    }
    return values;
  }
}

/** Throws DecodeError (INVALID_SELECTOR). Empty text selects everything, as in Calico. */
export function parseSelector(text: string): Selector {
  return text.trim() === '' ? () => true : new Parser(text).parse();
}
