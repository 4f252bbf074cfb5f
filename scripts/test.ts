// Runs the tests of the named rooms: scripts/test.ts ROOM [ROOM ...] [AREA].
// A room is a folder of test/ (unit, contract, netns, scenario, interop, fuzz); an AREA is a path part below it, such
// as cni or proxy. Rooms that configure namespaces run one file at a time; nothing is retried. The last line counts.
import { globSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

const ROOMS = ['unit', 'contract', 'netns', 'scenario', 'interop', 'fuzz'];
const PARALLEL = new Set(['unit', 'contract']);
/** One file may take this long; a hang must end the run, not the CI's patience. */
const FILE_TIMEOUT_MS = 240_000;

// With CI set, programs colour what they print even into a pipe; tests compare plain text everywhere.
process.env.NO_COLOR = '1';
delete process.env.FORCE_COLOR;

const root = join(dirname(import.meta.filename), '..');
const args = process.argv.slice(2).filter(arg => arg !== '--');
const rooms = args.filter(arg => ROOMS.includes(arg));
const areas = args.filter(arg => !ROOMS.includes(arg));
const total = { passed: 0, failed: 0, skipped: 0 };

async function runRoom(room: string): Promise<void> {
  const files = globSync(`test/${room}/**/*.test.ts`, { cwd: root })
    .filter(
      file => areas.length === 0 || areas.some(area => file.slice(`test/${room}/`.length).includes(area)),
    )
    .sort()
    .map(file => join(root, file));
  if (files.length === 0) return;
  console.log(`== ${room}: ${files.length} files`);
  const stream = run({ files, concurrency: PARALLEL.has(room) ? 2 : 1, timeout: FILE_TIMEOUT_MS });
  stream.on('test:summary', summary => {
    if (summary.file !== undefined) return;
    total.passed += summary.counts.passed;
    total.failed +=
      summary.counts.tests - summary.counts.passed - summary.counts.skipped - summary.counts.todo;
    total.skipped += summary.counts.skipped + summary.counts.todo;
  });
  stream.compose(spec).pipe(process.stdout, { end: false });
  await new Promise(resolve => stream.once('close', resolve));
}

if (rooms.length === 0) {
  console.error(`usage: test.ts ROOM [ROOM ...] [AREA]; the rooms are ${ROOMS.join(', ')}`);
  process.exit(2);
}
for (const room of rooms) await runRoom(room);
process.stdout.write(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped\n`);
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
