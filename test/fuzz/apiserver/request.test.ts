// Whatever a client sends, the parsers of requests answer with a value or with a refusal of ours, never with anything else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseDeleteOptions } from '../../../src/apiserver/handlers/delete.ts';
import { negotiateShape, parseAccept } from '../../../src/apiserver/http/accept.ts';
import { decodeObject } from '../../../src/apiserver/http/body.ts';
import { requestInfo } from '../../../src/apiserver/http/request-info.ts';
import { ApiError } from '../../../src/lib/errors.ts';

const RUNS = { numRuns: 3_000 };

function onlyOurs(body: () => void): void {
  try {
    body();
  } catch (error) {
    assert.ok(error instanceof ApiError, String(error));
    assert.ok(error.status >= 400 && error.status < 500);
  }
}

const part = fc.oneof(
  fc.constantFrom('api', 'apis', 'v1', 'watch', 'namespaces', 'pods', 'status', '..', '%2f', '%zz', ''),
  fc.string(),
);

test('paths', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('GET', 'POST', 'DELETE', 'BREW'),
      fc.array(part),
      fc.string(),
      (method, parts, selector) => {
        const info = requestInfo(
          method,
          `/${parts.join('/')}`,
          new URLSearchParams({ fieldSelector: selector }),
        );
        if (info.kind === 'resource') assert.notEqual(info.resource, '');
      },
    ),
    RUNS,
  );
});

test('Accept headers', () => {
  const piece = fc.oneof(
    fc.constantFrom('application/json', '*/*', ';', ',', 'as=Table', 'q=0', 'v=v1', '='),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(piece), pieces => {
      parseAccept(pieces.join(''));
      onlyOurs(() => negotiateShape(pieces.join('')));
    }),
    RUNS,
  );
});

test('bodies in every form', async () => {
  const types = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf', 'x/y', ''];
  const envelope = Buffer.from('6b38730a', 'hex');
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...types),
      fc.uint8Array({ maxLength: 200 }),
      fc.boolean(),
      async (type, bytes, framed) => {
        const body = framed ? Buffer.concat([envelope, bytes]) : Buffer.from(bytes);
        try {
          await decodeObject(body, type);
        } catch (error) {
          assert.ok(error instanceof ApiError, `${type}: ${String(error)}`);
        }
      },
    ),
    RUNS,
  );
});

test('delete options', () => {
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.constantFrom(
          'gracePeriodSeconds',
          'propagationPolicy',
          'orphanDependents',
          'preconditions',
          'dryRun',
        ),
        fc.jsonValue(),
      ),
      body => onlyOurs(() => parseDeleteOptions(body as Record<string, unknown>, new URLSearchParams())),
    ),
    RUNS,
  );
});
