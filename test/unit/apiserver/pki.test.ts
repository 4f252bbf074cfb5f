import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import {
  certificateServes,
  createCertificateAuthority,
  issueCertificate,
  issueClientCertificate,
} from '../../../src/apiserver/pki/certificate.ts';
import { bitString, integer, oid, sequence, time, tlv } from '../../../src/apiserver/pki/der.ts';
import { createClusterPki } from '../../../src/apiserver/pki.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('DER: lengths, integers, object identifiers, times as X.690 says', () => {
  assert.equal(hex(integer(0)), '020100');
  assert.equal(hex(integer(Buffer.from([0x80]))), '02020080');
  assert.equal(hex(integer(Buffer.from([0, 0, 1]))), '020101');
  assert.equal(hex(oid('1.2.840.10045.4.3.2')), '06082a8648ce3d040302');
  assert.equal(hex(bitString(Buffer.from([0x86]), 1)), '03020186');
  assert.equal(hex(tlv(4, Buffer.alloc(200))).slice(0, 6), '0481c8');
  assert.equal(hex(sequence(Buffer.alloc(300))).slice(0, 8), '3082012c');
  assert.equal(time(new Date('2049-12-31T23:59:59Z')).toString('latin1', 2), '491231235959Z');
  assert.equal(time(new Date('2050-01-01T00:00:00Z')).toString('latin1', 2), '20500101000000Z');
});

test('certificates verify, name their SANs, carry user and groups', async () => {
  const ca = createCertificateAuthority('test-ca');
  const serving = issueCertificate(ca, {
    cn: 'srv',
    sans: ['a.example', '10.0.0.1', 'fd00::1'],
    usages: ['server'],
  });
  const parsed = new X509Certificate(serving.cert);
  const issuer = new X509Certificate(ca.cert);
  assert.ok(issuer.ca);
  assert.ok(parsed.checkIssued(issuer) && parsed.verify(issuer.publicKey));
  assert.ok(parsed.checkHost('a.example') && parsed.checkIP('10.0.0.1') && parsed.checkIP('fd00::1'));
  assert.ok(certificateServes(serving.cert, ca.cert, ['a.example', '10.0.0.1']));
  assert.ok(!certificateServes(serving.cert, ca.cert, ['b.example']));
  assert.ok(!certificateServes(serving.cert, createCertificateAuthority('other').cert, []));
  const client = new X509Certificate(
    issueClientCertificate(ca, { cn: 'me', organizations: ['g1', 'g2'] }).cert,
  );
  assert.equal(client.subject, 'O=g1\nO=g2\nCN=me');
  const { X509Certificate: Oracle } = await import('reflect-metadata').then(() => import('@peculiar/x509'));
  const oracle = new Oracle(serving.cert);
  assert.equal(oracle.issuer, 'CN=test-ca');
  assert.ok(await oracle.verify({ publicKey: new Oracle(ca.cert).publicKey }));
});

test('the cluster PKI is made once, kept the second time, extended when asked for more', () => {
  const directory = mkdtempSync(join(tmpdir(), 'podwire-pki-'));
  try {
    const options = {
      sans: ['10.0.0.1'],
      adminServer: 'https://127.0.0.1:6443',
      nodes: [{ name: 'node-1', addresses: ['172.18.0.2'] }],
    };
    const first = createClusterPki(directory, options);
    const read = () =>
      [first.ca.cert, first.apiserver.cert, first.kubeconfigs.admin].map(file => readFileSync(file, 'utf8'));
    const before = read();
    createClusterPki(directory, options);
    assert.deepEqual(read(), before);
    createClusterPki(directory, { ...options, sans: ['10.0.0.1', '10.0.0.9'] });
    assert.deepEqual([read()[0], read()[2]], [before[0], before[2]]);
    assert.ok(new X509Certificate(read()[1]!).checkIP('10.0.0.9'));
    assert.equal(statSync(first.ca.key).mode & 0o777, 0o600);
    const config = parse(readFileSync(first.nodes['node-1']!.kubeconfig, 'utf8'));
    const certificate = new X509Certificate(
      Buffer.from(config.users[0].user['client-certificate-data'], 'base64'),
    );
    assert.equal(certificate.subject, 'O=system:nodes\nCN=system:node:node-1');
    assert.equal(config['current-context'], config.contexts[0].name);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
