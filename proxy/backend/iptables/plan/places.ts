// Which of kube-proxy's chains serve a service port, for people who look for them in iptables-save. Pure.
import { isExternallyAccessible, joinHostPort, type ResolvedPort } from '../../../model/types.ts';
import { endpointChain, portChains } from './names.ts';

export function iptablesPlaces(resolved: ResolvedPort): string[] {
  const { port, cluster, local, reachable, hasEndpoints, internalRefusal, externalRefusal } = resolved;
  const protocol = port.protocol.toLowerCase();
  const names = portChains(port.name, protocol);
  const places: string[] = [];
  if (internalRefusal) places.push(`filter KUBE-SERVICES ${internalRefusal}`);
  if (externalRefusal && isExternallyAccessible(port))
    places.push(`filter KUBE-EXTERNAL-SERVICES ${externalRefusal}`);
  if (!hasEndpoints) return places;
  if (isExternallyAccessible(port)) places.push(`nat ${names.external}`);
  if (port.sourceRanges && port.loadBalancerIps.length > 0) places.push(`nat ${names.firewall}`);
  if (cluster.length > 0) places.push(`nat ${names.cluster}`);
  if (local.length > 0) places.push(`nat ${names.local}`);
  for (const { ip, port: number } of reachable) {
    const endpoint = joinHostPort(ip, number);
    places.push(`nat ${endpointChain(port.name, protocol, endpoint)} ${endpoint}`);
  }
  return places;
}
