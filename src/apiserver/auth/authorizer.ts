// May this user do this: the table of roles, then the node authorizer. No rule means no.

import { unauthorized } from '../../api/status.ts';
import { ApiError } from '../../lib/errors.ts';
import type { RequestInfo } from '../http/request-info.ts';
import { ANONYMOUS, type User } from './authenticator.ts';
import { nodeMay, nodeNameOf, type PodLookup } from './node-authorizer.ts';
import { BINDINGS, type ResourceAttributes, ruleAllowsPath, ruleAllowsResource } from './roles.ts';

export class Authorizer {
  readonly #pods: PodLookup;

  constructor(pods: PodLookup) {
    this.#pods = pods;
  }

  async mayResource(user: User, asked: ResourceAttributes): Promise<boolean> {
    if (rulesOf(user).some(rule => ruleAllowsResource(rule, asked))) return true;
    const node = nodeNameOf(user);
    return node !== undefined && nodeMay(node, asked, this.#pods);
  }

  mayPath(user: User, verb: string, path: string): boolean {
    return rulesOf(user).some(rule => ruleAllowsPath(rule, verb, path));
  }

  /** 403 with Kubernetes' wording, or 401 for somebody who has shown no credentials at all. */
  async authorize(user: User, info: RequestInfo): Promise<void> {
    if (info.kind === 'path') {
      if (this.mayPath(user, info.verb, info.path)) return;
      throw refuse(user, `User "${user.name}" cannot ${info.verb} path "${info.path}"`, {});
    }
    const resource = info.subresource ? `${info.resource}/${info.subresource}` : info.resource;
    const { verb, group, namespace, name } = info;
    if (await this.mayResource(user, { verb, group, resource, namespace, name })) return;
    const where = namespace ? ` in the namespace "${namespace}"` : ' at the cluster scope';
    const qualified = group ? `${info.resource}.${group}` : info.resource;
    throw refuse(
      user,
      `${qualified}${name ? ` "${name}"` : ''} is forbidden: User "${user.name}" cannot ${verb} resource "${resource}" in API group "${group}"${where}`,
      { ...(name ? { name } : {}), ...(group ? { group } : {}), kind: info.resource },
    );
  }
}

function refuse(user: User, message: string, details: NonNullable<ApiError['details']>): ApiError {
  return user === ANONYMOUS ? unauthorized() : new ApiError(403, 'Forbidden', message, details);
}

function* rulesOf(user: User) {
  for (const binding of BINDINGS) {
    const bound =
      binding.users?.includes(user.name) || binding.groups?.some(group => user.groups.includes(group));
    if (bound) yield* binding.rules;
  }
}
