// The schema of a custom resource: OpenAPI v3 as CustomResourceDefinitions carry it (apiextensions/v1 JSONSchemaProps),
// "structural" in KEP-1693's sense: every level says its type, so that pruning and defaulting know what they look at.
import type { JsonValue } from '../../lib/json.ts';

export interface JsonSchema {
  type?: string;
  format?: string;
  description?: string;
  nullable?: boolean;
  default?: JsonValue;
  enum?: JsonValue[];
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: boolean;
  exclusiveMaximum?: boolean;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
  minProperties?: number;
  maxProperties?: number;
  required?: string[];
  properties?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema | boolean;
  items?: JsonSchema;
  allOf?: JsonSchema[];
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  not?: JsonSchema;
  $ref?: string;
  'x-kubernetes-preserve-unknown-fields'?: boolean;
  'x-kubernetes-embedded-resource'?: boolean;
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  'x-kubernetes-list-map-keys'?: string[];
  'x-kubernetes-map-type'?: 'atomic' | 'granular';
  'x-kubernetes-validations'?: ValidationRule[];
}

/** A rule in CEL about the value at its level (apiextensions/v1 ValidationRule). */
export interface ValidationRule {
  rule: string;
  message?: string;
  messageExpression?: string;
  reason?: string;
  fieldPath?: string;
  optionalOldSelf?: boolean;
}

/** What every object has, whatever its schema says. */
export const TYPE_META = ['apiVersion', 'kind', 'metadata'] as const;

export const keepsUnknown = (schema: JsonSchema): boolean =>
  schema['x-kubernetes-preserve-unknown-fields'] === true;

/** The schema of a member that `properties` does not name; undefined where there may be none. */
export function additionalSchema(schema: JsonSchema): JsonSchema | undefined {
  const { additionalProperties } = schema;
  if (additionalProperties === true) return { 'x-kubernetes-preserve-unknown-fields': true };
  return additionalProperties === false ? undefined : additionalProperties;
}

/** Calls `visit` for the schema and for all below it, also those inside anyOf and its like. */
export function walkSchema(schema: JsonSchema, visit: (schema: JsonSchema) => void): void {
  visit(schema);
  for (const child of Object.values(schema.properties ?? {})) walkSchema(child, visit);
  if (typeof schema.additionalProperties === 'object') walkSchema(schema.additionalProperties, visit);
  if (schema.items) walkSchema(schema.items, visit);
  for (const list of [schema.allOf, schema.anyOf, schema.oneOf])
    for (const child of list ?? []) walkSchema(child, visit);
  if (schema.not) walkSchema(schema.not, visit);
}
