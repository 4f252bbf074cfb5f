// Flannel's net-conf.json for a cluster that podwire set up itself: one pod network a family, one backend. Pure.

export function planNetConf(clusterCidrs: readonly string[], backend: 'vxlan' | 'host-gw'): object {
  const v4 = clusterCidrs.find(cidr => !cidr.includes(':'));
  const v6 = clusterCidrs.find(cidr => cidr.includes(':'));
  return {
    EnableIPv4: v4 !== undefined,
    EnableIPv6: v6 !== undefined,
    ...(v4 ? { Network: v4 } : {}),
    ...(v6 ? { IPv6Network: v6 } : {}),
    Backend: { Type: backend },
  };
}
