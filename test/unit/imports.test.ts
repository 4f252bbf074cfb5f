// Enforces ARCHITECTURE.md's table "who may import whom": a new dependency direction is a decision, not an accident.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '../..');

/** Rooms by path prefix, the longest prefix wins. */
const ROOM_PREFIXES: [prefix: string, room: string][] = [
  ['src/lib/', 'lib'],
  ['src/codec/', 'codec'],
  ['src/linux/', 'linux'],
  ['src/kernel/', 'kernel'],
  ['src/api/', 'api'],
  ['src/store/', 'store'],
  ['src/apiserver/', 'apiserver'],
  ['src/client/', 'client'],
  ['src/scheduler/', 'scheduler'],
  ['src/controllers/', 'controllers'],
  ['src/kubelet/', 'kubelet'],
  ['src/storage/', 'storage'],
  ['src/dns/', 'dns'],
  ['src/explain/', 'explain'],
  ['src/observe/', 'observe'],
  ['src/agent/', 'agent'],
  ['src/lab/', 'lab'],
  ['src/cmd/', 'cmd'],
  ['cni/runtime/', 'cni-runtime'],
  // The two that put the plugin table to work; everything else in runtime/ knows plugins by interface only.
  ['cni/runtime/server.ts', 'cni'],
  ['cni/runtime/main.ts', 'cni'],
  ['cni/', 'cni'],
  ['proxy/model/', 'proxy-pure'],
  ['proxy/backend/iptables/plan/', 'proxy-pure'],
  ['proxy/backend/nftables/plan/', 'proxy-pure'],
  ['proxy/backend/userspace/plan/', 'proxy-pure'],
  ['proxy/', 'proxy'],
  ['routing/bgp/packet/', 'bgp-packet'],
  ['routing/bgp/rib/', 'bgp-pure'],
  ['routing/bgp/decision/', 'bgp-pure'],
  ['routing/bgp/policy/', 'bgp-pure'],
  ['routing/bgp/fsm/', 'bgp-pure'],
  ['routing/', 'routing'],
];

const DATA_PLANE = ['lib', 'codec', 'linux', 'kernel', 'observe', 'api:types'];
const EVERYTHING = ['*'];

/** Room → rooms it may import, itself always included. `api:types` allows `import type` only. */
const MAY_IMPORT: Record<string, string[]> = {
  lib: [],
  codec: ['lib'],
  'bgp-packet': ['lib'],
  linux: ['lib', 'codec'],
  kernel: ['lib', 'codec', 'linux', 'observe'],
  observe: ['lib'],
  api: ['lib'],
  store: ['lib', 'api', 'observe'],
  client: ['lib', 'api', 'observe'],
  'proxy-pure': ['lib', 'kernel:types', 'api:types'],
  'bgp-pure': ['lib', 'bgp-packet', 'kernel:types'],
  'cni-runtime': DATA_PLANE,
  cni: [...DATA_PLANE, 'cni-runtime'],
  proxy: [...DATA_PLANE, 'proxy-pure'],
  routing: [...DATA_PLANE, 'bgp-packet', 'bgp-pure'],
  controllers: ['lib', 'api', 'client', 'observe'],
  scheduler: ['lib', 'api', 'client', 'observe'],
  kubelet: ['lib', 'api', 'client', 'observe', 'linux', 'cni-runtime'],
  storage: ['lib', 'api', 'client', 'observe', 'linux'],
  dns: ['lib', 'api', 'observe'],
  explain: ['lib', 'api', 'kernel', 'observe', 'proxy', 'proxy-pure', 'routing'],
  apiserver: ['lib', 'api', 'store', 'observe'],
  agent: EVERYTHING,
  lab: EVERYTHING,
  cmd: EVERYTHING,
};

/** npm packages and Node modules that only one room may use. */
const RESERVED: Record<string, RegExp> = {
  koffi: /^src\/linux\/ffi\.ts$/,
  'node:child_process': /^src\/linux\/exec\.ts$/,
  'node:sqlite': /^src\/store\//,
};

const IMPORT =
  /^\s*(import|export)(\s+type)?\s[^;]*?from\s+'([^']+)'|^\s*import\s+'([^']+)'|\bimport\(\s*'([^']+)'\s*\)/gm;

interface ImportEdge {
  file: string;
  target: string;
  typeOnly: boolean;
}

function roomOf(path: string): string | undefined {
  let best: [string, string] | undefined;
  for (const entry of ROOM_PREFIXES)
    if (path.startsWith(entry[0]) && (!best || entry[0].length > best[0].length)) best = entry;
  return best?.[1];
}

function importsOf(file: string): ImportEdge[] {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(IMPORT)].map(match => ({
    file,
    target: match[3] ?? match[4] ?? match[5] ?? '',
    typeOnly: match[2] !== undefined,
  }));
}

function violation(edge: ImportEdge): string | undefined {
  const reserved = RESERVED[edge.target];
  if (reserved && !edge.typeOnly && !reserved.test(edge.file))
    return `${edge.target} belongs to ${reserved.source}`;
  if (!edge.target.startsWith('.')) return undefined;
  const path = relative(root, join(root, dirname(edge.file), edge.target));
  const from = roomOf(edge.file);
  const to = roomOf(path);
  if (from === undefined) return 'this file is in no room';
  if (to === undefined) return `${path} is in no room`;
  if (from === to) return undefined;
  const allowed = MAY_IMPORT[from] ?? [];
  if (['agent', 'lab', 'cmd'].includes(to) && !['agent', 'lab', 'cmd'].includes(from))
    return `nobody imports ${to}`;
  if (allowed.includes('*') || allowed.includes(to) || (edge.typeOnly && allowed.includes(`${to}:types`)))
    return undefined;
  return `${from} may not import ${to} (${path})${allowed.includes(`${to}:types`) ? ' except with import type' : ''}`;
}

function cycles(edges: ImportEdge[]): string[] {
  const graph = new Map<string, string[]>();
  for (const edge of edges) {
    if (edge.typeOnly || !edge.target.startsWith('.')) continue;
    const to = relative(root, join(root, dirname(edge.file), edge.target));
    graph.set(edge.file, [...(graph.get(edge.file) ?? []), to]);
  }
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: string[]): void => {
    if (path.includes(file)) {
      found.push([...path.slice(path.indexOf(file)), file].join(' → '));
      return;
    }
    if (done.has(file)) return;
    for (const next of graph.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  return found;
}

const files = globSync('{src,cni,proxy,routing}/**/*.ts', { cwd: root });
const edges = files.flatMap(importsOf);

test('every import follows the table of rooms', () => {
  const wrong = edges.flatMap(edge => {
    const why = violation(edge);
    return why ? [`${edge.file}: '${edge.target}': ${why}`] : [];
  });
  assert.deepEqual(wrong, []);
});

test('no module imports itself through others', () => {
  assert.deepEqual(cycles(edges), []);
});

test('no barrel: a room has no index.ts', () => {
  assert.deepEqual(
    files.filter(file => /(^|\/)index\.ts$/.test(file)),
    [],
  );
});

test('no room is called utils, helpers, common or misc', () => {
  assert.deepEqual(
    files.filter(file => /(^|\/)(utils?|helpers?|common|misc)(\/|\.ts$)/.test(file)),
    [],
  );
});
