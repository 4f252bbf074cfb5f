// The lab's images: archives that are the same each time, and whose tar structure is right.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { containerdConfig } from '../../../src/lab/containerd.ts';
import { buildImageArchive, buildLabImages, buildLayer } from '../../../src/lab/images.ts';
import { tarArchive } from '../../../src/lab/tar.ts';

/** Names and contents of the plain files of an archive, with each header's checksum verified. */
function readTar(archive: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (let offset = 0; archive[offset] !== 0; ) {
    const header = archive.subarray(offset, offset + 512);
    const text = (from: number, size: number) => header.toString('latin1', from, from + size).split('\0')[0]!;
    const size = Number.parseInt(text(124, 12), 8);
    const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    assert.equal(Number.parseInt(text(148, 8), 8), sum, text(0, 100));
    if (text(156, 1) === '0') files.set(text(0, 100), archive.subarray(offset + 512, offset + 512 + size));
    offset += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

test('a tar archive', () => {
  const files = readTar(
    tarArchive([
      { type: 'directory', name: 'd' },
      { type: 'file', name: 'd/f', content: Buffer.from('text') },
      { type: 'symlink', name: 'l', target: 'd/f' },
    ]),
  );
  assert.deepEqual([...files], [['d/f', Buffer.from('text')]]);
});

test('a tar name that does not fit is refused', () => {
  const content = Buffer.alloc(0);
  assert.throws(() => tarArchive([{ type: 'file', name: 'x'.repeat(101), content }]), { code: 'TAR_NAME' });
});

test('an image archive names its config and layer by digest, and is the same each time', () => {
  const busybox = Buffer.from('not really busybox');
  assert.deepEqual(buildLabImages(busybox), buildLabImages(busybox));
  const layer = buildLayer(busybox);
  const archive = readTar(buildImageArchive(layer, [{ tag: 'localhost/x:1', entrypoint: ['/bin/sh'] }]));
  const [entry] = JSON.parse(archive.get('manifest.json')!.toString());
  assert.deepEqual(entry.RepoTags, ['localhost/x:1']);
  const config = archive.get(entry.Config)!;
  assert.equal(entry.Config, `${createHash('sha256').update(config).digest('hex')}.json`);
  const diffId = `sha256:${createHash('sha256').update(layer).digest('hex')}`;
  assert.deepEqual(JSON.parse(config.toString()).rootfs.diff_ids, [diffId]);
  assert.deepEqual(readTar(layer).get('bin/busybox'), busybox);
});

test('a containerd configuration keeps everything below its directory', () => {
  const text = containerdConfig({ directory: '/lab/n1', cniBinDir: '/opt/cni', cniConfDir: '/lab/n1/net.d' });
  const paths = [...text.matchAll(/"(\/[^"]*)"/g)]
    .map(match => match[1]!)
    .filter(path => path !== '/opt/cni');
  assert.ok(paths.length >= 6);
  assert.deepEqual(
    paths.filter(path => !path.startsWith('/lab/n1/')),
    [],
  );
});
