// The dummy plugin: a link that leads nowhere, for addresses that a pod shall have without a network behind them.
import { podLinkPlugin } from '../../link/pod-link-plugin.ts';
import { ipamType } from '../../runtime/delegate.ts';
import { configError } from '../../runtime/errors.ts';

export const dummy = podLinkPlugin<undefined>({
  kind: 'dummy',
  read(call) {
    if (ipamType(call) === undefined) throw configError('dummy interface requires an IPAM configuration');
    return undefined;
  },
  master: () => undefined,
  spec: () => ({}),
  verify: () => {},
});
