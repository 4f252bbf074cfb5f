// The planned rule texts against the real iptables: what iptables-save prints after a restore is, letter by letter, what
// was planned. Verification compares texts, so a difference here would be a false alarm there.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { KernelState, XtablesTableState } from '../../../src/kernel/state.ts';
import { type LabNamespace, NetnsLab, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';

const skip = SKIP_UNLESS_ROOT;
const lab = new NetnsLab('canon');
let host: LabNamespace;
before(() => {
  if (!skip) host = lab.namespace('host');
});
after(() => lab.close());

function restoreText(table: XtablesTableState): string {
  return [
    `*${table.table}`,
    ...table.chains.map(chain => `:${chain.name} - [0:0]`),
    ...table.chains.flatMap(chain => chain.rules.map(rule => `-A ${chain.name} ${rule}`)),
    ...table.jumps.map(jump => `-A ${jump.chain} ${jump.rule}`),
    'COMMIT',
    '',
  ].join('\n');
}

for (const variant of ['legacy', 'nft'])
  for (const fixture of [
    'proxy/iptables-upstream',
    'proxy/iptables-families',
    'routing/vxlan-v4',
    'routing/vxlan-dual-direct',
  ])
    test(`${fixture}, iptables-${variant}`, { skip }, async t => {
      const file = join(import.meta.dirname, '../../fixtures', `${fixture}.golden.json`);
      const state = JSON.parse(readFileSync(file, 'utf8')) as KernelState;
      for (const table of state.xtables ?? []) {
        const six = table.family === 6 ? '6' : '';
        // A table of its own for each: the namespace goes on to the next fixture.
        await host.run(`ip${six}tables-${variant}`, ['-t', table.table, '-F']);
        await host.run(`ip${six}tables-${variant}`, ['-t', table.table, '-X']);
        const restored = await host.run(
          `ip${six}tables-${variant}-restore`,
          ['--noflush'],
          restoreText(table),
        );
        if (/Could not fetch rule set|Protocol not supported/.test(restored.stderr))
          return t.skip(restored.stderr);
        assert.equal(restored.code, 0, restored.stderr);
        const saved = (await host.run(`ip${six}tables-${variant}-save`, ['-t', table.table])).stdout.split(
          '\n',
        );
        for (const chain of table.chains)
          assert.deepEqual(
            saved.filter(line => line.startsWith(`-A ${chain.name} `)),
            chain.rules.map(rule => `-A ${chain.name} ${rule}`),
          );
        for (const jump of table.jumps) assert.ok(saved.includes(`-A ${jump.chain} ${jump.rule}`), jump.rule);
      }
    });
