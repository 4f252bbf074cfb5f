// The durable half of an embedded store: an append-only journal of changes. embedded-store.ts decides, in memory and
// in order; a journal only makes a batch durable or says that it could not. It must never reorder or split a batch.

export interface JournalRecord {
  revision: number;
  key: string;
  /** Absent for a delete. */
  value: string | undefined;
  createRevision: number;
  /** Revision of the version this one replaces; absent for a create. */
  previousRevision: number | undefined;
}

export interface Journal {
  /** Resolves when the whole batch is on stable storage; rejects when none of it is. Called one batch at a time. */
  append(batch: readonly JournalRecord[]): Promise<void>;
  compact(revision: number): Promise<void>;
  close(): Promise<void>;
}

/** What a journal gives back at start. Both lists ascend, entries by key and history by revision. */
export interface JournalContents {
  revision: number;
  compactedRevision: number;
  entries: { key: string; value: string; createRevision: number; revision: number }[];
  history: JournalHistoryRow[];
}

export interface JournalHistoryRow extends JournalRecord {
  previousValue: string | undefined;
  previousCreateRevision: number | undefined;
}
