// A process that speaks just enough BGP to get a table across: injector.ts '{"local","remote","asn","count","perUpdate"}'.
// Prints `{"event":"established"}`, and on a line on stdin sends the table and prints `{"event":"first","at":…}` and
// `{"event":"sent","at":…}` (milliseconds of the epoch). Anything that arrives is read and dropped.

import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { buildTable } from './route-blob.ts';

interface Options {
  local: string;
  remote: string;
  asn: number;
  count: number;
  perUpdate: number;
}

const options = JSON.parse(process.argv[2] ?? '{}') as Options;
const say = (event: object): void => {
  process.stdout.write(`${JSON.stringify(event)}\n`);
};

const table = buildTable(options.count, options.perUpdate, options.local);
const MARKER = 'ff'.repeat(16);

function openMessage(): Buffer {
  const capabilities = Buffer.from('010400010001020041040000fc00', 'hex');
  capabilities.writeUInt32BE(options.asn, 10);
  const body = Buffer.alloc(12);
  body[0] = 4;
  body.writeUInt16BE(options.asn, 1);
  body.writeUInt16BE(240, 3);
  Buffer.from(options.local.split('.').map(Number)).copy(body, 5);
  body[9] = capabilities.length + 2;
  body[10] = 2;
  body[11] = capabilities.length;
  const length = Buffer.alloc(2);
  length.writeUInt16BE(19 + body.length + capabilities.length);
  return Buffer.concat([Buffer.from(MARKER, 'hex'), length, Buffer.from([1]), body, capabilities]);
}

const KEEPALIVE = Buffer.from(`${MARKER}001304`, 'hex');

function connect(): void {
  const socket = new Socket();
  let bytes = Buffer.alloc(0);
  let established = false;
  socket.setNoDelay(true);
  socket.connect({ host: options.remote, port: 179, localAddress: options.local });
  socket.on('connect', () => socket.write(openMessage()));
  socket.on('error', () => undefined);
  socket.on('close', () => {
    if (!established) setTimeout(connect, 100);
    else process.exit(0);
  });
  socket.on('data', chunk => {
    if (established) return;
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= 19 && bytes.length >= bytes.readUInt16BE(16)) {
      const type = bytes[18];
      bytes = bytes.subarray(bytes.readUInt16BE(16));
      if (type === 1) socket.write(KEEPALIVE);
      if (type !== 4) continue;
      established = true;
      setInterval(() => socket.write(KEEPALIVE), 20_000).unref();
      say({ event: 'established' });
      createInterface({ input: process.stdin }).once('line', () => {
        say({ event: 'first', at: Date.now() });
        socket.write(table, () => say({ event: 'sent', at: Date.now() }));
      });
      return;
    }
  });
}

connect();
