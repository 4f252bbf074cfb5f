import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  openApiPath,
  openApiV2Document,
  openApiV3Document,
  openApiV3Index,
} from '../../../src/api/openapi.ts';
import { encodeOpenApiV2 } from '../../../src/api/openapi-protobuf.ts';
import { RESOURCES } from '../../../src/api/resources.ts';
import { isJsonObject, type JsonObject, type JsonValue } from '../../../src/lib/json.ts';

function references(value: JsonValue, found = new Set<string>()): Set<string> {
  if (Array.isArray(value)) for (const item of value) references(item, found);
  else if (isJsonObject(value))
    for (const [key, item] of Object.entries(value)) {
      if (key === '$ref' && typeof item === 'string') found.add(item);
      else references(item, found);
    }
  return found;
}

test('the index lists every group version, and each has a document without dangling references', () => {
  const paths = Object.keys(openApiV3Index().paths as JsonObject);
  assert.deepEqual(new Set(paths), new Set(RESOURCES.map(r => openApiPath(r.group, r.version))));
  for (const path of paths) {
    const document = openApiV3Document(path) as { components: { schemas: JsonObject } } & JsonObject;
    for (const reference of references(document))
      assert.ok(
        document.components.schemas[reference.replace('#/components/schemas/', '')],
        `${path}: ${reference}`,
      );
  }
  assert.equal(openApiV3Document('apis/nothing/v1'), undefined);
});

test('kubectl finds that patches of a Deployment take fieldValidation', () => {
  const document = openApiV3Document('apis/apps/v1') as { paths: Record<string, { patch?: JsonObject }> };
  const patch = document.paths['/apis/apps/v1/namespaces/{namespace}/deployments/{name}']?.patch;
  assert.deepEqual(patch?.['x-kubernetes-group-version-kind'], {
    group: 'apps',
    version: 'v1',
    kind: 'Deployment',
  });
  const names = ((patch?.parameters ?? []) as { name: string }[]).map(parameter => parameter.name);
  assert.ok(names.includes('fieldValidation') && names.includes('dryRun') && names.includes('force'));
});

test('schemas carry descriptions, list types, merge keys and kinds', () => {
  const { components } = openApiV3Document('api/v1') as {
    components: { schemas: Record<string, { properties: Record<string, JsonObject> } & JsonObject> };
  };
  const spec = components.schemas['io.k8s.api.core.v1.PodSpec'];
  assert.equal(spec?.properties.containers?.['x-kubernetes-patch-merge-key'], 'name');
  assert.match(String(spec?.properties.nodeName?.description), /nodeName/i);
  assert.deepEqual(spec?.required, ['containers']);
  const pod = components.schemas['io.k8s.api.core.v1.Pod'];
  assert.deepEqual(pod?.['x-kubernetes-group-version-kind'], [{ group: '', version: 'v1', kind: 'Pod' }]);
});

test('the index changes when what is served changes', () => {
  assert.notDeepEqual(openApiV3Index(RESOURCES.slice(1)), openApiV3Index());
});

test('v2: whole as JSON, and in protobuf form not larger', () => {
  const document = openApiV2Document();
  const definitions = document.definitions as JsonObject;
  for (const reference of references(document))
    assert.ok(definitions[reference.replace('#/definitions/', '')], reference);
  const bytes = encodeOpenApiV2(document);
  // swagger: "2.0" is the first field.
  assert.deepEqual([...bytes.subarray(0, 5)], [0x0a, 3, 0x32, 0x2e, 0x30]);
  assert.ok(bytes.length < JSON.stringify(document).length);
});
