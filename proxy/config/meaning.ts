// What the values of a configuration mean, and what is wrong with them though each has the right type
// (Kubernetes pkg/proxy/apis/config/validation). Pure.
import { parseCidr } from '../../src/lib/cidr.ts';
import { parseIp } from '../../src/lib/ip.ts';
import { parseClusterCidrs, parseListenAddress, parsePortRange } from './addresses.ts';

const MODES = ['iptables', 'nftables', 'userspace'];
const LOCAL_MODES = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'];
/** IFNAMSIZ without the final zero. */
const MAX_INTERFACE_NAME = 15;

/** Says what is wrong, one sentence each, as `path: what`. */
export function checkMeaning(values: ReadonlyMap<string, unknown>): string[] {
  const problems: string[] = [];
  const text = (path: string): string => String(values.get(path) ?? '');
  const check = (path: string, ok: (value: string) => boolean, what: string): void => {
    if (text(path) !== '' && !ok(text(path)))
      problems.push(`${path}: ${JSON.stringify(text(path))} is ${what}`);
  };
  const mode = text('mode');
  if (mode === 'ipvs') problems.push('mode: podwire has no ipvs mode; nftables is faster at any size');
  else if (mode === 'kernelspace') problems.push('mode: kernelspace is for Windows');
  else check('mode', value => MODES.includes(value), `none of ${MODES.join(', ')}`);
  check('detectLocalMode', value => LOCAL_MODES.includes(value), `none of ${LOCAL_MODES.join(', ')}`);
  const isInterface = (value: string): boolean => value.length <= MAX_INTERFACE_NAME && !/[\s/]/.test(value);
  for (const [needed, path] of [
    ['BridgeInterface', 'detectLocal.bridgeInterface'],
    ['InterfaceNamePrefix', 'detectLocal.interfaceNamePrefix'],
  ] as const) {
    if (text('detectLocalMode') === needed && text(path) === '')
      problems.push(`${path}: needed with detectLocalMode ${needed}`);
    check(
      path,
      isInterface,
      `no interface name: at most ${MAX_INTERFACE_NAME} characters without blanks or /`,
    );
  }
  check('bindAddress', value => parseIp(value) !== undefined, 'no IP address');
  for (const path of ['healthzBindAddress', 'metricsBindAddress'])
    check(path, value => parseListenAddress(value) !== undefined, 'not IP:PORT or [IP]:PORT');
  check(
    'clusterCIDR',
    value => parseClusterCidrs(value) !== undefined,
    'not one network, or one of each family with a comma between',
  );
  check('portRange', value => parsePortRange(value) !== undefined, 'not BEGIN-END, BEGIN+SIZE or 0');
  const addresses = (values.get('nodePortAddresses') ?? []) as readonly string[];
  for (const [index, entry] of addresses.entries()) {
    if (entry === 'primary' && addresses.length === 1) continue;
    if (entry === 'primary' || !parseCidr(entry))
      problems.push(
        `nodePortAddresses[${index}]: ${JSON.stringify(entry)} is no network${entry === 'primary' ? ': primary stands alone' : ''}`,
      );
  }
  return problems;
}
