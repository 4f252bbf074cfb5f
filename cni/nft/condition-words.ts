// The words of a condition in nft's language, one after the other, with errors that name the field and the word.
import type { CniError } from '../../src/lib/errors.ts';
import { configError } from '../runtime/errors.ts';

export class Words {
  readonly #field: string;
  readonly #words: readonly string[];
  #at = 0;

  /** `fragments` are joined as the reference joins them, so one may begin where another ends. */
  constructor(field: string, fragments: readonly string[]) {
    this.#field = field;
    this.#words =
      fragments
        .join(' ')
        .match(/"[^"]*"|[{},]|[!=]=|&|[^\s{},"&!=]+|./gs)
        ?.filter(isWord) ?? [];
  }

  get done(): boolean {
    return this.#at >= this.#words.length;
  }

  /** The next word without taking it; empty at the end. */
  peek(): string {
    return this.#words[this.#at] ?? '';
  }

  take(): string {
    if (this.done) throw this.refuse('', 'it ends in the middle');
    return this.#words[this.#at++]!;
  }

  /** Takes the word if it is the next. */
  skip(...words: readonly string[]): boolean {
    if (this.done || !words.includes(this.peek())) return false;
    this.#at++;
    return true;
  }

  /** One value, or those in braces. */
  values(): { words: string[]; braces: boolean } {
    if (!this.skip('{')) return { words: [this.take()], braces: false };
    const words: string[] = [];
    do words.push(this.take());
    while (this.skip(','));
    if (!this.skip('}')) throw this.refuse(this.peek(), 'a set ends with }');
    return { words, braces: true };
  }

  /** Code 7; the word is the last taken unless told. */
  refuse(word = this.#words[this.#at - 1] ?? '', why = ''): CniError {
    const where = word === '' ? '' : ` at ${JSON.stringify(word)}`;
    return configError(`cannot parse ${this.#field}${where}`, why);
  }
}

function isWord(text: string): boolean {
  return text.trim() !== '';
}
