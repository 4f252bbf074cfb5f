// What a request asks for, from its method and path alone (k8s.io/apiserver `endpoints/request`): verb, group, version,
// resource, subresource, namespace, name. Pure: authorization, routing, metrics and the log all read the same answer.

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';

export interface ResourceRequest {
  kind: 'resource';
  verb: Verb;
  group: string;
  version: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  /** What follows the subresource, for proxies: `/a/b`. */
  rest: string;
}

export interface PathRequest {
  kind: 'path';
  /** The HTTP method in lower case, as non-resource rules name it. */
  verb: string;
  path: string;
}

export type RequestInfo = ResourceRequest | PathRequest;

/** Subresources of a Namespace itself, not of a resource in it. */
const NAMESPACE_SUBRESOURCES = new Set(['status', 'finalize']);

const METHOD_VERBS: Record<string, Verb> = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

export function requestInfo(method: string, pathname: string, query: URLSearchParams): RequestInfo {
  const asPath: PathRequest = { kind: 'path', verb: method.toLowerCase(), path: pathname };
  const parts = splitPath(pathname);
  if (!parts) return asPath;
  const grouped = parts[0] === 'apis';
  if (!grouped && parts[0] !== 'api') return asPath;
  // /api/v1/… or /apis/GROUP/VERSION/…; anything shorter is discovery.
  if (parts.length < (grouped ? 4 : 3)) return asPath;
  const verb = METHOD_VERBS[method];
  if (!verb) return asPath;
  const info: ResourceRequest = {
    kind: 'resource',
    verb,
    group: grouped ? parts[1]! : '',
    version: grouped ? parts[2]! : parts[1]!,
    resource: '',
    subresource: '',
    namespace: '',
    name: '',
    rest: '',
  };
  let rest = parts.slice(grouped ? 3 : 2);
  let watchPath = false;
  if (rest[0] === 'watch') {
    watchPath = true;
    rest = rest.slice(1);
  }
  if (rest[0] === 'namespaces' && rest.length > 2 && !NAMESPACE_SUBRESOURCES.has(rest[2]!)) {
    info.namespace = rest[1]!;
    rest = rest.slice(2);
  }
  info.resource = rest[0] ?? '';
  info.name = rest[1] ?? '';
  info.subresource = rest[2] ?? '';
  if (rest.length > 3) info.rest = `/${rest.slice(3).map(encodeURIComponent).join('/')}`;
  if (info.resource === 'namespaces' && info.group === '' && info.name !== '') info.namespace = info.name;
  if (info.resource === '') return asPath;
  if (info.name === '') {
    if (verb === 'get') info.verb = isTrue(query.get('watch')) || watchPath ? 'watch' : 'list';
    else if (verb === 'delete') info.verb = 'deletecollection';
  } else if (watchPath && verb === 'get') info.verb = 'watch';
  if (info.verb === 'list' || info.verb === 'watch' || info.verb === 'deletecollection')
    info.name ||= selectedName(query.get('fieldSelector') ?? '');
  return info;
}

/** A collection request narrowed to one name counts as a request for that name when it is authorized. */
function selectedName(fieldSelector: string): string {
  for (const term of fieldSelector.split(',')) {
    const match = /^metadata\.name==?([^=!]+)$/.exec(term.trim());
    if (match) return match[1]!;
  }
  return '';
}

/** strconv.ParseBool's truths, and a bare `?watch`. */
export function isTrue(value: string | null): boolean {
  return value !== null && ['', '1', 't', 'T', 'true', 'TRUE', 'True'].includes(value);
}

function splitPath(pathname: string): string[] | undefined {
  try {
    return pathname
      .split('/')
      .filter(part => part !== '')
      .map(decodeURIComponent);
  } catch {
    return undefined;
  }
}
