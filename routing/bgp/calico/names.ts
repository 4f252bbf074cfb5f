// Names in Calico's storage: blocks by CIDR, affinities by node and CIDR, the user's own metadata, AS numbers.
import { createHash } from 'node:crypto';
import type { KubeObject } from '../../../src/api/types.ts';
import type { AsNumberText } from './types.ts';

/** libcalico-go/lib/backend/k8s/resources/resources.go: labels and name as the user wrote them, as JSON. */
const METADATA_ANNOTATION = 'projectcalico.org/metadata';
const MAX_NAME = 253;
const HASH_LENGTH = 11;

/** `10-244-1-0-26`, libcalico-go/lib/names/cidr.go. */
export function cidrName(cidr: string): string {
  return cidr.replace(/[.:/]/g, '-');
}

/** `<node>-<cidr>`; cut and hashed when it is too long for Kubernetes. */
export function affinityName(node: string, cidr: string): string {
  const name = `${node}-${cidrName(cidr)}`;
  if (name.length <= MAX_NAME) return name;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, HASH_LENGTH);
  return `${name.slice(0, MAX_NAME - HASH_LENGTH - 1)}-${hash}`;
}

interface UserMetadata {
  name: string;
  labels: Record<string, string>;
}

/** The object's name and labels as its user sees them: v1 storage keeps them in an annotation. */
export function userMetadata(object: KubeObject): UserMetadata {
  const { metadata } = object;
  const stored = { name: metadata?.name ?? '', labels: metadata?.labels ?? {} };
  const text = metadata?.annotations?.[METADATA_ANNOTATION];
  if (text === undefined) return stored;
  try {
    const original = JSON.parse(text) as { name?: unknown; labels?: Record<string, string> };
    return {
      name: typeof original.name === 'string' ? original.name : stored.name,
      labels: original.labels ?? stored.labels,
    };
  } catch {
    return stored;
  }
}

/** A number, `65001`, or `1.10` (asdot); undefined when it is none of these or out of range. */
export function parseAsNumber(value: AsNumberText | undefined): number | undefined {
  if (value === undefined || value === '') return undefined;
  const dotted = /^(\d{1,5})\.(\d{1,5})$/.exec(String(value));
  if (dotted !== null) {
    const [high, low] = [Number(dotted[1]), Number(dotted[2])];
    return high > 65535 || low > 65535 ? undefined : high * 65536 + low;
  }
  const number = Number(value);
  return Number.isInteger(number) && number >= 0 && number <= 0xffffffff ? number : undefined;
}

/** Go's time.Duration text (`2m30s`) as milliseconds. */
export function parseDuration(text: string | undefined): number | undefined {
  if (text === undefined || !/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return undefined;
  const unit: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  let total = 0;
  for (const match of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g))
    total += Number(match[1]) * unit[match[2]!]!;
  return total;
}
