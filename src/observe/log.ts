// Structured logs: pino, one JSON object a line, on stderr unless told otherwise.
// Every component gets a logger of its own and hands children (`log.child({ pod })`) to what it starts.
import {
  type DestinationStream,
  destination,
  type LevelWithSilent,
  type Logger as PinoLogger,
  pino,
} from 'pino';

export type Logger = PinoLogger;

export interface LoggerOptions {
  /** What writes: `apiserver`, `kubelet`, `proxy`, … */
  component: string;
  /** Default: PODWIRE_LOG_LEVEL, else `info`. */
  level?: LevelWithSilent;
  /** A file descriptor, a path, or a stream; default stderr (2). */
  destination?: number | string | DestinationStream;
}

/** A logger for one component. Writes are synchronous: a crash must not swallow the line that explains it. */
export function createLogger(options: LoggerOptions): Logger {
  const level = options.level ?? (process.env.PODWIRE_LOG_LEVEL as LevelWithSilent | undefined) ?? 'info';
  const to = options.destination ?? 2;
  const stream = typeof to === 'object' ? to : destination({ dest: to, sync: true });
  return pino(
    {
      level,
      base: { component: options.component },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: label => ({ level: label }) },
      serializers: { error: serializeError, err: serializeError },
    },
    stream,
  );
}

/** A logger that says nothing, for tests and for callers that gave none. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}

/** An error as a reader of logs wants it: code, message, cause chain; the stack only where the code is not ours. */
function serializeError(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return thrown;
  const { code } = thrown as { code?: unknown };
  return {
    type: thrown.name,
    message: thrown.message,
    ...(code === undefined ? { stack: thrown.stack } : { code }),
    ...(thrown.cause === undefined ? {} : { cause: serializeError(thrown.cause) }),
  };
}
