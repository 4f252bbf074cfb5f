// The columns `kubectl get` prints, by type (pkg/printers/internalversion). A type without an entry has name and age.
import { AGE, NAME } from './columns/column.ts';
import type { TableColumn } from './resource-definition.ts';

const COLUMNS: Record<string, readonly TableColumn[]> = {};

const NAME_AND_AGE: readonly TableColumn[] = [NAME, AGE];

export function columnsOf(type: string): readonly TableColumn[] {
  return COLUMNS[type] ?? NAME_AND_AGE;
}
