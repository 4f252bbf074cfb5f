// portmap's conditions in nft's language: what is understood, into how many rules, and which word is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConditions } from '../../../cni/nft/conditions.ts';

const names = (text: string, family: 4 | 6 = 4) =>
  parseConditions('conditionsV4', [text], family).map(rule => rule.map(one => one.name).join(' '));

test('selectors become expressions, braces become rules, a negated set stays one rule', () => {
  const CASES: [string, string[]][] = [
    ['ip saddr 10.0.0.1', ['meta cmp payload cmp']],
    ['ip saddr != 10.0.0.0/8', ['meta cmp payload bitwise cmp']],
    ['ip daddr 10.0.0.1-10.0.0.9', ['meta cmp payload range']],
    ['ip saddr { 10.0.0.1, 10.0.1.0/24 }', ['meta cmp payload cmp', 'meta cmp payload bitwise cmp']],
    [
      'ip saddr {10.0.0.1,10.0.0.2} iifname { eth0, "eth1*" }',
      Array(4).fill('meta cmp payload cmp meta cmp'),
    ],
    ['ip saddr != { 10.0.0.1, 10.0.0.2 }', ['meta cmp payload cmp meta cmp payload cmp']],
    ['iifname != "eth0" meta mark & 0xff == 0x1', ['meta cmp meta bitwise cmp']],
    ['mark and 0x1 != 0', ['meta bitwise cmp']],
    ['ct state new,established', ['ct bitwise cmp']],
    ['ct state != { invalid }', ['ct bitwise cmp']],
    ['ct mark 7', ['ct cmp']],
    ['tcp sport 1024-65535', ['meta cmp payload range']],
    ['udp dport != { 1, 2 }', ['meta cmp payload cmp meta cmp payload cmp']],
    ['ip protocol tcp', ['meta cmp']],
    ['meta l4proto { tcp, udp }', ['meta cmp', 'meta cmp']],
    ['fib saddr type unicast', ['fib cmp']],
  ];
  for (const [text, wanted] of CASES) assert.deepEqual(names(text), wanted, text);
  assert.deepEqual(names('ip6 saddr fd00::/8 ip6 nexthdr tcp', 6), ['meta cmp payload bitwise cmp meta cmp']);
  assert.deepEqual(parseConditions('conditionsV4', ['ip', 'saddr', '10.0.0.1'], 4).length, 1);
});

test('what is not understood is refused with the field and the word', () => {
  const BAD: [string, RegExp][] = [
    ['ip saddr', /conditionsV4/],
    ['ip saddr 10.0.0.300', /conditionsV4 at "10\.0\.0\.300"/],
    ['ip saddr fd00::1', /at "fd00::1"/],
    ['ip6 saddr fd00::1', /at "ip6"/],
    ['ip saddr 10.0.0.9-10.0.0.1', /at "10\.0\.0\.9-10\.0\.0\.1"/],
    ['ip ttl 4', /at "ttl"/],
    ['ip saddr { 10.0.0.1', /conditionsV4/],
    ['ip saddr @mine', /at "@mine"/],
    ['iif 1', /at "iif"/],
    ['iifname "averyveryverylongname"', /averyvery/],
    ['ct state fresh', /at "fresh"/],
    ['tcp sport 70000', /at "70000"/],
    ['meta mark x', /at "x"/],
    ['counter drop', /at "counter"/],
    ['constructor', /at "constructor"/],
    ['ct state toString', /at "toString"/],
    [`tcp sport {${Array.from({ length: 65 }, (_, i) => i + 1).join(',')}}`, /conditionsV4/],
  ];
  for (const [text, message] of BAD)
    assert.throws(
      () => names(text),
      (error: Error & { cniCode?: number }) => message.test(error.message) && error.cniCode === 7,
      text,
    );
});
