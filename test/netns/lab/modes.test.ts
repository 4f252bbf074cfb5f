// Every proxy mode, overlay and address family carries a whole lab: each node and pod reaches the Service.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { Difference } from '../../../proxy/backend/backend.ts';
import type { ProxyStatus, ReportedPort } from '../../../src/agent/proxy-report.ts';
import { LabDirectory } from '../../harness/lab.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const labs = new LabDirectory();

const COMBINATIONS = [
  { name: 'nft', flags: ['--proxy-mode', 'nftables'], targets: 3 },
  { name: 'user', flags: ['--proxy-mode', 'userspace', '--overlay', 'host-gw'], targets: 3 },
  { name: 'six', flags: ['--family', 'ipv6', '--proxy-mode', 'nftables'], targets: 2 },
  { name: 'four', flags: ['--family', 'ipv4', '--overlay', 'host-gw'], targets: 2 },
];

/** `podwire proxy` of every node: it runs in this mode, serves the example, and the kernel has what it means. */
async function checkProxies(name: string, mode: string): Promise<void> {
  const ask = async <T>(...args: string[]): Promise<{ node: string; answer: T }[]> => {
    const asked = await labs.podwire(['proxy', ...args, '--name', name, '-o', 'json']);
    assert.equal(asked.code, 0, asked.stdout + asked.stderr);
    return JSON.parse(asked.stdout);
  };
  const statuses = await ask<ProxyStatus>('status');
  assert.deepEqual(
    statuses.map(({ node, answer }) => [node, answer.mode, answer.ready]),
    [
      ['node1', mode, true],
      ['node2', mode, true],
    ],
  );
  const [services] = await ask<ReportedPort[]>('services', 'hello', '--node', 'node2');
  assert.equal(services?.node, 'node2');
  for (const port of services.answer) {
    assert.ok(port.endpoints.some(({ used }) => used));
    assert.ok(port.servedBy.length > 0);
  }
  for (const { node, answer } of await ask<Difference[]>('diff')) assert.deepEqual(answer, [], node);
}

describe('lab modes', { skip }, () => {
  after(() => labs.remove());
  for (const { name, flags, targets } of COMBINATIONS)
    test(flags.join(' '), async () => {
      const result = await labs.up(name, '--nodes', '2', ...flags);
      assert.deepEqual(
        result.rows.filter(row => row.error !== undefined),
        [],
      );
      assert.equal(result.rows.length, 4 * targets, 'two nodes and two pods ask for every target');
      const mode = flags[flags.indexOf('--proxy-mode') + 1] ?? '';
      await checkProxies(name, flags.includes('--proxy-mode') ? mode : 'iptables');
      const down = await labs.podwire(['down', '--name', name]);
      assert.equal(down.code, 0, down.stderr);
    });
});
