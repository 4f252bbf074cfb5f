import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MESSAGE_TYPE, OPTION } from '../../../src/codec/dhcp/constants.ts';
import { type DhcpMessage, decodeDhcpMessage, encodeDhcpMessage } from '../../../src/codec/dhcp/message.ts';
import {
  addressesOption,
  addressWithMask,
  messageType,
  numberOption,
  routesOption,
  textOption,
} from '../../../src/codec/dhcp/options.ts';
import { decodeUdpFrame, encodeUdpFrame } from '../../../src/codec/ip/udp-frame.ts';
import { DecodeError } from '../../../src/lib/errors.ts';

const BASE: DhcpMessage = {
  ...{ op: 'request', xid: 0x3903f326, secs: 3, broadcast: true },
  ...{ ciaddr: '0.0.0.0', yiaddr: '10.1.2.3', siaddr: '10.1.2.1', giaddr: '0.0.0.0' },
  ...{ chaddr: '02:42:0a:00:00:07', options: new Map() },
};

/** A DHCPACK written out after RFC 2131, in the order of options that busybox's udhcpd has. */
const ACK = Buffer.concat([
  Buffer.from(
    '02010600 1d2c3b4a 0000 0000 00000000 0a420067 0a420001 00000000 feedbeef0001'.replaceAll(' ', ''),
    'hex',
  ),
  Buffer.alloc(10 + 64 + 128),
  Buffer.from(
    '63825363 350105 36040a420001 330400000258 0104ffffff00 03040a420001 06080a4200020a420003 0f0c706f64732e6578616d706c65 ff'.replaceAll(
      ' ',
      '',
    ),
    'hex',
  ),
]);

test('decodes what a server sends', () => {
  const ack = decodeDhcpMessage(ACK);
  assert.equal(ack.op, 'reply');
  assert.equal(ack.xid, 0x1d2c3b4a);
  assert.equal(ack.yiaddr, '10.66.0.103');
  assert.equal(ack.chaddr, 'fe:ed:be:ef:00:01');
  assert.equal(messageType(ack), MESSAGE_TYPE.ACK);
  assert.equal(numberOption(ack.options, OPTION.LEASE_TIME), 600);
  assert.equal(addressWithMask(ack.yiaddr, ack.options), '10.66.0.103/24');
  assert.deepEqual(addressesOption(ack.options, OPTION.DOMAIN_NAME_SERVER), ['10.66.0.2', '10.66.0.3']);
  assert.equal(textOption(ack.options, OPTION.DOMAIN_NAME), 'pods.example');
  assert.deepEqual(routesOption(ack.options), [{ destination: '0.0.0.0/0', gateway: '10.66.0.1' }]);
});

test('encodes the fixed fields where RFC 2131 has them, and at least 300 bytes', () => {
  const bytes = encodeDhcpMessage({ ...BASE, options: new Map([[OPTION.MESSAGE_TYPE, Buffer.of(1)]]) });
  assert.equal(bytes.length, 300);
  assert.equal(bytes.subarray(0, 12).toString('hex'), '010106003903f32600038000');
  assert.equal(bytes.subarray(236, 244).toString('hex'), '63825363350101ff');
});

test('a value longer than 255 bytes is cut up and put together again (RFC 3396)', () => {
  const long = Buffer.alloc(600, 7);
  const decoded = decodeDhcpMessage(encodeDhcpMessage({ ...BASE, options: new Map([[77, long]]) }));
  assert.deepEqual(decoded.options.get(77), long);
});

test('options overflow into file and sname (option 52)', () => {
  const bytes = encodeDhcpMessage({ ...BASE, options: new Map([[OPTION.OVERLOAD, Buffer.of(3)]]) });
  Buffer.from('0c0466696c65ff', 'hex').copy(bytes, 44 + 64);
  Buffer.from('0f05736e616d65ff', 'hex').copy(bytes, 44);
  const { options } = decodeDhcpMessage(bytes);
  assert.equal(textOption(options, OPTION.HOST_NAME), 'file');
  assert.equal(textOption(options, OPTION.DOMAIN_NAME), 'sname');
});

