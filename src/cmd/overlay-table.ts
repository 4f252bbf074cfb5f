// Prints a node's overlay for people: what it tells the others, its peers, and whom it had to leave out. Pure.
import Table from 'cli-table3';
import colors from 'picocolors';
import type { OverlayReport, PeerReport } from '../agent/overlay-report.ts';

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['m', 60],
  ['s', 1],
] as const;

/** `3d4h`, `5m12s`: at most two units. */
export function formatAge(seconds: number): string {
  const parts: string[] = [];
  let rest = Math.max(0, Math.floor(seconds));
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size);
    if (count > 0 || (unit === 's' && parts.length === 0)) parts.push(`${count}${unit}`);
    else if (parts.length > 0) break;
    rest -= count * size;
    if (parts.length === 2) break;
  }
  return parts.join('');
}

function formatProbe(peer: PeerReport): string {
  const { probe } = peer;
  if (!probe) return '';
  switch (probe.result) {
    case 'reachable':
      return colors.green(`${probe.milliseconds?.toFixed(1)} ms`);
    case 'host-only':
      return colors.yellow(`host only (${probe.address}: ${probe.error})`);
    case 'unreachable':
      return colors.red(`unreachable (${probe.address}: ${probe.error})`);
  }
}

/** Whether the node carries traffic and, as far as it was asked, reaches everybody. */
export function isHealthy(report: OverlayReport): boolean {
  return report.ready && report.peers.every(peer => peer.probe?.result !== 'unreachable');
}

export function formatOverlay(report: OverlayReport, nowMs: number): string {
  const { node, ready, reason, backend, mtuBytes, underlay, self, peers, problems } = report;
  const state = ready ? colors.green('ready') : colors.red(`not ready: ${reason ?? 'unknown'}`);
  const mtu = mtuBytes === undefined ? '' : `, pods' MTU ${mtuBytes}`;
  const lines = [
    `${colors.bold(node)}: ${backend} over ${underlay.link} (MTU ${underlay.mtuBytes})${mtu}, ${state}`,
    ...self.map(({ subnet, publicIp, localIp, vtepMac }) => {
      const nat = publicIp === localIp ? '' : ` (here ${localIp})`;
      return `  ${subnet} at ${publicIp}${nat}${vtepMac ? `, VTEP ${vtepMac}` : ''}`;
    }),
  ];
  if (peers.length > 0) {
    const probed = peers.some(peer => peer.probe);
    const vteps = peers.some(peer => peer.vtepMac);
    const table = new Table({
      head: [
        'PEER',
        'SUBNET',
        'PUBLIC IP',
        ...(vteps ? ['VTEP MAC'] : []),
        'LAST CHANGE',
        ...(probed ? ['PROBE'] : []),
      ],
      style: { head: [], border: [], compact: true },
    });
    for (const peer of peers) {
      const age = peer.lastChange ? formatAge((nowMs - Date.parse(peer.lastChange)) / 1000) : '';
      table.push([
        peer.node,
        peer.subnet,
        peer.publicIp,
        ...(vteps ? [peer.vtepMac ?? ''] : []),
        age,
        ...(probed ? [formatProbe(peer)] : []),
      ]);
    }
    lines.push(table.toString());
  } else lines.push('  no peers');
  for (const { name, reason: why, message } of problems)
    lines.push(colors.red(`  ${name}: ${why}: ${message}`));
  return lines.join('\n');
}
