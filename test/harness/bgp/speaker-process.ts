// A speaker in a process of its own, for benches and interop: speaker-process.ts '{config}'. On stdin, one JSON request
// a line: {"ask":"count"} {"ask":"peers"} {"ask":"routes"} {"ask":"configure","config":{…}} {"ask":"stop","keepRoutes":true};
// the answer is one JSON line. Addresses and prefixes are text in the configuration.
import { createInterface } from 'node:readline';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import type { SpeakerConfig } from '../../../routing/bgp/speaker/speaker-config.ts';
import { KernelRouteSink } from '../../../routing/fib/kernel-route-sink.ts';
import { formatCidr, requireCidr } from '../../../src/lib/cidr.ts';
import { createLogger } from '../../../src/observe/log.ts';

/** The configuration with the prefixes of `originate` as text. */
export interface ProcessConfig extends Omit<SpeakerConfig, 'originate'> {
  originate: { cidr: string; blackhole?: boolean }[];
  fib?: boolean;
  restarting?: boolean;
}

const native = (config: ProcessConfig): SpeakerConfig => ({
  ...config,
  originate: config.originate.map(({ cidr, blackhole = false }) => ({
    cidr: requireCidr(cidr),
    origin: 'block',
    blackhole,
  })),
});

const first = JSON.parse(process.argv[2] ?? '{}') as ProcessConfig;
const log = createLogger({ component: 'bgp', level: 'warn' });
const sink = first.fib === true ? new KernelRouteSink({ log }) : undefined;
const speaker = new Speaker({
  config: native(first),
  transport: new TcpTransport(),
  log,
  ...(sink === undefined ? {} : { sink }),
  restarting: first.restarting === true,
});
sink?.adopt();
await speaker.start();
process.stdout.write('{"ready":true}\n');

const routes = (): string[] =>
  ([4, 6] as const).flatMap(family => {
    const { rib } = speaker.locRibs[family];
    const list: string[] = [];
    for (let net = 0; net < rib.nets.limit; net++)
      if (rib.nets.has(net) && rib.best[net] !== -1)
        list.push(
          `${formatCidr(rib.nets.cidr(net))} via ${rib.entry[rib.best[net]!]!.attributes.nextHop ?? 'local'}`,
        );
    return list;
  });

createInterface({ input: process.stdin }).on('line', line => {
  const request = JSON.parse(line) as { ask: string; config?: ProcessConfig; keepRoutes?: boolean };
  const answer = (value: unknown): void => {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  };
  if (request.ask === 'count') answer(speaker.ribs[4].size + speaker.ribs[6].size);
  else if (request.ask === 'peers')
    answer(
      [...speaker.neighbours.values()].map(({ peer }) => ({
        name: peer.name,
        state: peer.state,
        error: peer.lastError,
      })),
    );
  else if (request.ask === 'routes') answer(routes());
  else if (request.ask === 'configure')
    void speaker.configure(native(request.config!)).then(() => answer({ configured: true }));
  else
    void speaker.stop({ keepRoutes: request.keepRoutes === true }).then(() => {
      sink?.close(request.keepRoutes === true);
      answer({ stopped: true });
      setTimeout(() => process.exit(0), 50);
    });
});