test('routes: classless ones alone, else classful ones and the router', () => {
  const options = new Map([
    [OPTION.ROUTER, Buffer.from([10, 0, 0, 1])],
    [OPTION.STATIC_ROUTE, Buffer.from([172, 16, 9, 9, 10, 0, 0, 2, 192, 0, 2, 1, 10, 0, 0, 3])],
  ]) as Map<number, Buffer>;
  assert.deepEqual(routesOption(options), [
    { destination: '172.16.0.0/16', gateway: '10.0.0.2' },
    { destination: '192.0.2.0/24', gateway: '10.0.0.3' },
    { destination: '0.0.0.0/0', gateway: '10.0.0.1' },
  ]);
  options.set(OPTION.CLASSLESS_ROUTE, Buffer.from('180a01020a0102fe000a000009200a0000070a000008', 'hex'));
  assert.deepEqual(routesOption(options), [
    { destination: '10.1.2.0/24', gateway: '10.1.2.254' },
    { destination: '0.0.0.0/0', gateway: '10.0.0.9' },
    { destination: '10.0.0.7/32', gateway: '10.0.0.8' },
  ]);
  options.set(OPTION.CLASSLESS_ROUTE, Buffer.from('21', 'hex'));
  assert.equal(routesOption(options).length, 3, 'a broken option counts as absent');
});

test('a mask with holes is none', () => {
  const withMask = (hex: string) => addressWithMask('10.0.0.5', new Map([[1, Buffer.from(hex, 'hex')]]));
  assert.equal(withMask('ffff00ff'), undefined);
  assert.equal(withMask('ffffffff'), '10.0.0.5/32');
  assert.equal(withMask('00000000'), '10.0.0.5/0');
  assert.equal(addressWithMask('10.0.0.5', new Map()), undefined);
});

const address = fc.ipV4();
const message: fc.Arbitrary<DhcpMessage> = fc.record({
  op: fc.constantFrom('request' as const, 'reply' as const),
  xid: fc.nat(0xffffffff),
  secs: fc.nat(0xffff),
  broadcast: fc.boolean(),
  ...{ ciaddr: address, yiaddr: address, siaddr: address, giaddr: address },
  chaddr: fc
    .uint8Array({ minLength: 6, maxLength: 6 })
    .map(bytes => Buffer.from(bytes).toString('hex').match(/../g)!.join(':')),
  options: fc
    .array(
      fc.tuple(
        fc.integer({ min: 1, max: 254 }).filter(code => code !== OPTION.OVERLOAD),
        fc.uint8Array({ maxLength: 600 }).map(bytes => Buffer.from(bytes)),
      ),
      { maxLength: 8 },
    )
    .map(pairs => new Map(pairs)),
});

test('every message survives the way there and back', () => {
  fc.assert(
    fc.property(message, value => {
      assert.deepEqual(decodeDhcpMessage(encodeDhcpMessage(value)), { ...value });
    }),
  );
});

test('the frame has the checksums that the RFCs ask for, and comes back', () => {
  const frame = {
    ...{ destinationMac: 'ff:ff:ff:ff:ff:ff', sourceMac: '02:42:0a:00:00:07' },
    ...{ source: '0.0.0.0', destination: '255.255.255.255', sourcePort: 68, destinationPort: 67 },
    payload: Buffer.from('hello'),
  };
  const bytes = encodeUdpFrame(frame);
  // The header's sum is computed by hand; the kernel checks that of UDP in test/netns/cni/dhcp.test.ts.
  assert.equal(bytes.subarray(14, 34).toString('hex'), '450000210000400040113acd00000000ffffffff');
  const { destinationMac: _, sourceMac: __, ...datagram } = frame;
  assert.deepEqual(decodeUdpFrame(bytes), datagram);
  const odd = Buffer.from(bytes);
  odd[24] = odd[24]! ^ 1;
  assert.equal(decodeUdpFrame(odd), undefined, 'a damaged header is ignored');
});

test('no bytes make the decoders do anything but answer or throw a DecodeError', () => {
  const mutated = fc
    .tuple(message, fc.array(fc.tuple(fc.nat(700), fc.nat(255)), { maxLength: 12 }), fc.nat(700))
    .map(([value, changes, cut]) => {
      const bytes = encodeDhcpMessage(value);
      for (const [at, byte] of changes) if (at < bytes.length) bytes[at] = byte;
      return bytes.subarray(0, cut);
    });
  const total = (decode: (bytes: Uint8Array) => unknown) => (bytes: Uint8Array) => {
    try {
      const decoded = decode(bytes) as DhcpMessage | undefined;
      if (decoded?.options !== undefined) routesOption(decoded.options);
    } catch (error) {
      assert.ok(error instanceof DecodeError, String(error));
    }
  };
  fc.assert(fc.property(mutated, total(decodeDhcpMessage)), { numRuns: 500 });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), total(decodeDhcpMessage)));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), total(decodeUdpFrame)));
});
