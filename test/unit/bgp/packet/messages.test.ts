// Messages as bytes and as values, both ways. The bytes follow the diagrams of the RFCs named in each title.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Capabilities,
  NO_CAPABILITIES,
} from '../../../../routing/bgp/packet/capability/capabilities.ts';
import { BgpMessageError } from '../../../../routing/bgp/packet/error.ts';
import { peekMessage } from '../../../../routing/bgp/packet/header.ts';
import { encodeKeepalive } from '../../../../routing/bgp/packet/message/keepalive.ts';
import {
  ceaseWithText,
  decodeNotification,
  describeNotification,
  encodeNotification,
  hardReset,
  shutdownText,
} from '../../../../routing/bgp/packet/message/notification.ts';
import { decodeOpen, encodeOpen, type OpenMessage } from '../../../../routing/bgp/packet/message/open.ts';
import {
  decodeRouteRefresh,
  encodeRouteRefresh,
} from '../../../../routing/bgp/packet/message/route-refresh.ts';

const MARKER = 'ff'.repeat(16);
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const resets = (code: number, subcode: number) => (thrown: unknown) =>
  thrown instanceof BgpMessageError && thrown.errorCode === code && thrown.errorSubcode === subcode;

const FULL: Capabilities = {
  families: [4, 6],
  routeRefresh: true,
  enhancedRouteRefresh: true,
  extendedMessage: true,
  extendedNextHop: true,
  as4: 4_200_000_001,
  gracefulRestart: {
    restarting: true,
    notification: true,
    restartSeconds: 120,
    families: [
      { family: 4, forwarding: true },
      { family: 6, forwarding: false },
    ],
  },
  addPath: [{ family: 4, send: true, receive: true }],
  unknown: [],
};

const OPENS: [title: string, hex: string, value: OpenMessage][] = [
  [
    'RFC 4271 4.2: no parameters',
    `${MARKER} 001d 01 04 fde8 00b4 0a000001 00`,
    { asn: 65000, holdTimeSeconds: 180, routerId: 0x0a000001, capabilities: NO_CAPABILITIES },
  ],
  [
    'RFC 5492 4, 4760 8, 2918, 8950, 8654, 4724 3, 8538 2, 6793 3, 7911 4, 7313 3.1: every capability',
    `${MARKER} 0051 01 04 5ba0 005a 0a000001 34 02 32
     0104 00010001 0104 00020001 0200 0506 000100010002 0600
     400a c078 00010180 00020100 4104 fa56ea01 4504 00010103 4600`,
    { asn: 4_200_000_001, holdTimeSeconds: 90, routerId: 0x0a000001, capabilities: FULL },
  ],
];

for (const [title, hex, value] of OPENS)
  test(`OPEN, ${title}`, () => {
    assert.deepEqual(decodeOpen(bytes(hex.replaceAll(/\s/g, ''))), value);
    assert.equal(encodeOpen(value).toString('hex'), hex.replaceAll(/\s/g, ''));
  });

test('OPEN, RFC 9072: parameters longer than 255 bytes use the extended form', () => {
  const capabilities = {
    ...NO_CAPABILITIES,
    unknown: [0, 1].map(i => ({ code: 200 + i, value: new Uint8Array(150).fill(i) })),
  };
  const open = { asn: 65000, holdTimeSeconds: 90, routerId: 1, capabilities };
  const encoded = encodeOpen(open);
  assert.equal(encoded[28], 255);
  assert.deepEqual(decodeOpen(encoded), open);
});

const BAD_OPENS: [title: string, hex: string, code: number, subcode: number][] = [
  ['RFC 4271 6.2: version 3', `${MARKER} 001d 01 03 fde8 00b4 0a000001 00`, 2, 1],
  ['RFC 4271 6.2: hold time of 2 s', `${MARKER} 001d 01 04 fde8 0002 0a000001 00`, 2, 6],
  ['RFC 6286 2.1: router id zero', `${MARKER} 001d 01 04 fde8 00b4 00000000 00`, 2, 3],
  ['RFC 7607: AS 0', `${MARKER} 001d 01 04 0000 00b4 0a000001 00`, 2, 2],
  ['RFC 5492 4: unknown parameter type', `${MARKER} 0020 01 04 fde8 00b4 0a000001 03 01 01 00`, 2, 4],
  ['parameters that do not fit', `${MARKER} 001e 01 04 fde8 00b4 0a000001 05 02`, 2, 0],
  ['a capability that is cut short', `${MARKER} 0021 01 04 fde8 00b4 0a000001 04 02 02 41 04`, 2, 0],
];

for (const [title, hex, code, subcode] of BAD_OPENS)
  test(`OPEN refused, ${title}`, () => {
    assert.throws(() => decodeOpen(bytes(hex)), resets(code, subcode));
  });

test('header, RFC 4271 6.1: marker, length and type are checked; RFC 8654: the longer limit is for UPDATE only', () => {
  const peek = (hex: string, max = 4096): number => {
    const buffer = bytes(hex);
    return peekMessage(buffer, 0, buffer.length, max);
  };
  assert.equal(peek(`${MARKER} 0013 04`), 19);
  assert.equal(peek(`${MARKER} 0013`), 0);
  assert.throws(() => peek(`${'ff'.repeat(15)}fe 0013 04`), resets(1, 1));
  assert.throws(() => peek(`${MARKER} 0012 04`), resets(1, 2));
  assert.throws(() => peek(`${MARKER} 0014 04`), resets(1, 2));
  assert.throws(() => peek(`${MARKER} 1001 02`), resets(1, 2));
  assert.equal(peek(`${MARKER} 1001 02`, 65535), 4097);
  assert.throws(() => peek(`${MARKER} 1001 01`, 65535), resets(1, 2));
  assert.throws(() => peek(`${MARKER} 0013 06`), resets(1, 3));
});

test('KEEPALIVE, RFC 4271 4.4', () => {
  assert.equal(encodeKeepalive().toString('hex'), `${MARKER}001304`);
});

test('NOTIFICATION, RFC 4271 4.5, 9003 2, 8538 3.1', () => {
  const cease = ceaseWithText(2, 'wartung, zurück um 5');
  const decoded = decodeNotification(encodeNotification(cease));
  assert.equal(shutdownText(decoded), 'wartung, zurück um 5');
  assert.equal(describeNotification(decoded), 'cease/admin-shutdown: wartung, zurück um 5');
  assert.equal(ceaseWithText(2, 'ü'.repeat(200)).data.length, 255);
  assert.deepEqual([...hardReset({ code: 6, subcode: 3, data: Uint8Array.of(9) }).data], [6, 3, 9]);
  assert.equal(describeNotification({ code: 4, subcode: 0, data: new Uint8Array(0) }), 'hold timer expired');
});

test('ROUTE-REFRESH, RFC 2918 3 and 7313 5', () => {
  assert.equal(encodeRouteRefresh(6).toString('hex'), `${MARKER}00170500020001`);
  assert.deepEqual(decodeRouteRefresh(encodeRouteRefresh(4, 1)), { family: 4, subtype: 1 });
  assert.equal(decodeRouteRefresh(bytes(`${MARKER} 0017 05 0001 00 80`)).family, undefined);
  assert.throws(() => decodeRouteRefresh(bytes(`${MARKER} 0018 05 0001 01 01 00`)), resets(7, 1));
});
