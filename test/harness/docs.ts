// The commands and files that a page of docs/ shows, for tests that do what the page says.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const DOCS = join(import.meta.dirname, '../../docs');

/** The indented blocks below a heading of a page, with `replace` put in for what the page calls otherwise. */
export function docsBlocks(
  page: string,
  heading: string,
  replace: Readonly<Record<string, string>> = {},
): string[] {
  const text = readFileSync(join(DOCS, page), 'utf8');
  const section = text.split(/^## /m).find(one => one.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`docs/${page} has no section "${heading}"`);
  const blocks: string[] = [];
  let open = false;
  for (const line of section.split('\n')) {
    const inside = line.startsWith('    ');
    if (inside) {
      if (open) blocks.push(`${blocks.pop()}${line.slice(4)}\n`);
      else blocks.push(`${line.slice(4)}\n`);
    }
    open = inside || (open && line === '');
  }
  return blocks.map(block => {
    let done = block;
    for (const [from, to] of Object.entries(replace)) {
      if (!text.includes(from)) throw new Error(`docs/${page} does not say "${from}" any more`);
      done = done.replaceAll(from, to);
    }
    return done;
  });
}
