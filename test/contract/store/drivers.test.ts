import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { createMemoryStore } from '../../../src/store/memory.ts';
import { openSqliteStore } from '../../../src/store/sqlite.ts';
import { storeContract } from './suite.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-store-'));
after(() => rmSync(directory, { recursive: true, force: true }));
let files = 0;

storeContract('memory', () => createMemoryStore());
storeContract('sqlite', () => openSqliteStore({ file: join(directory, `${files++}.db`) }));
