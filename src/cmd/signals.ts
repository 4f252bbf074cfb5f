// Runs a daemon until SIGTERM or SIGINT: the one way in which podwire's processes end.

/** Starts, waits for a signal, then aborts what `start` was given. Rejects when `start` does. */
export async function untilSignal(start: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  const ended = new Promise<void>(resolve => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => resolve());
  });
  const started = start(controller.signal);
  await Promise.race([ended, started.then(() => ended)]);
  controller.abort();
}
