// Printed columns of a custom resource: NAME, what additionalPrinterColumns say, and AGE unless they say otherwise
// (apiextensions-apiserver pkg/registry/customresource/tableconvertor).
import type { JsonValue } from '../../lib/json.ts';
import { AGE, column, NAME } from '../columns/column.ts';
import { ageOf } from '../duration.ts';
import type { TableColumn } from '../resource-definition.ts';
import type { KubeObject } from '../types.ts';
import { evaluateJsonPath, parseJsonPath } from './json-path.ts';

export interface PrinterColumn {
  name: string;
  type: string;
  jsonPath: string;
  format?: string;
  description?: string;
  priority?: number;
}

const TYPES = ['string', 'integer', 'number', 'boolean', 'date'] as const;
export const COLUMN_TYPES: readonly string[] = TYPES;

export function customColumns(columns: readonly PrinterColumn[] | undefined): readonly TableColumn[] {
  return columns && columns.length > 0 ? [NAME, ...columns.map(printerColumn)] : [NAME, AGE];
}

function printerColumn({ name, type, jsonPath, format, description, priority }: PrinterColumn): TableColumn {
  const path = parseJsonPath(jsonPath);
  const shown = TYPES.find(known => known === type) ?? 'string';
  return {
    ...column<KubeObject>(
      name,
      description ?? `Custom resource definition column (in JSONPath format): ${jsonPath}`,
      (object, now) => {
        const values = path ? evaluateJsonPath(path, object as unknown as JsonValue) : [];
        if (values.length === 0) return type === 'date' ? '<unknown>' : null;
        return cell(values, shown, now);
      },
      { type: shown, ...(format ? { format } : {}) },
    ),
    priority: priority ?? 0,
  };
}

function cell(values: readonly JsonValue[], type: TableColumn['type'], now: number): JsonValue {
  const [first = null] = values;
  if (type === 'date') return typeof first === 'string' ? ageOf(first, now) : '<invalid>';
  if (type === 'string') return values.map(text).join(',');
  if (type === 'boolean') return typeof first === 'boolean' ? first : null;
  return typeof first === 'number' ? first : null;
}

function text(value: JsonValue): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
