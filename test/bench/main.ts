// Runs the benchmarks of the named areas: npm run bench -- AREA[/CASE] ... Without an area: all of them.
// Each area is test/bench/<area>.ts and exports `bench(report, wants)`. One line a case, ours beside the peer in the same
// run. Areas whose cases stand alone leave out those that `wants` does not want.
import { globSync } from 'node:fs';
import { basename, join } from 'node:path';

export interface BenchLine {
  /** `<area>/<case>`. */
  name: string;
  ours: number;
  peer: number;
  /** s, ms, Gbit/s, conn/s, … */
  unit: string;
  /** What else a reader needs, e.g. that the peer's figure is a published one. */
  note?: string;
}

export type Report = (line: BenchLine) => void;
/** Whether a case, named without its area, was asked for. */
export type Wants = (name: string) => boolean;

/** Three significant digits, without an exponent. */
function figure(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function print({ name, ours, peer, unit, note }: BenchLine): void {
  const line = `bench ${name} ours=${figure(ours)} peer=${figure(peer)} unit=${unit} ratio=${figure(ours / peer)}`;
  console.log(note ? `${line} # ${note}` : line);
}

if (import.meta.main) {
  const here = import.meta.dirname;
  const all = globSync('*.ts', { cwd: here })
    .map(file => basename(file, '.ts'))
    .filter(name => name !== 'main')
    .sort();
  const asked = process.argv.slice(2).filter(arg => !arg.startsWith('-'));
  const wanted = [...new Set(asked.map(arg => arg.split('/')[0]!))];
  const wants: Wants = name => {
    const cases = asked.filter(arg => arg.includes('/')).map(arg => arg.slice(arg.indexOf('/') + 1));
    return cases.length === 0 || cases.includes(name);
  };
  // An area is its file and what continues its name: proxy is proxy.ts and proxy-userspace.ts.
  const filesOf = (area: string): string[] =>
    all.filter(name => name === area || name.startsWith(`${area}-`));
  const unknown = wanted.filter(area => filesOf(area).length === 0);
  if (unknown.length > 0) {
    console.error(`no such benchmark: ${unknown.join(', ')}; there are ${all.join(', ')}`);
    process.exit(2);
  }
  for (const name of wanted.length > 0 ? wanted.flatMap(filesOf) : all) {
    const { bench } = (await import(join(here, `${name}.ts`))) as {
      bench: (report: Report, wants: Wants) => Promise<void>;
    };
    await bench(print, wants);
  }
}
