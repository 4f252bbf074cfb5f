// docs/bgp.md says which test file shows what of which RFC. This keeps it true: the files are there and cite the RFC, and
// no RFC of the line above the table is without a row.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '../../..');
const text = readFileSync(join(ROOT, 'docs/bgp.md'), 'utf8');
const standards = text.slice(text.indexOf('## Standards'));
const rows = [...standards.matchAll(/^\| ([\d, ]+) \| ([^|]+) \| ([^|]+) \|$/gm)].map(match => ({
  rfcs: match[1]!.split(',').map(number => number.trim()),
  files: [...match[3]!.matchAll(/`([^`]+)`/g)].map(file => file[1]!),
}));

test('every RFC has a row, and every file of a row cites its RFCs', () => {
  assert.ok(rows.length > 15);
  for (const { rfcs, files } of rows) {
    assert.ok(files.length > 0, rfcs.join());
    const sources = files.map(file => {
      const path = join(ROOT, 'test', file);
      assert.ok(existsSync(path), file);
      return readFileSync(path, 'utf8');
    });
    for (const rfc of rfcs)
      assert.ok(
        sources.some(source => new RegExp(`\\b${rfc}\\b`).test(source)),
        `none of ${files.join(', ')} cites RFC ${rfc}`,
      );
  }
});

test('the RFCs that are claimed are those of the table', () => {
  const claimed = standards.slice(0, standards.indexOf('|')).match(/\b\d{4}\b/g) ?? [];
  assert.deepEqual([...new Set(claimed)].sort(), [...new Set(rows.flatMap(({ rfcs }) => rfcs))].sort());
});
