// The state machine with the clock in the test's hands: RFC 4271 section 8, collisions (6.8), OPEN checks (6.2).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FsmAction } from '../../../routing/bgp/fsm/events.ts';
import { PeerFsm } from '../../../routing/bgp/fsm/peer-fsm.ts';
import { type Capabilities, NO_CAPABILITIES } from '../../../routing/bgp/packet/capability/capabilities.ts';
import type { OpenMessage } from '../../../routing/bgp/packet/message/open.ts';

const RESTART: Capabilities['gracefulRestart'] = {
  restarting: false,
  notification: true,
  restartSeconds: 120,
  families: [{ family: 4, forwarding: true }],
};

const open = (
  asn: number,
  routerId: number,
  more: Partial<Capabilities> = {},
  holdTimeSeconds = 90,
): OpenMessage => ({
  asn,
  routerId,
  holdTimeSeconds,
  capabilities: { ...NO_CAPABILITIES, families: [4], as4: asn, ...more },
});

function machine(local = open(65001, 10), passive = false, peerAsn: number | undefined = 65002): PeerFsm {
  return new PeerFsm({ open: () => local, peerAsn, passive, connectRetryMs: 5000, random: () => 1 });
}

const types = (actions: readonly FsmAction[]): string[] =>
  actions.map(action => {
    if (action.type !== 'send') return action.type;
    const kind = ['', 'open', 'update', 'notification', 'keepalive'][action.bytes[18]!]!;
    return kind === 'notification' ? `${kind} ${action.bytes[19]}/${action.bytes[20]}` : kind;
  });

function establish(fsm: PeerFsm, peer = open(65002, 20), now = 0): void {
  fsm.handle({ type: 'start' }, now);
  fsm.handle({ type: 'connected', connection: 1 }, now);
  fsm.handle({ type: 'open', connection: 1, open: peer }, now);
  fsm.handle({ type: 'keepalive', connection: 1 }, now);
  assert.equal(fsm.state, 'Established');
}

test('RFC 4271 8.2.2: Idle, Connect, OpenSent, OpenConfirm, Established', () => {
  const fsm = machine();
  assert.equal(fsm.state, 'Idle');
  assert.deepEqual(types(fsm.handle({ type: 'start' }, 0)), ['connect']);
  assert.equal(fsm.state, 'Connect');
  assert.deepEqual(types(fsm.handle({ type: 'connected', connection: 1 }, 1)), ['open']);
  assert.equal(fsm.state, 'OpenSent');
  assert.deepEqual(types(fsm.handle({ type: 'open', connection: 1, open: open(65002, 20) }, 2)), [
    'keepalive',
  ]);
  assert.equal(fsm.state, 'OpenConfirm');
  assert.deepEqual(types(fsm.handle({ type: 'keepalive', connection: 1 }, 3)), ['established']);
  assert.equal(fsm.state, 'Established');
});

