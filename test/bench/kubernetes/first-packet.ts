// The client of bench proxy-latency: addresses as a JSON list on standard input, microseconds of one blocking connect() to
// port 80 of each on standard output. Ended by a reset, so that nothing stays behind that would slow the next one.
import { readFileSync } from 'node:fs';
import {
  AF_INET,
  lastError,
  nativeFunction,
  SOCK_STREAM,
  SOL_SOCKET,
  sysClose,
  sysSetsockopt,
  sysSocket,
} from '../../../src/linux/ffi.ts';
import { encodeSockaddr } from '../../../src/linux/listen.ts';

const SO_LINGER = 13;
/** Also bounds connect(): a lost SYN is an error, not two minutes of silence. */
const SO_SNDTIMEO = 21;
const RESET = Buffer.from(Int32Array.of(1, 0).buffer);
const GIVE_UP = Buffer.from(BigInt64Array.of(3n, 0n).buffer);

const connect = nativeFunction<(fd: number, address: Uint8Array, length: number) => number>(
  'int connect(int fd, const void *address, uint32_t length)',
);

const addresses = JSON.parse(readFileSync(0, 'utf8')) as string[];
const times = addresses.map(address => {
  const fd = sysSocket(AF_INET, SOCK_STREAM, 0);
  sysSetsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, GIVE_UP);
  const target = encodeSockaddr(address, 80);
  const from = process.hrtime.bigint();
  if (connect(fd, target, target.length) !== 0) throw lastError(`connect to ${address}`);
  const took = Number(process.hrtime.bigint() - from) / 1000;
  sysSetsockopt(fd, SOL_SOCKET, SO_LINGER, RESET);
  sysClose(fd);
  return took;
});
process.stdout.write(JSON.stringify(times));
