// Kinds that are questions (authentication.k8s.io, authorization.k8s.io): answered at once, never stored.
import { badRequest, resourceNotFound } from '../../api/status.ts';
import { isJsonObject, type JsonObject } from '../../lib/json.ts';
import type { User } from '../auth/authenticator.ts';
import { BINDINGS } from '../auth/roles.ts';
import { sendJson } from '../http/respond.ts';
import type { ResourceCall, ServerParts } from './call.ts';
import { readObject } from './incoming.ts';

export async function serveReview(call: ResourceCall, server: ServerParts): Promise<void> {
  const body = (await readObject(call)) as unknown as JsonObject;
  const spec = isJsonObject(body.spec) ? body.spec : {};
  const status = await review(call, server, spec);
  await sendJson(call.request, call.response, 201, JSON.stringify({ ...body, status }));
}

async function review(call: ResourceCall, server: ServerParts, spec: JsonObject): Promise<object> {
  switch (call.definition.kind) {
    case 'SelfSubjectReview':
      return { userInfo: userInfo(call.user) };
    case 'SelfSubjectAccessReview':
      return access(server, call.user, spec);
    case 'SubjectAccessReview':
    case 'LocalSubjectAccessReview':
      return access(server, subjectOf(spec), spec);
    case 'SelfSubjectRulesReview':
      return rules(call.user);
    case 'TokenReview':
      return tokenReview(server, String(spec.token ?? ''));
    default:
      throw resourceNotFound();
  }
}

function userInfo(user: User): object {
  return { username: user.name, ...(user.uid ? { uid: user.uid } : {}), groups: user.groups };
}

function subjectOf(spec: JsonObject): User {
  if (!spec.user && !spec.groups) throw badRequest('at least one of user or group must be specified');
  const groups = Array.isArray(spec.groups) ? spec.groups.map(String) : [];
  return { name: String(spec.user ?? ''), groups };
}

async function access(server: ServerParts, user: User, spec: JsonObject): Promise<object> {
  const asked = isJsonObject(spec.resourceAttributes) ? spec.resourceAttributes : undefined;
  const path = isJsonObject(spec.nonResourceAttributes) ? spec.nonResourceAttributes : undefined;
  if (!asked === !path)
    throw badRequest('exactly one of resourceAttributes and nonResourceAttributes must be specified');
  const text = (value: unknown) => String(value ?? '');
  let allowed: boolean;
  if (asked)
    allowed = await server.authorizer.mayResource(user, {
      verb: text(asked.verb),
      group: text(asked.group),
      resource: text(asked.resource) + (asked.subresource ? `/${text(asked.subresource)}` : ''),
      namespace: text(asked.namespace),
      name: text(asked.name),
    });
  else allowed = server.authorizer.mayPath(user, text(path?.verb), text(path?.path));
  return { allowed };
}

function rules(user: User): object {
  const mine = BINDINGS.filter(
    binding =>
      binding.users?.includes(user.name) || binding.groups?.some(group => user.groups.includes(group)),
  ).flatMap(binding => binding.rules);
  return {
    resourceRules: mine
      .filter(rule => rule.resources)
      .map(rule => ({ verbs: rule.verbs, apiGroups: rule.groups, resources: rule.resources })),
    nonResourceRules: mine
      .filter(rule => rule.paths)
      .map(rule => ({ verbs: rule.verbs, nonResourceURLs: rule.paths })),
    // Nodes are judged by the objects, which no list of rules can say.
    incomplete: user.groups.includes('system:nodes'),
  };
}

function tokenReview(server: ServerParts, token: string): object {
  const user = server.authenticator.userOfToken(token);
  return user ? { authenticated: true, user: userInfo(user) } : { authenticated: false };
}
