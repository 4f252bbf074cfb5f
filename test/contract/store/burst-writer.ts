// The victim of the power-cut test: writes as fast as it can and prints each key once the store acknowledged it.
import { writeSync } from 'node:fs';
import { openSqliteStore } from '../../../src/store/sqlite.ts';

const [file, round] = process.argv.slice(2);
const store = openSqliteStore({ file: file! });
await Promise.all(
  Array.from({ length: 16 }, async (_, writer) => {
    for (let n = 0; n < 100_000; n++) {
      const entry = await store.create(`/r/${round}/${writer}/${n}`, 'x'.repeat(500));
      writeSync(1, `${entry.key} ${entry.revision}\n`);
    }
  }),
);
