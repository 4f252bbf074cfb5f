// The Table form of objects (meta.k8s.io/v1), which is what `kubectl get` prints: the server makes the cells.
import type { JsonValue } from '../lib/json.ts';
import type { ResourceDefinition, TableColumn } from './resource-definition.ts';
import type { KubeObject } from './types.ts';

export interface TableColumnDefinition {
  name: string;
  type: TableColumn['type'];
  format: string;
  description: string;
  priority: number;
}

export interface Table {
  columnDefinitions: TableColumnDefinition[];
  rows: { cells: JsonValue[] }[];
}

/** One row for each object, in order; `now` in milliseconds. A malformed object prints empty cells, never an error. */
export function toTable(
  resource: Pick<ResourceDefinition, 'columns'>,
  objects: readonly KubeObject[],
  now: number,
): Table {
  return {
    columnDefinitions: resource.columns.map(({ name, type, format = '', description, priority }) => ({
      name,
      type,
      format,
      description,
      priority,
    })),
    rows: objects.map(object => ({ cells: resource.columns.map(column => cellOf(column, object, now)) })),
  };
}

/** One odd object among thousands must not keep the others from being listed. */
function cellOf(column: TableColumn, object: KubeObject, now: number): JsonValue {
  try {
    return column.cell(object, now);
  } catch {
    return '';
  }
}
