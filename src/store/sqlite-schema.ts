// The database file of the embedded store. A value is written once, into the append log; the current-state table points
// at its newest row. Compaction deletes log rows, never one that is current or that a kept row replaces.
//
//   state: key ─▶ rev                log: rev │ key │ value (NULL: deleted) │ created │ prev
import type { DatabaseSync } from 'node:sqlite';

/** PRAGMA user_version of this layout. */
export const SCHEMA_VERSION = 1;

/**
 * synchronous=FULL with WAL: a commit returns only after the log is on stable storage (sqlite.org/wal.html).
 * An exclusive lock keeps a second server off the file, and spares the shared-memory index.
 */
export const PRAGMAS = `
  PRAGMA locking_mode = EXCLUSIVE;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA busy_timeout = 2000;
`;

const TABLES = `
  CREATE TABLE IF NOT EXISTS log (
    rev INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT, created INTEGER NOT NULL, prev INTEGER
  ) STRICT;
  CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, rev INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`;

/** Makes the tables in a new file; refuses a file of a newer layout. */
export function ensureSchema(database: DatabaseSync): void {
  const version = Number(database.prepare('PRAGMA user_version').get()?.user_version ?? 0);
  if (version > SCHEMA_VERSION)
    throw new Error(
      `the store has layout ${version}, this program knows ${SCHEMA_VERSION}: it was written by a newer podwire`,
    );
  if (version === SCHEMA_VERSION) return;
  database.exec(`BEGIN IMMEDIATE; ${TABLES} PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT;`);
}
