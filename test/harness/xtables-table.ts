// A legacy table as the kernel makes it when it is first used: two built-in chains with their policies.
import {
  ERROR_TARGET_SIZE,
  LAYOUT,
  STANDARD_TARGET_SIZE,
  type TableInfo,
  VERDICT,
  writeErrorEntry,
  writeVerdictEntry,
} from '../../src/codec/xtables/layout.ts';
import { decodeTable, type XtTable } from '../../src/codec/xtables/table.ts';

/** INPUT and OUTPUT, both ACCEPT. */
export function emptyTable(family: 4 | 6): XtTable {
  const layout = LAYOUT[family];
  const rule = layout.entrySize + STANDARD_TARGET_SIZE;
  const bytes = Buffer.alloc(2 * rule + layout.entrySize + ERROR_TARGET_SIZE);
  writeVerdictEntry(bytes, 0, layout, VERDICT.ACCEPT!);
  writeVerdictEntry(bytes, rule, layout, VERDICT.ACCEPT!);
  writeErrorEntry(bytes, 2 * rule, layout, 'ERROR');
  const hooks = [0, 0, 0, rule, 0];
  const info: TableInfo = {
    name: 'filter',
    validHooks: 0b01010,
    hookEntries: hooks,
    underflows: hooks,
    entries: 3,
    size: bytes.length,
  };
  return decodeTable(family, info, Buffer.from(new Uint8Array(bytes).buffer));
}
