// The thread that writes the database of the embedded store, so that waiting for the disk never stalls the event loop
// that serves requests. Messages are handled in order; each batch is one transaction, answered after its commit.
import { DatabaseSync } from 'node:sqlite';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import type { JournalRecord } from './journal.ts';
import { ensureSchema, PRAGMAS } from './sqlite-schema.ts';

export type WriterRequest =
  | { id: number; kind: 'append'; batch: readonly JournalRecord[] }
  | { id: number; kind: 'compact'; revision: number }
  | { id: number; kind: 'close' };

export interface WriterReply {
  id: number;
  error?: string;
}

/** Log rows deleted in one transaction: small enough that a write never waits long behind compaction. */
const COMPACT_ROWS = 500;

const port = parentPort;
if (!port) throw new Error('sqlite-writer.ts runs as a worker thread of sqlite.ts');

const database = new DatabaseSync((workerData as { file: string }).file);
database.exec(PRAGMAS);
ensureSchema(database);
const insertLog = database.prepare('INSERT INTO log (rev, key, value, created, prev) VALUES (?, ?, ?, ?, ?)');
const setState = database.prepare(
  'INSERT INTO state (key, rev) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET rev = excluded.rev',
);
const deleteState = database.prepare('DELETE FROM state WHERE key = ?');
const setCompacted = database.prepare(
  "INSERT INTO meta (name, number) VALUES ('compacted', ?) ON CONFLICT (name) DO UPDATE SET number = max(number, excluded.number)",
);
const deleteLog = database.prepare(
  `DELETE FROM log WHERE rev IN (
     SELECT rev FROM log WHERE rev <= :upTo
       AND NOT EXISTS (SELECT 1 FROM state WHERE state.key = log.key AND state.rev = log.rev)
       AND rev NOT IN (SELECT prev FROM log WHERE rev > :upTo AND prev IS NOT NULL)
       AND rev < (SELECT max(rev) FROM log)
     LIMIT ${COMPACT_ROWS})`,
);

function transaction(body: () => void): void {
  database.exec('BEGIN IMMEDIATE');
  try {
    body();
    database.exec('COMMIT');
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

function append(batch: readonly JournalRecord[]): void {
  transaction(() => {
    for (const { revision, key, value, createRevision, previousRevision } of batch) {
      insertLog.run(revision, key, value ?? null, createRevision, previousRevision ?? null);
      if (value === undefined) deleteState.run(key);
      else setState.run(key, revision);
    }
  });
}

async function compact(revision: number): Promise<void> {
  transaction(() => setCompacted.run(revision));
  for (;;) {
    let deleted = 0;
    transaction(() => {
      deleted = Number(deleteLog.run({ upTo: revision }).changes);
    });
    if (deleted < COMPACT_ROWS) return;
    await nextTurn();
  }
}

async function handle(request: WriterRequest): Promise<void> {
  const reply: WriterReply = { id: request.id };
  try {
    if (request.kind === 'append') append(request.batch);
    else if (request.kind === 'compact') await compact(request.revision);
    else database.close();
  } catch (error) {
    reply.error = error instanceof Error ? error.message : String(error);
  }
  port?.postMessage(reply);
  if (request.kind === 'close') port?.close();
}

port.on('message', (request: WriterRequest) => void handle(request));
