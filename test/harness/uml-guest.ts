// Runs test files inside a guest of uml.ts, in this one process (each start of Node costs half a second there), and
// prints a line of JSON for every test; what the tests themselves print goes along as it is.
import { run } from 'node:test';
import { errorMessage } from '../../src/lib/errors.ts';
import type { UmlTestResult } from './uml.ts';

interface Outcome {
  name: string;
  nesting: number;
  skip?: string | boolean;
  details: { type?: string; duration_ms: number; error?: Error };
}

function report(result: UmlTestResult): void {
  process.stdout.write(`@uml-test ${JSON.stringify(result)}\n`);
}

/** node:test wraps what the test threw. */
function describe(error: Error | undefined): string {
  const cause = error?.cause;
  return cause instanceof Error ? (cause.stack ?? cause.message) : (error?.stack ?? errorMessage(error));
}

const stream = run({ files: process.argv.slice(2), isolation: 'none', timeout: 60_000 });
let failed = false;
stream.on('test:pass', ({ name, skip, details }: Outcome) => {
  if (details.type === 'suite') return;
  report({
    name: `${name} (${Math.round(details.duration_ms)} ms)`,
    ...(skip === undefined ? {} : { skipped: String(skip) }),
  });
});
stream.on('test:fail', ({ name, details }: Outcome) => {
  failed = true;
  report({ name, error: describe(details.error) });
});
stream.on('test:stdout', ({ message }) => process.stdout.write(message));
stream.on('test:stderr', ({ message }) => process.stdout.write(message));
stream.resume();
await new Promise(resolve => stream.once('close', resolve));
process.exit(failed ? 1 : 0);
