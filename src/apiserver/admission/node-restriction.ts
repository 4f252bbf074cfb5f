// NodeRestriction: what the node authorizer cannot see because it is in the body. A node registers only itself and takes
// no labels that would draw other people's pods to it.
import { forbidden } from '../../api/status.ts';
import { nodeNameOf } from '../auth/node-authorizer.ts';
import type { AdmissionRequest } from './admission.ts';

/** kubernetes.io labels a kubelet may set on its own Node (NodeRestriction's kubeletLabels). */
const PROTECTED_LABEL = /^node-restriction\.kubernetes\.io\/|\.node-restriction\.kubernetes\.io\//;

export function restrictNode(request: AdmissionRequest): void {
  const node = nodeNameOf(request.user);
  if (node === undefined) return;
  const { definition, operation, object, old } = request;
  if (definition.group === 'coordination.k8s.io' && definition.kind === 'Lease') {
    if (operation === 'CREATE' && object?.metadata.name !== node)
      throw forbidden(
        definition,
        object?.metadata.name ?? '',
        `node "${node}" can only access node lease with the same name as the requesting node`,
      );
    return;
  }
  if (definition.group !== '' || definition.kind !== 'Node') return;
  if (operation === 'CREATE' && object?.metadata.name !== node)
    throw forbidden(
      definition,
      object?.metadata.name ?? '',
      `node "${node}" is not allowed to modify node "${object?.metadata.name ?? ''}"`,
    );
  if (operation === 'DELETE') return;
  const before = old?.metadata.labels ?? {};
  const changed = Object.entries(object?.metadata.labels ?? {}).filter(
    ([key, value]) => before[key] !== value,
  );
  const refused = changed.map(([key]) => key).filter(key => PROTECTED_LABEL.test(key));
  if (refused.length > 0)
    throw forbidden(
      definition,
      node,
      `node "${node}" is not allowed to set the following labels: ${refused.join(', ')}`,
    );
}
