// Every proxy mode, overlay and address family carries a whole lab: each node and pod reaches the Service.
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { LabDirectory } from '../../harness/lab.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const labs = new LabDirectory();

const COMBINATIONS = [
  { name: 'nft', flags: ['--proxy-mode', 'nftables'], targets: 3 },
  { name: 'user', flags: ['--proxy-mode', 'userspace', '--overlay', 'host-gw'], targets: 3 },
  { name: 'six', flags: ['--family', 'ipv6', '--proxy-mode', 'nftables'], targets: 2 },
  { name: 'four', flags: ['--family', 'ipv4', '--overlay', 'host-gw'], targets: 2 },
];

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
      const down = await labs.podwire(['down', '--name', name]);
      assert.equal(down.code, 0, down.stderr);
    });
});
