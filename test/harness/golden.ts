// Golden files: a plan compared with the JSON beside it in test/fixtures. PODWIRE_UPDATE_GOLDEN=1 writes the file anew;
// read the difference before it is committed.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Compares `value`, as JSON, with test/fixtures/<name>.golden.json. */
export function assertGolden(name: string, value: unknown): void {
  const file = join(import.meta.dirname, '../fixtures', `${name}.golden.json`);
  if (process.env.PODWIRE_UPDATE_GOLDEN === '1') {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, `${JSON.stringify(value, undefined, 2)}\n`);
    return;
  }
  assert.deepEqual(JSON.parse(JSON.stringify(value)), JSON.parse(readFileSync(file, 'utf8')));
}
