// Prints what a service proxy reports, for people. Pure.
import Table from 'cli-table3';
import colors from 'picocolors';
import type { Difference } from '../../proxy/backend/backend.ts';
import type { ProxyStatus, ReportedEndpoint, ReportedPort } from '../agent/proxy-report.ts';
import { formatAge } from './overlay-table.ts';

/** So many endpoints and rules of a port are printed unless all are asked for. */
const SHOWN = 6;

function table(head: string[]): InstanceType<typeof Table> {
  return new Table({ head, style: { head: [], border: [], compact: true } });
}

export function isWell({ ready, healthz, lastFailure }: ProxyStatus): boolean {
  return ready && (healthz === undefined || healthz === 200) && lastFailure === undefined;
}

function stateOf(status: ProxyStatus): string {
  if (!status.ready) return colors.red('not ready');
  if (status.lastFailure) return colors.red('failing');
  if (status.healthz !== undefined && status.healthz !== 200) return colors.red(`healthz ${status.healthz}`);
  return colors.green('ready');
}

export function formatProxyStatus(
  answers: readonly { node: string; answer: ProxyStatus }[],
  nowMs: number,
): string {
  const ago = (at: string | undefined): string =>
    at === undefined ? 'never' : `${formatAge((nowMs - Date.parse(at)) / 1000)} ago`;
  const rows = table([
    'NODE',
    'MODE',
    'STATE',
    'LAST SYNC',
    'LAST VERIFIED',
    'SERVICES',
    'PORTS',
    'ENDPOINTS',
    'REPAIRS',
  ]);
  const notes: string[] = [];
  for (const { answer: status } of answers) {
    const { node, lastSync, lastFailure, repairs, withoutEndpoints } = status;
    const sync = lastSync
      ? `${ago(lastSync.at)}, ${lastSync.durationMs} ms${lastSync.full ? ', full' : ''}`
      : 'never';
    rows.push([
      node,
      status.mode,
      stateOf(status),
      sync,
      ago(status.lastVerified),
      status.services,
      status.servicePorts,
      status.endpoints,
      repairs.count,
    ]);
    notes.push(`${colors.bold(node)}: ${status.backend}; IPv${status.families.join(' and IPv')}`);
    if (withoutEndpoints > 0) notes.push(`  ${withoutEndpoints} ports without endpoints refuse traffic`);
    if (repairs.last) notes.push(`  mended ${ago(repairs.last.at)}: ${repairs.last.what}`);
    if (lastFailure)
      notes.push(colors.red(`  the last sync failed ${ago(lastFailure.at)}: ${lastFailure.message}`));
    for (const problem of status.problems) notes.push(colors.red(`  ${problem}`));
  }
  return [rows.toString(), ...notes].join('\n');
}

function formatEndpoint({ address, state, local, used }: ReportedEndpoint): string {
  const text = `${address}${local ? '*' : ''}${state === 'ready' ? '' : ` ${state}`}`;
  return used ? text : colors.dim(`(${text})`);
}

function formatPolicies(port: ReportedPort): string {
  const { internalPolicy, externalPolicy, affinitySeconds, sourceRanges, addresses } = port;
  const outside = addresses.length > 1 ? `external ${externalPolicy}` : '';
  return [
    `internal ${internalPolicy}`,
    outside,
    affinitySeconds > 0 ? `ClientIP ${formatAge(affinitySeconds)}` : '',
    sourceRanges ? `sources ${sourceRanges.join(', ') || 'none'}` : '',
    port.healthCheckNodePort ? `health check :${port.healthCheckNodePort}` : '',
  ]
    .filter(Boolean)
    .join('\n');
}

function shorten(list: readonly string[], wide: boolean): string {
  const shown = wide ? list : list.slice(0, SHOWN);
  const rest = list.length - shown.length;
  return [...shown, ...(rest > 0 ? [`… ${rest} more (--wide)`] : [])].join('\n');
}

/** The ports of Services as one node serves them. */
export function formatServices(node: string, ports: readonly ReportedPort[], wide: boolean): string {
  if (ports.length === 0) return `${node}: no such Service, or none with a cluster IP`;
  const rows = table(['SERVICE', 'ADDRESSES', 'ENDPOINTS', 'POLICIES', 'SERVED BY']);
  for (const port of ports) {
    const refusals = [
      port.internalRefusal ? colors.yellow(`cluster IP: ${port.internalRefusal}`) : '',
      port.externalRefusal ? colors.yellow(`from outside: ${port.externalRefusal}`) : '',
    ].filter(Boolean);
    rows.push([
      `${port.name}\n${port.protocol}`,
      port.addresses.join('\n'),
      [shorten(port.endpoints.map(formatEndpoint), wide), ...refusals].filter(Boolean).join('\n') || 'none',
      formatPolicies(port),
      shorten(port.servedBy, wide),
    ]);
  }
  return [`${colors.bold(node)}: ${ports.length} service ports`, rows.toString()].join('\n');
}

export function formatDifferences(node: string, differences: readonly Difference[]): string {
  if (differences.length === 0) return `${node}: the kernel has what the proxy means`;
  return [
    `${node}: ${differences.length} differences`,
    ...differences.map(({ what }) => `  ${colors.yellow('~')} ${what}`),
  ].join('\n');
}
