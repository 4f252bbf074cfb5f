// The native writer of legacy tables against the iptables programs: the same bytes in the kernel, the same text of
// iptables-save, and nothing of anybody else's lost.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isSameRule } from '../../../src/codec/xtables/edit.ts';
import { FileLock } from '../../../src/linux/file-lock.ts';
import { Iptables } from '../../../src/linux/iptables.ts';
import { editXtables, readXtables, type XtablesEditor } from '../../../src/linux/xtables.ts';
import { encoderFor } from '../../../src/linux/xtables-socket.ts';
import { FOREIGN_RULES, RULE_SETS } from '../../harness/iptables-rules.ts';
import { type LabNamespace, NetnsLab, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';

const PROGRAM = { 4: 'iptables', 6: 'ip6tables' } as const;

describe('legacy iptables tables', { skip: SKIP_UNLESS_ROOT }, () => {
  let lab: NetnsLab;
  let count = 0;
  before(() => {
    lab = new NetnsLab('xtb');
  });
  after(() => lab.close());

  const fresh = (): LabNamespace => lab.namespace(`n${++count}`);

  async function restore(host: LabNamespace, family: 4 | 6, lines: readonly string[]): Promise<void> {
    const result = await host.run(
      `${PROGRAM[family]}-legacy-restore`,
      ['--noflush'],
      `${lines.join('\n')}\n`,
    );
    assert.equal(result.code, 0, result.stderr);
  }

  /** Without the comments, which tell the time; with counters when asked. */
  async function save(host: LabNamespace, family: 4 | 6, counters = false): Promise<string> {
    const result = await host.run(`${PROGRAM[family]}-legacy-save`, counters ? ['-c'] : []);
    assert.equal(result.code, 0, result.stderr);
    return result.stdout.replace(/^#.*\n/gm, '');
  }

  function edit<T>(
    host: LabNamespace,
    family: 4 | 6,
    table: string,
    change: (editor: XtablesEditor) => T,
  ): Promise<T> {
    const lockFile = join(lab.directory, `${host.name}.xtables.lock`);
    return editXtables({ netns: host.netns, lockFile }, family, table, change);
  }

  for (const family of [4, 6] as const)
    for (const { table, chain, rules } of RULE_SETS[family])
      test(`${PROGRAM[family]} ${table} ${chain}: what iptables writes, bytes and text`, async () => {
        const theirs = fresh();
        const own = chain === 'MINE' ? [':MINE - [0:0]'] : [];
        const lines = rules.map(rule => `-A ${chain} ${rule}`);
        await restore(theirs, family, [`*${table}`, ':LEAF - [0:0]', ...own, ...lines, 'COMMIT']);
        const { table: read } = await readXtables({ netns: theirs.netns }, family, table);
        const encoder = encoderFor(family, name => name === 'LEAF');
        const offsets = [...read.rulesOf(read.chain(chain)!)];
        assert.equal(offsets.length, rules.length);
        for (const [i, rule] of rules.entries()) {
          const at = offsets[i]!;
          const found = { bytes: read.bytes, at, size: read.sizeAt(at), jump: read.jumpOf(at), entry: i };
          const piece = encoder.encode(rule);
          assert.ok(isSameRule(piece, found, read.layout.nfcache, read.layout), `${rule} has other bytes`);
        }
        const ours = fresh();
        await edit(ours, family, table, editor => {
          editor.ensureChain('LEAF');
          if (chain === 'MINE') editor.setChain(chain, rules);
          else for (const rule of rules) assert.equal(editor.append(chain, rule), true, rule);
        });
        assert.equal(await save(ours, family), await save(theirs, family));
      });

  test('rules of others keep their bytes and counters while chains before, between and after them change', async () => {
    const host = fresh();
    await restore(host, 4, [
      '*filter',
      ':THEIRS - [0:0]',
      ':ZZZ - [0:0]',
      '-A THEIRS -j ZZZ',
      ...FOREIGN_RULES.map(rule => `-A FORWARD ${rule}`),
      '-A OUTPUT -d 127.0.0.1/32 -j ZZZ',
      '-A ZZZ -p udp -j RETURN',
      '-P FORWARD DROP',
      'COMMIT',
    ]);
    host.udpServer(9, 'discard', '127.0.0.1');
    await host.ask('127.0.0.1', 9, { protocol: 'udp' });
    const counted = await save(host, 4, true);
    assert.match(counted, /^\[2:\d+\] -A OUTPUT -d 127\.0\.0\.1\/32 -j ZZZ$/m);

    await edit(host, 4, 'filter', editor => {
      editor.setChain('MIDDLE', ['-m comment --comment "in the middle"', '-j THEIRS']);
      editor.setChain('AAA', ['-s 10.0.0.0/8 -j MIDDLE', '-j ZZZ']);
    });
    await edit(host, 4, 'filter', editor => {
      editor.setChain('ZZZZ', ['-j AAA']);
      editor.insert('FORWARD', '-j ZZZZ');
      editor.append('INPUT', '-j AAA');
    });
    const withOurs = await save(host, 4, true);
    for (const line of counted.split('\n')) assert.ok(withOurs.split('\n').includes(line), `lost: ${line}`);
    assert.match(withOurs, /-A FORWARD -j ZZZZ\n[^\n]*-A FORWARD -m limit/);
    assert.match(withOurs, /-A MIDDLE -m comment --comment "in the middle"\n[^\n]*-A MIDDLE -j THEIRS/);

    await edit(host, 4, 'filter', editor => {
      assert.equal(editor.deleteChain('ZZZZ'), true);
      assert.equal(editor.deleteChain('AAA'), true);
      assert.equal(editor.deleteChain('MIDDLE'), true);
      assert.equal(editor.deleteChain('NEVER-THERE'), false);
    });
    assert.equal(await save(host, 4, true), counted);
  });

  test('a chain that somebody else uses is not deleted, and nothing else is changed with it', async () => {
    const host = fresh();
    await restore(host, 4, ['*nat', ':MINE - [0:0]', ':THEIRS - [0:0]', '-A THEIRS -j MINE', 'COMMIT']);
    const before = await save(host, 4);
    await assert.rejects(
      edit(host, 4, 'nat', editor => {
        editor.append('OUTPUT', '-j ACCEPT');
        editor.deleteChain('MINE');
      }),
      { code: 'CHAIN_IN_USE' },
    );
    assert.equal(await save(host, 4), before);
  });

  test('what is not known is refused, and so is what the kernel refuses; nothing is changed', async () => {
    const host = fresh();
    await edit(host, 4, 'nat', editor => editor.setChain('MINE', ['-j ACCEPT']));
    const before = await save(host, 4);
    const refused = [
      '-m limit --limit 5/min',
      '-m comment --comment',
      '-j NOWHERE',
      '-p tcp --dport 80',
      '-m tcp --dport http',
      '-s localhost',
      '-s 10.0.0.1,10.0.0.2',
      '-j DNAT --to-destination 10.0.0.1:80',
      '-p tcp -m tcp --dport 70000',
      '--unheard-of',
    ];
    for (const rule of refused)
      await assert.rejects(
        edit(host, 4, 'nat', editor => editor.append('MINE', rule)),
        { code: 'XTABLES_UNSUPPORTED' },
        rule,
      );
    await assert.rejects(
      edit(host, 4, 'nat', editor => editor.append('OUTPUT', '-j MASQUERADE')),
      { code: 'EINVAL' },
    );
    await assert.rejects(
      edit(host, 4, 'nat', editor => {
        editor.insert('MINE', '-j MINE');
        editor.append('OUTPUT', '-j MINE');
      }),
      { code: 'ELOOP' },
    );
    assert.equal(await save(host, 4), before);
  });

  test('it waits for the lock that iptables holds, and iptables waits for ours', async () => {
    const host = fresh();
    const command = (n: number): ReturnType<LabNamespace['run']> =>
      host.run('iptables-legacy', [
        '-w',
        '10',
        '-t',
        'nat',
        '-A',
        'OUTPUT',
        '-s',
        `10.0.0.${n}`,
        '-j',
        'ACCEPT',
      ]);
    const ours = (n: number): Promise<boolean> =>
      edit(host, 4, 'nat', editor => editor.append('OUTPUT', `-s 10.0.1.${n}/32 -j ACCEPT`));
    const numbers = Array.from({ length: 8 }, (_, i) => i + 1);
    await Promise.all(numbers.flatMap(n => [command(n), ours(n)]));
    const saved = await save(host, 4);
    for (const n of numbers)
      for (const net of [0, 1]) assert.match(saved, new RegExp(`-s 10\\.0\\.${net}\\.${n}/32 -j ACCEPT`));
  });

  test('a lock that somebody keeps is an error that names it', async () => {
    const host = fresh();
    const lockFile = join(lab.directory, 'kept.lock');
    using _kept = await FileLock.acquire(lockFile);
    await assert.rejects(
      editXtables({ netns: host.netns, lockFile, lockWaitMs: 50 }, 4, 'nat', editor =>
        editor.ensureChain('MINE'),
      ),
      { code: 'LOCK_TIMEOUT', message: /another program .*kept\.lock for 0\.05 seconds/ },
    );
    assert.doesNotMatch(await save(host, 4), /MINE/);
  });

  test('what the kernel refuses, iptables explains; what iptables can do after all is told', async () => {
    const host = fresh();
    const fallbacks: string[] = [];
    const iptables = new Iptables({
      netns: host.netns,
      backend: 'legacy',
      lockDirectory: lab.directory,
      onFallback: reason => fallbacks.push(reason),
    });
    const add = (rule: string): Promise<void> =>
      iptables.change(4, { table: 'nat', commands: [{ kind: 'add', chain: 'OUTPUT', rule }] });
    await assert.rejects(add('-j MASQUERADE'), { code: 'IPTABLES', message: /line/ });
    await assert.rejects(add('-j NOWHERE'), { code: 'IPTABLES', message: /-A OUTPUT -j NOWHERE/ });
    assert.deepEqual(fallbacks, []);
    await add('-j ACCEPT');
    assert.equal(iptables.writesNatively(4, 'nat'), true);
    await add('-m limit --limit 5/min -j ACCEPT');
    assert.equal(iptables.writesNatively(4, 'nat'), false);
    assert.deepEqual(fallbacks, ['-m limit (rule -A OUTPUT -m limit --limit 5/min -j ACCEPT)']);
    assert.match(
      await save(host, 4),
      /-A OUTPUT -j ACCEPT\n-A OUTPUT -m limit --limit 5\/min -j ACCEPT\nCOMMIT/,
    );
  });

  test('an edit that changes nothing writes nothing, and copies of a rule are all removed', async () => {
    const host = fresh();
    const rule = '-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8080';
    await edit(host, 4, 'nat', editor => editor.setChain('MINE', [rule, '-j RETURN', rule]));
    await edit(host, 4, 'nat', editor => {
      assert.equal(editor.ensureChain('MINE'), false);
      assert.equal(editor.append('MINE', rule), false);
      assert.equal(editor.hasRule('MINE', rule), true);
      assert.equal(editor.hasRule('MINE', '-j DROP'), false);
      assert.equal(editor.hasRule('NOT-THERE', rule), false);
      assert.equal(editor.remove('MINE', '-j DROP'), false);
    });
    assert.equal(await edit(host, 4, 'nat', editor => editor.remove('MINE', rule)), true);
    assert.match(await save(host, 4), /:MINE - \[0:0\]\n-A MINE -j RETURN\nCOMMIT/);
  });
});
