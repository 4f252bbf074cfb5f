// `podwire proxy status|services|diff`: a node's service proxy as it is now, from the agents of a lab or from the
// stand-alone kube-proxy, which answers on its metrics address.
import { Command } from 'commander';
import type { Difference } from '../../proxy/backend/backend.ts';
import type { ProxyStatus, ReportedPort } from '../agent/proxy-report.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import { type LabSelector, labCommand } from './lab-options.ts';

interface Flags extends LabSelector {
  node?: string;
  address?: string;
  output?: string;
}

interface ServicesFlags extends Flags {
  namespace?: string;
  wide?: boolean;
}

export function proxyCommand(): Command {
  return new Command('proxy')
    .description("look at the service proxy: its state, its Services, and the kernel's part of them")
    .addCommand(statusCommand())
    .addCommand(servicesCommand())
    .addCommand(diffCommand())
    .addHelpText(
      'after',
      `
Without --address the nodes of the lab are asked, or, where there is no lab, the kube-proxy of this machine at
127.0.0.1:10249 (its --metrics-bind-address). 'podwire explain POD SERVICE:PORT' follows one packet.`,
    );
}

function proxySubcommand(name: string): Command {
  return labCommand(name)
    .option('--node <node>', 'node1, node2, … of the lab')
    .option('--address <host:port>', "a kube-proxy's metrics address, instead of a lab")
    .option('-o, --output <format>', 'json');
}

function statusCommand(): Command {
  return proxySubcommand('status')
    .description('show how the proxy of each node does: mode, last sync, last verification, counts, repairs')
    .addHelpText(
      'after',
      `
LAST VERIFIED is when everything in the kernel was last compared with what is meant. REPAIRS counts what somebody
else had changed and was put back. Exit status 1 when a proxy is not ready, not healthy, or its last sync failed.

Examples:
  $ podwire proxy status
  $ podwire proxy status --node node2 -o json
  $ podwire proxy status --address 127.0.0.1:10249`,
    )
    .action(async (flags: Flags) => {
      const { formatProxyStatus, isWell } = await import('./proxy-table.ts');
      const answers = await askAll<ProxyStatus>(flags, '');
      print(flags, answers, found => formatProxyStatus(found, Date.now()));
      if (answers.some(({ answer }) => answer === undefined || !isWell(answer))) process.exitCode = 1;
    });
}

function servicesCommand(): Command {
  return proxySubcommand('services')
    .description('list the ports of Services with their endpoints, as one node serves them')
    .argument('[service]', 'only this one: name, or namespace/name')
    .option('-n, --namespace <namespace>', 'only the Services of one')
    .option('--wide', 'every endpoint and every rule, also where they are many')
    .addHelpText(
      'after',
      `
Endpoints are marked: ready or terminating ones that a policy uses as such, the others in parentheses; * is on this
node. SERVED BY names what to look for: 'nft list map ip podwire-proxy service-ips', 'iptables-save | grep KUBE-SVC-…'.
Without --node the first node of the lab is asked.

Examples:
  $ podwire proxy services
  $ podwire proxy services hello --wide
  $ podwire proxy services -n kube-system --node node2 -o json`,
    )
    .action(async (service: string | undefined, flags: ServicesFlags) => {
      const { formatServices } = await import('./proxy-table.ts');
      const query = new URLSearchParams();
      const namespace = flags.namespace ?? 'default';
      if (service !== undefined)
        query.set('service', service.includes('/') ? service : `${namespace}/${service}`);
      else if (flags.namespace !== undefined) query.set('namespace', flags.namespace);
      const answers = await askAll<ReportedPort[]>(flags, `/services?${query}`, true);
      print(flags, answers, found =>
        found.map(({ node, answer }) => formatServices(node, answer, flags.wide ?? false)).join('\n\n'),
      );
      if (answers.some(({ answer }) => !answer?.length && service !== undefined)) process.exitCode = 1;
    });
}

function diffCommand(): Command {
  return proxySubcommand('diff')
    .description("compare the proxy's rules, elements and sysctls in the kernel with what is meant")
    .addHelpText(
      'after',
      `
Nothing is changed by it; what differs is mended by the proxy itself within a second of the notification, so that an
empty answer is the rule. 'podwire diff NODE' compares everything of a node. Exit status 1 when something differs.

Examples:
  $ podwire proxy diff
  $ podwire proxy diff --node node1 -o json`,
    )
    .action(async (flags: Flags) => {
      const { formatDifferences } = await import('./proxy-table.ts');
      const answers = await askAll<Difference[]>(flags, '/diff');
      print(flags, answers, found =>
        found.map(({ node, answer }) => formatDifferences(node, answer)).join('\n'),
      );
      if (answers.some(({ answer }) => answer === undefined || answer.length > 0)) process.exitCode = 1;
    });
}

export interface Answer<T> {
  node: string;
  /** Undefined when it did not answer; then `error` says why. */
  answer?: T;
  error?: string;
}

async function askAll<T>(flags: Flags, path: string, onlyFirst = false): Promise<Answer<T>[]> {
  const { proxiesOf } = await import('./proxy-client.ts');
  const all = proxiesOf(flags);
  const asked = onlyFirst ? all.slice(0, 1) : all;
  return Promise.all(
    asked.map(async ({ node, ask }) => {
      try {
        return { node, answer: await ask<T>(path) };
      } catch (thrown) {
        return { node, error: errorMessage(thrown) };
      }
    }),
  );
}

function print<T>(
  flags: Flags,
  answers: readonly Answer<T>[],
  format: (found: (Answer<T> & { answer: T })[]) => string,
): void {
  if (flags.output !== undefined && flags.output !== 'json')
    throw new PodwireError('INVALID_OPTION', `--output ${flags.output}: there is json`);
  if (flags.output === 'json') {
    console.log(JSON.stringify(answers));
    return;
  }
  const isAnswered = (each: Answer<T>): each is Answer<T> & { answer: T } => each.answer !== undefined;
  const found = answers.filter(isAnswered);
  if (found.length > 0) console.log(format(found));
  for (const { node, error } of answers)
    if (error !== undefined) {
      console.error(`${node}: ${error}`);
      process.exitCode = 1;
    }
}
