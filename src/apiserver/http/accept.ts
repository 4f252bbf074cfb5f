// Content negotiation. Everything is answered in JSON; what varies is the shape: the object itself, a Table (kubectl get)
// or metadata only. Clients that prefer protobuf always accept JSON too.
import { notAcceptable } from '../../api/status.ts';

/** How objects are shown. */
export type Shape = 'object' | 'table' | 'metadata';

const SHAPES: Record<string, Shape> = {
  Table: 'table',
  PartialObjectMetadata: 'metadata',
  PartialObjectMetadataList: 'metadata',
};

interface MediaRange {
  type: string;
  parameters: Record<string, string>;
}

/** `a/b;x=y, c/d` in the order of preference: by q, then as written. */
export function parseAccept(header: string): MediaRange[] {
  const ranges = header
    .split(',')
    .map(part => part.trim())
    .filter(part => part !== '')
    .map(part => {
      const [type = '', ...rest] = part.split(';').map(piece => piece.trim());
      const parameters: Record<string, string> = {};
      for (const piece of rest) {
        const at = piece.indexOf('=');
        if (at > 0) parameters[piece.slice(0, at)] = piece.slice(at + 1);
      }
      return { type: type.toLowerCase(), parameters };
    });
  const quality = (range: MediaRange): number => {
    const q = Number(range.parameters.q ?? 1);
    return Number.isFinite(q) ? q : 0;
  };
  return ranges.filter(range => quality(range) > 0).sort((a, b) => quality(b) - quality(a));
}

/** The first shape in the list that we can give; 406 if there is none. */
export function negotiateShape(header: string | undefined): Shape {
  if (header === undefined || header.trim() === '') return 'object';
  for (const { type, parameters } of parseAccept(header)) {
    if (type !== 'application/json' && type !== '*/*' && type !== 'application/*') continue;
    if (parameters.as === undefined) return 'object';
    const shape = SHAPES[parameters.as];
    if (shape && (parameters.v ?? 'v1') === 'v1') return shape;
  }
  throw notAcceptable('application/json');
}

/** True if the client would rather have aggregated discovery (KEP-3352) than one document a group. */
export function wantsAggregatedDiscovery(header: string | undefined): boolean {
  for (const { type, parameters } of parseAccept(header ?? '')) {
    if (type !== 'application/json') continue;
    return parameters.g === 'apidiscovery.k8s.io' && parameters.v === 'v2';
  }
  return false;
}
