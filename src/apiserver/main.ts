// Starting an API server from its options; the command line lives in src/cmd.
import type { ApiServerOptions } from './options.ts';
import { ApiServer } from './server.ts';

export type { ApiServerOptions, Listener } from './options.ts';

/** Resolves when the server answers; the caller stops it. */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const server = new ApiServer(options);
  try {
    await server.start();
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}

/** Runs until the signal aborts. */
export async function runApiServer(options: ApiServerOptions, signal?: AbortSignal): Promise<void> {
  const server = await startApiServer(options);
  if (!signal?.aborted)
    await new Promise<void>(resolve => {
      if (signal) signal.addEventListener('abort', () => resolve(), { once: true });
      else for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => resolve());
    });
  await server.stop();
}
