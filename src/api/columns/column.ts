// Building blocks of printed columns, and the columns every kind shares.
import type { JsonValue } from '../../lib/json.ts';
import { ageOf } from '../duration.ts';
import type { TableColumn } from '../resource-definition.ts';
import type { KubeObject } from '../types.ts';

interface ColumnOptions {
  type?: TableColumn['type'];
  format?: string;
  /** Shown with -o wide only. */
  wide?: boolean;
}

/** One column; `cell` gets the object as the type the caller prints. */
export function column<T extends KubeObject>(
  name: string,
  description: string,
  cell: (object: T, now: number) => JsonValue | undefined,
  options: ColumnOptions = {},
): TableColumn {
  return {
    name,
    type: options.type ?? 'string',
    ...(options.format ? { format: options.format } : {}),
    description,
    priority: options.wide ? 1 : 0,
    cell: (object, now) => cell(object as T, now) ?? '',
  };
}

export const NAME: TableColumn = column(
  'Name',
  'Name must be unique within a namespace.',
  object => object.metadata?.name,
  { format: 'name' },
);

export const AGE: TableColumn = column('Age', 'Time since the object was created.', (object, now) =>
  ageOf(object.metadata?.creationTimestamp, now),
);

export const NONE = '<none>';
export const UNKNOWN = '<unknown>';

/** `a=1,b=2`, sorted; `<none>` when empty. */
export function labelsText(labels: Record<string, string> | undefined): string {
  const pairs = Object.entries(labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .sort();
  return pairs.length > 0 ? pairs.join(',') : NONE;
}

export function joined(values: readonly string[] | undefined, separator = ','): string {
  return values && values.length > 0 ? values.join(separator) : NONE;
}

export function count(value: number | undefined): number {
  return value ?? 0;
}