test('RFC 4271 8.2.1.1 and 10: attempts grow apart, with jitter, up to the limit', () => {
  const fsm = machine();
  fsm.handle({ type: 'start' }, 0);
  let now = 0;
  const waits: number[] = [];
  for (let i = 0; i < 8; i++) {
    fsm.handle({ type: 'connect-failed', reason: 'refused' }, now);
    waits.push(fsm.deadlineMs - now);
    now = fsm.deadlineMs;
    assert.deepEqual(types(fsm.handle({ type: 'timer' }, now)), ['connect']);
  }
  assert.deepEqual(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
});

test('RFC 4271 4.4 and 6.5: keepalives at a third of the hold time; silence ends the session', () => {
  const fsm = machine();
  establish(fsm);
  assert.equal(fsm.deadlineMs, 30_000);
  assert.deepEqual(types(fsm.handle({ type: 'timer' }, 30_000)), ['keepalive']);
  fsm.received(1, 89_000);
  assert.deepEqual(types(fsm.handle({ type: 'timer' }, 90_000)), ['keepalive']);
  assert.deepEqual(types(fsm.handle({ type: 'timer' }, 179_000)), ['notification 4/0', 'close', 'down']);
  assert.equal(fsm.state, 'Idle');
});

test('RFC 4271 4.2: a hold time of zero means no keepalives and no hold timer', () => {
  const fsm = machine();
  establish(fsm, open(65002, 20, {}, 0));
  assert.equal(fsm.deadlineMs, Infinity);
});

test('RFC 4271 6.2: the wrong AS, our own router id, no family in common', () => {
  const cases: [OpenMessage, string][] = [
    [open(65003, 20), 'notification 2/2'],
    [open(65002, 20, { families: [6] }), 'notification 2/7'],
  ];
  for (const [peer, wanted] of cases) {
    const fsm = machine();
    fsm.handle({ type: 'start' }, 0);
    fsm.handle({ type: 'connected', connection: 1 }, 0);
    assert.deepEqual(types(fsm.handle({ type: 'open', connection: 1, open: peer }, 0)), [
      wanted,
      'close',
      'failed',
    ]);
  }
  const internal = machine(open(65001, 10), false, 65001);
  internal.handle({ type: 'start' }, 0);
  internal.handle({ type: 'connected', connection: 1 }, 0);
  assert.deepEqual(types(internal.handle({ type: 'open', connection: 1, open: open(65001, 10) }, 0)), [
    'notification 2/3',
    'close',
    'failed',
  ]);
});

test('RFC 6608: a message in the wrong state is an FSM error with the state as subcode', () => {
  const fsm = machine();
  fsm.handle({ type: 'start' }, 0);
  fsm.handle({ type: 'connected', connection: 1 }, 0);
  assert.deepEqual(types(fsm.handle({ type: 'keepalive', connection: 1 }, 0)), [
    'notification 5/1',
    'close',
    'failed',
  ]);
  const up = machine();
  establish(up);
  assert.deepEqual(types(up.handle({ type: 'open', connection: 1, open: open(65002, 20) }, 1)), [
    'notification 5/3',
    'close',
    'down',
  ]);
});

test('RFC 4271 6.8: of two connections the one opened by the greater identifier stays', () => {
  for (const [ours, theirs, survivor] of [
    [30, 20, 1],
    [10, 20, 2],
  ] as const) {
    const fsm = machine(open(65001, ours));
    fsm.handle({ type: 'start' }, 0);
    fsm.handle({ type: 'connected', connection: 1 }, 0);
    fsm.handle({ type: 'accepted', connection: 2 }, 0);
    // The peer is known by its address, so the first OPEN decides.
    const actions = [
      ...fsm.handle({ type: 'open', connection: 1, open: open(65002, theirs) }, 0),
      ...fsm.handle({ type: 'open', connection: 2, open: open(65002, theirs) }, 0),
    ];
    const closed = actions.find(action => action.type === 'close');
    assert.equal(closed?.type === 'close' ? closed.connection : 0, survivor === 1 ? 2 : 1);
    assert.ok(types(actions).includes('notification 6/7'));
    fsm.handle({ type: 'keepalive', connection: survivor }, 0);
    assert.equal(fsm.state, 'Established');
  }
});

test('RFC 4271 6.8: an established session refuses a second connection; RFC 4724 4.2: unless its peer may restart', () => {
  const fsm = machine();
  establish(fsm);
  assert.deepEqual(types(fsm.handle({ type: 'accepted', connection: 2 }, 1)), ['notification 6/7', 'close']);
  const graceful = machine(open(65001, 10, { gracefulRestart: RESTART }));
  establish(graceful, open(65002, 20, { gracefulRestart: RESTART }));
  assert.deepEqual(types(graceful.handle({ type: 'accepted', connection: 2 }, 1)), ['open']);
  const actions = graceful.handle(
    { type: 'open', connection: 2, open: open(65002, 20, { gracefulRestart: RESTART }) },
    2,
  );
  assert.deepEqual(types(actions), ['close', 'down', 'keepalive']);
  const down = actions.find(action => action.type === 'down');
  assert.equal(down?.type === 'down' && down.graceful, true);
});

test('RFC 4724 4.2 and 8538 4: which ends keep the routes', () => {
  const both = open(65001, 10, { gracefulRestart: RESTART });
  const peer = open(65002, 20, { gracefulRestart: RESTART });
  const withoutN = open(65002, 20, { gracefulRestart: { ...RESTART!, notification: false } });
  const empty = new Uint8Array(0);
  const cases: [string, OpenMessage, Parameters<PeerFsm['handle']>[0], boolean][] = [
    ['lost connection', peer, { type: 'closed', connection: 1, reason: 'x' }, true],
    [
      'lost connection without the capability',
      open(65002, 20),
      { type: 'closed', connection: 1, reason: 'x' },
      false,
    ],
    [
      'NOTIFICATION with the N bit',
      peer,
      { type: 'notification', connection: 1, notification: { code: 6, subcode: 4, data: empty } },
      true,
    ],
    [
      'hard reset',
      peer,
      { type: 'notification', connection: 1, notification: { code: 6, subcode: 9, data: empty } },
      false,
    ],
    [
      'NOTIFICATION without the N bit',
      withoutN,
      { type: 'notification', connection: 1, notification: { code: 6, subcode: 4, data: empty } },
      false,
    ],
    ['BFD', peer, { type: 'bfd-down' }, false],
  ];
  for (const [title, opened, event, graceful] of cases) {
    const fsm = machine(both);
    establish(fsm, opened);
    const down = fsm.handle(event, 1).find(action => action.type === 'down');
    assert.equal(down?.type === 'down' && down.graceful, graceful, title);
  }
});

test('stop sends the Cease and nothing starts again', () => {
  const fsm = machine();
  establish(fsm);
  const actions = fsm.handle(
    { type: 'stop', notification: { code: 6, subcode: 2, data: new Uint8Array(0) } },
    1,
  );
  assert.deepEqual(types(actions), ['notification 6/2', 'close', 'down']);
  assert.equal(fsm.deadlineMs, Infinity);
  assert.equal(fsm.state, 'Idle');
});

test('a passive peer never connects', () => {
  const fsm = machine(open(65001, 10), true);
  assert.deepEqual(types(fsm.handle({ type: 'start' }, 0)), []);
  assert.equal(fsm.state, 'Active');
  assert.deepEqual(types(fsm.handle({ type: 'accepted', connection: 1 }, 0)), ['open']);
});

test('RFC 4271 8.2.2 and 6.5: who accepts and never sends an OPEN is let go; a later connection takes its place', () => {
  const fsm = machine(open(65001, 10), true);
  fsm.handle({ type: 'start' }, 0);
  fsm.handle({ type: 'accepted', connection: 1 }, 0);
  assert.deepEqual(types(fsm.handle({ type: 'accepted', connection: 2 }, 10_000)), [
    'notification 6/5',
    'close',
    'open',
  ]);
  assert.equal(fsm.deadlineMs, 40_000);
  assert.deepEqual(types(fsm.handle({ type: 'timer' }, 40_000)), ['notification 4/0', 'close', 'failed']);
  fsm.handle({ type: 'accepted', connection: 3 }, 41_000);
  fsm.handle({ type: 'open', connection: 3, open: open(65002, 20) }, 41_000);
  const late = fsm.handle({ type: 'accepted', connection: 4 }, 41_001);
  assert.deepEqual(types(late), ['notification 6/5', 'close'], 'one that is further keeps its place');
});
