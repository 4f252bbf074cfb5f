// Options that every lab command shares.
import { Command, InvalidArgumentError, Option } from 'commander';
import { DEFAULT_DIRECTORY, DEFAULT_NAME } from '../lab/spec.ts';
import { PodwireError } from '../lib/errors.ts';

export interface LabSelector {
  dir: string;
  name: string;
}

/** A command with --dir and --name. */
export function labCommand(name: string): Command {
  return new Command(name)
    .addOption(
      new Option('--dir <directory>', 'where all labs and the image cache live')
        .default(DEFAULT_DIRECTORY)
        .env('PODWIRE_DIR'),
    )
    .addOption(new Option('--name <lab>', 'which lab').default(DEFAULT_NAME).env('PODWIRE_NAME'));
}

export function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError(`'${text}' is not a whole number.`);
  return Number(text);
}

/** Appends repeated and comma-separated values. */
export function collect(text: string, earlier: string[]): string[] {
  return [...earlier, ...text.split(',').filter(Boolean)];
}

/** Throws one clear sentence unless root. */
export function requireRoot(command: string): void {
  if (process.getuid?.() === 0) return;
  throw new PodwireError(
    'NOT_ROOT',
    `'podwire ${command}' makes network namespaces and containers, which needs root; run it as root, for example with sudo`,
  );
}
