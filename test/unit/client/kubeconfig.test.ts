// Kubeconfig files as kubectl writes them, and what is wrong with bad ones.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { stringify } from 'yaml';
import { inClusterConfig, loadKubeconfig } from '../../../src/client/kubeconfig.ts';

const directory = mkdtempSync(join(tmpdir(), 'podwire-kubeconfig-'));
after(() => rmSync(directory, { recursive: true }));

function file(change: object): string {
  const path = join(directory, 'config');
  const base = {
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'k', user: 'u', namespace: 'team' } }],
    clusters: [
      { name: 'k', cluster: { server: 'https://10.0.0.1:6443', 'certificate-authority-data': btoa('CA') } },
    ],
    users: [{ name: 'u', user: { 'client-certificate': 'cert.pem', 'client-key-data': btoa('KEY') } }],
  };
  writeFileSync(path, stringify({ ...base, ...change }));
  return path;
}

test('inline data, files beside the kubeconfig, tokens', () => {
  writeFileSync(join(directory, 'cert.pem'), 'CERT');
  const config = loadKubeconfig(file({}));
  assert.deepEqual(
    [config.server, config.ca, config.cert, config.key, config.namespace],
    ['https://10.0.0.1:6443', 'CA', 'CERT', 'KEY', 'team'],
  );
  const token = loadKubeconfig(file({ users: [{ name: 'u', user: { tokenFile: 'token' } }] }));
  assert.equal(token.tokenFile, join(directory, 'token'));
});

test('each fault is named', () => {
  const refused = (change: object, message: RegExp, context?: string) =>
    assert.throws(() => loadKubeconfig(file(change), { context }), { code: 'KUBECONFIG', message });
  refused({ 'current-context': '' }, /no current-context/);
  refused({}, /context other is not in the file/, 'other');
  refused({ clusters: [] }, /cluster k of context c is not in the file/);
  refused({ clusters: [{ name: 'k', cluster: { server: '::' } }] }, /no usable server address/);
  refused({ users: [{ name: 'u', user: { exec: {} } }] }, /exec is not supported/);
  refused({ users: [{ name: 'u', user: { 'client-key': 'nowhere' } }] }, /client-key: ENOENT/);
  assert.throws(() => loadKubeconfig(join(directory, 'missing')), { code: 'KUBECONFIG' });
});

test('in a pod', () => {
  for (const [name, text] of [
    ['ca.crt', 'CA'],
    ['token', 'T'],
    ['namespace', 'ns\n'],
  ] as const)
    writeFileSync(join(directory, name), text);
  const env = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };
  const config = inClusterConfig(directory, env);
  assert.deepEqual([config.server, config.ca, config.namespace], ['https://[fd00::1]:443', 'CA', 'ns']);
  assert.throws(() => inClusterConfig(directory, {}), { code: 'NOT_IN_CLUSTER' });
});
