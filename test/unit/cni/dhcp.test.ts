import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDuration } from '../../../cni/ipam/dhcp/command.ts';
import {
  acquireLease,
  type DhcpClientIdentity,
  type DhcpTransport,
  extendLease,
  releaseMessage,
} from '../../../cni/ipam/dhcp/exchange.ts';
import { leaseFromAck, leasePhase, leaseResult, retryDelayMs } from '../../../cni/ipam/dhcp/lease.ts';
import { INFINITE, MESSAGE_TYPE, OPTION } from '../../../src/codec/dhcp/constants.ts';
import type { DhcpMessage } from '../../../src/codec/dhcp/message.ts';
import { encodeAddress, messageType } from '../../../src/codec/dhcp/options.ts';
import { FakeClock } from '../../harness/fake-clock.ts';

const CLIENT: DhcpClientIdentity = {
  ...{ mac: '02:00:00:00:00:01', clientId: Buffer.from('\0c/n/eth0'), broadcast: false },
  ...{ request: [1, 3], provide: new Map([[12, Buffer.from('web')]]) },
};

function seconds(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function reply(to: DhcpMessage, type: number, options: [number, Buffer][] = []): DhcpMessage {
  return {
    ...{ ...to, op: 'reply', yiaddr: '10.0.0.9' },
    options: new Map<number, Buffer>([
      [OPTION.MESSAGE_TYPE, Buffer.of(type)],
      [OPTION.SERVER_ID, encodeAddress('10.0.0.1')],
      [OPTION.LEASE_TIME, seconds(1000)],
      [OPTION.SUBNET_MASK, encodeAddress('255.255.255.0')],
      ...options,
    ]),
  };
}

/** A wire with a server's mind at the other end. */
class Wire implements DhcpTransport {
  readonly sent: DhcpMessage[] = [];
  readonly #server: (message: DhcpMessage, nth: number) => DhcpMessage[];
  onMessage: (message: DhcpMessage) => void = () => {};

  constructor(server: (message: DhcpMessage, nth: number) => DhcpMessage[]) {
    this.#server = server;
  }

  send(message: DhcpMessage): void {
    this.sent.push(message);
    const answers = this.#server(message, this.sent.length);
    queueMicrotask(() => {
      for (const answer of answers) this.onMessage(answer);
    });
  }

  [Symbol.dispose](): void {}
}

function times(clock: FakeClock, signal = new AbortController().signal) {
  return { timeoutMs: 10_000, resendMaxMs: 62_000, signal, clock };
}

test('DISCOVER, OFFER, REQUEST, ACK', async () => {
  const wire = new Wire(message => [
    reply(message, messageType(message) === MESSAGE_TYPE.DISCOVER ? MESSAGE_TYPE.OFFER : MESSAGE_TYPE.ACK),
  ]);
  const lease = await acquireLease(wire, CLIENT, times(new FakeClock(0)));
  assert.equal(lease.address, '10.0.0.9');
  const [discover, request] = wire.sent;
  assert.deepEqual(discover!.options.get(OPTION.PARAMETER_LIST), Buffer.of(1, 3));
  assert.deepEqual(discover!.options.get(OPTION.HOST_NAME), Buffer.from('web'));
  assert.deepEqual(request!.options.get(OPTION.REQUESTED_IP), encodeAddress('10.0.0.9'));
  assert.deepEqual(request!.options.get(OPTION.SERVER_ID), encodeAddress('10.0.0.1'));
  assert.equal(request!.xid, discover!.xid);
  assert.equal(request!.ciaddr, '0.0.0.0');
});

test('answers to others, and to nothing, are ignored; requests are repeated with growing pauses', async () => {
  const clock = new FakeClock(0);
  const wire = new Wire((message, nth) => {
    if (messageType(message) === MESSAGE_TYPE.REQUEST) return [reply(message, MESSAGE_TYPE.ACK)];
    const offer = reply(message, MESSAGE_TYPE.OFFER);
    return nth < 3
      ? [
          { ...offer, xid: message.xid ^ 1 },
          { ...offer, chaddr: '02:00:00:00:00:02' },
          { ...offer, op: 'request' },
          { ...offer, yiaddr: '0.0.0.0' },
          reply(message, MESSAGE_TYPE.ACK),
        ]
      : [offer];
  });
  const done = acquireLease(wire, CLIENT, times(clock));
  await clock.advance(5000);
  assert.equal((await done).address, '10.0.0.9');
  assert.deepEqual(
    wire.sent.map(message => messageType(message)),
    [1, 1, 1, 3],
  );
  assert.ok(wire.sent[2]!.secs >= 2, 'secs counts from the first');
});

test('nobody answers: code 11 after the time; an abort ends it at once', async () => {
  const clock = new FakeClock(0);
  const silent = new Wire(() => []);
  const done = assert.rejects(acquireLease(silent, CLIENT, times(clock)), { cniCode: 11 });
  await clock.advance(10_000);
  await done;
  assert.deepEqual(clock.pending(), [], 'no timer is left');
  const gone = new AbortController();
  const aborted = assert.rejects(acquireLease(silent, CLIENT, times(clock, gone.signal)), { cniCode: 11 });
  gone.abort();
  await aborted;
  assert.deepEqual(clock.pending(), []);
});

test('a server that takes its offers back is given up after three', async () => {
  const wire = new Wire(message => [
    reply(message, messageType(message) === MESSAGE_TYPE.DISCOVER ? MESSAGE_TYPE.OFFER : MESSAGE_TYPE.NAK),
  ]);
  await assert.rejects(acquireLease(wire, CLIENT, times(new FakeClock(0))), /NACK/);
  assert.equal(wire.sent.length, 6);
});

test('renewal carries the address in ciaddr and no server; a NAK is undefined', async () => {
  const clock = new FakeClock(0);
  const ack = new Wire(message => [reply(message, MESSAGE_TYPE.ACK)]);
  const lease = leaseFromAck(reply(ack.sent[0] ?? discoverLike(), MESSAGE_TYPE.ACK), 0)!;
  assert.equal((await extendLease(ack, CLIENT, lease, times(clock)))?.address, '10.0.0.9');
  const sent = ack.sent[0]!;
  assert.equal(sent.ciaddr, '10.0.0.9');
  assert.equal(sent.options.has(OPTION.SERVER_ID), false);
  assert.equal(sent.options.has(OPTION.REQUESTED_IP), false);
  const nak = new Wire(message => [reply(message, MESSAGE_TYPE.NAK)]);
  assert.equal(await extendLease(nak, CLIENT, lease, times(clock)), undefined);
  const release = releaseMessage(CLIENT, lease);
  assert.deepEqual([...release.options.keys()].sort(), [
    OPTION.MESSAGE_TYPE,
    OPTION.SERVER_ID,
    OPTION.CLIENT_ID,
  ]);
});

function discoverLike(): DhcpMessage {
  return {
    ...{ op: 'request', xid: 1, secs: 0, broadcast: false, chaddr: CLIENT.mac, options: new Map() },
    ...{ ciaddr: '0.0.0.0', yiaddr: '0.0.0.0', siaddr: '0.0.0.0', giaddr: '0.0.0.0' },
  };
}

test('times of a lease: the server’s, or half and seven eighths', () => {
  const lease = (options: [number, Buffer][]) =>
    leaseFromAck(reply(discoverLike(), MESSAGE_TYPE.ACK, options), 1_000_000);
  const plain = lease([])!;
  assert.deepEqual([plain.renewAtMs, plain.rebindAtMs, plain.expireAtMs], [1_500_000, 1_875_000, 2_000_000]);
  const given = lease([
    [OPTION.RENEWAL_TIME, seconds(100)],
    [OPTION.REBINDING_TIME, seconds(200)],
  ])!;
  assert.deepEqual([given.renewAtMs, given.rebindAtMs], [1_100_000, 1_200_000]);
  const absurd = lease([
    [OPTION.RENEWAL_TIME, seconds(900)],
    [OPTION.REBINDING_TIME, seconds(5000)],
  ])!;
  assert.deepEqual([absurd.renewAtMs, absurd.rebindAtMs], [1_500_000, 1_875_000]);
  assert.equal(lease([[OPTION.LEASE_TIME, seconds(0)]]), undefined);
  const forever = lease([[OPTION.LEASE_TIME, seconds(INFINITE)]])!;
  assert.equal(leasePhase(forever, Number.MAX_SAFE_INTEGER), 'bound');
  const phases = [1_499_999, 1_500_000, 1_875_000, 2_000_000].map(now => leasePhase(plain, now));
  assert.deepEqual(phases, ['bound', 'renewing', 'rebinding', 'expired']);
  assert.equal(retryDelayMs(plain, 1_500_000), 187_500);
  assert.equal(retryDelayMs(plain, 1_900_000), 60_000);
  assert.equal(retryDelayMs(plain, 1_990_000), 10_000);
});

test('the result: gateway and routes can be left out, routes get their metric, a mask is needed', () => {
  const router: [number, Buffer] = [OPTION.ROUTER, encodeAddress('10.0.0.254')];
  const lease = leaseFromAck(reply(discoverLike(), MESSAGE_TYPE.ACK, [router]), 0)!;
  assert.deepEqual(leaseResult(lease, { priority: 5, suppressGateway: false }), {
    ...{ interfaces: [], dns: {} },
    ips: [{ address: '10.0.0.9/24', gateway: '10.0.0.254' }],
    routes: [{ dst: '0.0.0.0/0', gw: '10.0.0.254', priority: 5 }],
  });
  const suppressed = leaseResult(lease, { priority: undefined, suppressGateway: true });
  assert.deepEqual([suppressed.ips, suppressed.routes], [[{ address: '10.0.0.9/24' }], []]);
  lease.options.delete(OPTION.SUBNET_MASK);
  assert.throws(
    () => leaseResult(lease, { priority: undefined, suppressGateway: false }),
    /Subnet Mask not found/,
  );
});

test('durations as Go writes them', () => {
  assert.deepEqual(
    ['10s', '1m30s', '500ms', '1.5h'].map(text => parseDuration(text, 'x')),
    [10_000, 90_000, 500, 5_400_000],
  );
  for (const text of ['', '10', 's', '10s ', '-1s', '1s2'])
    assert.throws(() => parseDuration(text, '--timeout'));
});
