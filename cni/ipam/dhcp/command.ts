// `podwire cni dhcp` and `dist/cni/dhcp daemon`: the DHCP daemon with the flags of the reference's.
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { parseArgs } from 'node:util';
import { PodwireError } from '../../../src/lib/errors.ts';
import { createLogger } from '../../../src/observe/log.ts';
import { DEFAULT_DHCP_SOCKET, DEFAULT_DHCP_STATE } from './config.ts';
import { DhcpDaemon } from './daemon.ts';

/** Runs until it is told to stop. */
export async function runDhcpDaemon(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: argv.flatMap(goFlag),
    options: {
      pidfile: { type: 'string', default: '' },
      hostprefix: { type: 'string', default: '' },
      socketpath: { type: 'string', default: '' },
      statedir: { type: 'string', default: '' },
      broadcast: { type: 'boolean', default: false },
      timeout: { type: 'string', default: '10s' },
      resendmax: { type: 'string', default: '62s' },
    },
  });
  const { pidfile } = values;
  if (pidfile !== '' && !isAbsolute(pidfile))
    throw new PodwireError(
      'INVALID_FLAG',
      `Error writing pidfile ${JSON.stringify(pidfile)}: path not absolute`,
    );
  const daemon = new DhcpDaemon({
    socketPath: values.socketpath || DEFAULT_DHCP_SOCKET,
    stateDir: values.statedir || `${values.hostprefix}${DEFAULT_DHCP_STATE}`,
    hostPrefix: values.hostprefix,
    broadcast: values.broadcast,
    timeoutMs: parseDuration(values.timeout, '--timeout'),
    resendMaxMs: parseDuration(values.resendmax, '--resendmax'),
    log: createLogger({ component: 'cni-dhcp' }),
  });
  await daemon.start();
  if (pidfile !== '') writeFileSync(pidfile, String(process.pid));
  await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  await daemon.stop();
  if (pidfile !== '') rmSync(pidfile, { force: true });
  return 0;
}

/** Go's flags may have one dash, and its booleans a value: `-broadcast=true`. */
function goFlag(arg: string): string[] {
  const flag = arg.replace(/^-(?=[a-z]{2})/, '--');
  if (/^--broadcast=(1|t|true)$/i.test(flag)) return ['--broadcast'];
  return /^--broadcast=(0|f|false)$/i.test(flag) ? [] : [flag];
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Go's way of writing a time: `10s`, `1m30s`, `500ms`. */
export function parseDuration(text: string, what: string): number {
  const parts = [...text.matchAll(/([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)/g)];
  if (parts.length === 0 || parts.map(part => part[0]).join('') !== text)
    throw new PodwireError('INVALID_FLAG', `${what} ${JSON.stringify(text)} is not a duration such as 10s`);
  return parts.reduce((total, [, number, unit]) => total + Number(number) * UNIT_MS[unit!]!, 0);
}
