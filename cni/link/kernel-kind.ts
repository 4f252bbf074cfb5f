// Kinds of links that not every kernel has: a refusal that tells an administrator which module to load, and a question
// that creates nothing, for STATUS.
import { CniError, hasCode } from '../../src/lib/errors.ts';
import type { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import type { LinkSpec } from '../../src/linux/rtnetlink-specs.ts';
import { CNI_ERROR } from '../runtime/errors.ts';

/** Kind → kernel module, for the kinds that are modules in the kernels of the distributions. */
const KERNEL_MODULES = {
  vlan: '8021q',
  ipvlan: 'ipvlan',
  macvlan: 'macvlan',
  dummy: 'dummy',
  vrf: 'vrf',
} as const;

export type OptionalKind = keyof typeof KERNEL_MODULES;

/** Same as `ip link add`; EOPNOTSUPP, "unknown device type", becomes code 50 with the module's name. */
export function addLinkOfKind(net: Rtnetlink, spec: LinkSpec & { kind: OptionalKind }): void {
  try {
    net.addLink(spec);
  } catch (error) {
    if (hasCode(error, 'EOPNOTSUPP')) throw missingKind(spec.kind, error);
    throw error;
  }
}

/**
 * Throws code 50 when the kernel does not know the kind. The request lacks what every driver insists on (or has, for a
 * dummy, a multicast MAC), so a kernel that knows the kind refuses it with another error, having loaded the module.
 */
export function requireKind(net: Rtnetlink, kind: OptionalKind): void {
  try {
    net.addLink({ name: 'pwcni-probe', kind, ...(kind === 'dummy' ? { mac: '01:00:00:00:00:01' } : {}) });
  } catch (error) {
    if (hasCode(error, 'EOPNOTSUPP')) throw missingKind(kind, error);
  }
}

function missingKind(kind: OptionalKind, cause: unknown): CniError {
  const module = KERNEL_MODULES[kind];
  return new CniError(
    CNI_ERROR.NOT_AVAILABLE,
    `this kernel has no ${kind} links; load its module: modprobe ${module}`,
    `or use a kernel built with ${module}`,
    { cause },
  );
}
