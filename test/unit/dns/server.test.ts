// The server on loopback, asked over UDP and TCP with real packets.
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import * as packet from 'dns-packet';
import { DnsServer } from '../../../src/dns/server.ts';
import { silentLogger } from '../../../src/observe/log.ts';

const PORT = 20_053 + (process.pid % 10_000);
const many = Array.from({ length: 60 }, (_, i) => ({
  name: 'many.test',
  type: 'A' as const,
  ttl: 5,
  data: `10.0.0.${i + 1}`,
}));
const server = new DnsServer({
  addresses: ['127.0.0.1'],
  port: PORT,
  log: silentLogger(),
  resolve: name =>
    name === 'many.test'
      ? { exists: true, answers: many }
      : name.endsWith('.test')
        ? { exists: false, answers: [] }
        : undefined,
});

before(() => server.start());
after(() => server.stop());

function ask(query: Buffer): Promise<packet.DecodedPacket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    socket.once('error', reject);
    socket.once('message', answer => {
      socket.close();
      resolve(packet.decode(answer));
    });
    socket.send(query, PORT, '127.0.0.1');
  });
}

const question = (name: string, extra: Partial<packet.Packet> = {}) =>
  packet.encode({ type: 'query', id: 7, questions: [{ type: 'A', name }], ...extra });

test('an answer too long for 512 bytes is truncated without EDNS and whole with it', async () => {
  const short = await ask(question('many.test'));
  assert.equal(short.flag_tc, true);
  assert.equal(short.answers?.length, 0);
  const opt: packet.OptAnswer = {
    type: 'OPT',
    name: '.',
    udpPayloadSize: 4096,
    flags: 0,
    options: [],
    extendedRcode: 0,
    ednsVersion: 0,
    flag_do: false,
  };
  const whole = await ask(question('many.test', { additionals: [opt] }));
  assert.equal(whole.answers?.length, many.length);
});

test('NXDOMAIN for our own zone, REFUSED for others without an upstream', async () => {
  const rcode = async (name: string) => ((await ask(question(name))).flags ?? 0) & 0xf;
  assert.equal(await rcode('no.test'), 3);
  assert.equal(await rcode('example.com'), 5);
});

test('TCP: two questions in one segment and one split in two are all answered', async () => {
  const framed = packet.streamEncode({ type: 'query', id: 9, questions: [{ type: 'A', name: 'many.test' }] });
  const client = connect(PORT, '127.0.0.1');
  client.write(Buffer.concat([framed, framed, framed.subarray(0, 5)]));
  await new Promise(resolve => setTimeout(resolve, 20));
  client.write(framed.subarray(5));
  let received = Buffer.alloc(0);
  const answers: packet.DecodedPacket[] = [];
  for await (const chunk of client as AsyncIterable<Buffer>) {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      const end = 2 + received.readUInt16BE(0);
      answers.push(packet.decode(received.subarray(2, end)));
      received = received.subarray(end);
    }
    if (answers.length === 3) break;
  }
  assert.deepEqual(
    answers.map(answer => answer.answers?.length),
    [60, 60, 60],
  );
});

test('rubbish and answers are not answered', async () => {
  assert.equal(await server.answer(Buffer.from('rubbish')), undefined);
  assert.equal(await server.answer(packet.encode({ type: 'response', id: 1, questions: [] })), undefined);
});
