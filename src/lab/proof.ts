// Proves the network from the inside: every node, and a pod on every node, asks for the Service. The agents ask, each
// in its own namespace (src/agent/probe.ts); this file only says who asks for what and sets the answers in a table.
import Table from 'cli-table3';
import colors from 'picocolors';
import type { Pod, Stored } from '../api/types.ts';
import { errorMessage } from '../lib/errors.ts';
import { askAdmin } from './admin-client.ts';
import { type LabNode, type LabSpec, nodePaths } from './spec.ts';

export interface ProbeRequest {
  url: string;
  /** Absent: the node itself asks. */
  pod?: { namespace: string; name: string };
  timeoutMs: number;
}

export interface ProbeAnswer {
  status: number;
  body: string;
  milliseconds: number;
}

export interface ProofRow {
  from: string;
  to: string;
  url: string;
  pod?: string;
  node?: string;
  milliseconds?: number;
  error?: string;
}

const PROBE_TIMEOUT_MS = 5000;

/**
 * One request from each node and from one ready pod on each node to every URL; the nodes at once, each its own in turn.
 * Never throws: a failure is a row.
 */
export async function proveService(
  lab: LabSpec,
  targets: { to: string; url: string }[],
  pods: Stored<Pod>[],
): Promise<ProofRow[]> {
  const rows = await Promise.all(
    lab.nodes.map(async node => {
      const pod = pods.find(candidate => candidate.spec?.nodeName === node.name);
      const own: ProofRow[] = [];
      for (const target of targets) {
        own.push(await askOnce(node, target));
        if (pod) own.push(await askOnce(node, target, pod));
      }
      return own;
    }),
  );
  return rows.flat();
}

async function askOnce(
  node: LabNode,
  target: { to: string; url: string },
  pod?: Stored<Pod>,
): Promise<ProofRow> {
  const from = pod ? `pod ${pod.metadata.name} on ${node.name}` : `node ${node.name}`;
  try {
    const answer = await probe(nodePaths(node).agentSocket, target.url, pod);
    const [answeredBy, onNode] = answer.body.trim().split(/\s+/);
    const row = { from, ...target, pod: answeredBy, node: onNode, milliseconds: answer.milliseconds };
    return answer.status === 200 ? row : { ...row, error: `HTTP status ${answer.status}` };
  } catch (thrown) {
    return { from, ...target, error: errorMessage(thrown) };
  }
}

/** Asks once through a node's agent. Throws PodwireError('ADMIN') with the reason. */
export function probe(
  agentSocket: string,
  url: string,
  pod?: Stored<Pod>,
  timeoutMs = PROBE_TIMEOUT_MS,
): Promise<ProbeAnswer> {
  const request: ProbeRequest = {
    url,
    timeoutMs,
    ...(pod ? { pod: { namespace: pod.metadata.namespace ?? 'default', name: pod.metadata.name } } : {}),
  };
  return askAdmin<ProbeAnswer>(agentSocket, 'POST', '/probe', request, timeoutMs + 2000);
}

export function formatProof(rows: ProofRow[]): string {
  const table = new Table({
    head: ['FROM', 'TO', 'ANSWERED BY', 'ON NODE', 'MS'],
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) {
    const ms = row.milliseconds?.toFixed(1) ?? '';
    table.push([row.from, row.to, row.error ? colors.red(row.error) : row.pod, row.node ?? '', ms]);
  }
  return table.toString();
}
