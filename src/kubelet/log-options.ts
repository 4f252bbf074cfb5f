// The query of a log request (core/v1 PodLogOptions). Pure.
import type { LogOptions } from './log-reader.ts';

export interface LogRequest extends LogOptions {
  previous: boolean;
}

/** The options, or a sentence about what is wrong with them. */
export function parseLogOptions(query: URLSearchParams, nowMs: number): LogRequest | string {
  const flag = (key: string) => ['true', '1'].includes(query.get(key) ?? '');
  const numbers = new Map<string, number>();
  for (const key of ['tailLines', 'sinceSeconds', 'limitBytes']) {
    const text = query.get(key);
    if (text === null || text === '') continue;
    const value = Number(text);
    if (!Number.isInteger(value) || value < 0 || (key !== 'tailLines' && value === 0))
      return `invalid ${key} '${text}': must be a whole number of at least ${key === 'tailLines' ? 0 : 1}`;
    numbers.set(key, value);
  }
  const sinceTime = query.get('sinceTime');
  const parsedTime = sinceTime ? Date.parse(sinceTime) : undefined;
  if (Number.isNaN(parsedTime)) return `invalid sinceTime '${sinceTime}': must be an RFC 3339 time`;
  const sinceSeconds = numbers.get('sinceSeconds');
  if (sinceSeconds !== undefined && parsedTime !== undefined)
    return 'at most one of sinceTime and sinceSeconds may be given';
  return {
    follow: flag('follow'),
    previous: flag('previous'),
    timestamps: flag('timestamps'),
    tailLines: numbers.get('tailLines'),
    limitBytes: numbers.get('limitBytes'),
    sinceMs: sinceSeconds === undefined ? parsedTime : nowMs - sinceSeconds * 1000,
  };
}
