// Who is asking: a client certificate of our CA (CN is the user, each O a group), a bearer token of the token file, or
// nobody. Wrong credentials are refused rather than taken for nobody's.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { unauthorized } from '../../api/status.ts';

export interface User {
  name: string;
  uid?: string;
  groups: readonly string[];
}

export const ANONYMOUS: User = { name: 'system:anonymous', groups: ['system:unauthenticated'] };
const AUTHENTICATED = 'system:authenticated';

export class Authenticator {
  /** By SHA-256 of the token, so that looking one up tells nothing by its timing. */
  readonly #tokens: ReadonlyMap<string, User>;
  readonly #certificates = new WeakMap<TLSSocket, User>();

  constructor(options: { tokenFile?: string } = {}) {
    this.#tokens = options.tokenFile === undefined ? new Map() : readTokenFile(options.tokenFile);
  }

  userOfToken(token: string): User | undefined {
    return this.#tokens.get(digest(token));
  }

  /** 401 for credentials that are wrong; the anonymous user for none. */
  authenticate(request: IncomingMessage): User {
    const header = request.headers.authorization;
    if (header !== undefined) {
      const token = /^Bearer +(\S+)$/i.exec(header)?.[1];
      const user = token === undefined ? undefined : this.userOfToken(token);
      if (user) return user;
    }
    const { socket } = request;
    if (socket instanceof TLSSocket) {
      const known = this.#certificates.get(socket);
      if (known) return known;
      const user = userOfCertificate(socket);
      if (user) {
        this.#certificates.set(socket, user);
        return user;
      }
    }
    if (header !== undefined) throw unauthorized();
    return ANONYMOUS;
  }
}

function userOfCertificate(socket: TLSSocket): User | undefined {
  const certificate = socket.getPeerCertificate();
  const subject = certificate?.subject as Record<string, string | string[]> | undefined;
  if (!subject) return undefined;
  if (!socket.authorized) throw unauthorized();
  // Node joins repeated attributes into an array.
  const list = (value: string | string[] | undefined) => (value === undefined ? [] : [value].flat());
  const name = list(subject.CN)[0];
  if (!name) throw unauthorized();
  return { name, groups: [...new Set([...list(subject.O), AUTHENTICATED])] };
}

const digest = (token: string): string => createHash('sha256').update(token).digest('base64');

/** Kubernetes' static token file: `token,user,uid,"group1,group2"` a line. */
export function readTokenFile(file: string): Map<string, User> {
  const users = new Map<string, User>();
  for (const [index, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const fields = [...line.matchAll(/"([^"]*)"|([^,]+)|(?<=,)(?=,|$)/g)].map(match =>
      (match[1] ?? match[2] ?? '').trim(),
    );
    const [token, name, uid, groups = ''] = fields;
    if (!token || !name || uid === undefined)
      throw new Error(`${file}: line ${index + 1}: expected token,user,uid[,"groups"]`);
    const extra = groups
      .split(',')
      .map(group => group.trim())
      .filter(group => group !== '');
    users.set(digest(token), {
      name,
      ...(uid === '' ? {} : { uid }),
      groups: [...new Set([...extra, AUTHENTICATED])],
    });
  }
  return users;
}
