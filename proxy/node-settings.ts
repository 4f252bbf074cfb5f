// What kube-proxy sets on its node beside rules: limits of the connection tracker, and its own standing with the
// kernel's out-of-memory killer. Each is a wish: a container often may not write them, and says so once.
// The size of the tracker's hash table is left alone: it is the whole machine's, not the namespace's.
import { writeFileSync } from 'node:fs';
import { errorMessage, hasCode } from '../src/lib/errors.ts';
import type { Netns } from '../src/linux/netns.ts';
import { readSysctl, writeSysctl } from '../src/linux/sysctl.ts';
import type { Logger } from '../src/observe/log.ts';
import type { ProxyConfiguration } from './config/config.ts';

/** Paths below /proc/sys/net/netfilter with their values, as the configuration asks (0 leaves one as it is). */
export function planConntrackSysctls(configuration: ProxyConfiguration, cores: number): Map<string, number> {
  const wanted = new Map<string, number>();
  const perCore = configuration.number('conntrack.maxPerCore');
  // Upstream: without a figure per core the minimum does not count either.
  if (perCore > 0)
    wanted.set('nf_conntrack_max', Math.max(perCore * cores, configuration.number('conntrack.min')));
  const seconds = (name: string, path: string): void => {
    const ms = configuration.number(path);
    if (ms > 0) wanted.set(name, Math.max(1, Math.round(ms / 1000)));
  };
  seconds('nf_conntrack_tcp_timeout_established', 'conntrack.tcpEstablishedTimeout');
  seconds('nf_conntrack_tcp_timeout_close_wait', 'conntrack.tcpCloseWaitTimeout');
  seconds('nf_conntrack_udp_timeout', 'conntrack.udpTimeout');
  seconds('nf_conntrack_udp_timeout_stream', 'conntrack.udpStreamTimeout');
  if (configuration.boolean('conntrack.tcpBeLiberal')) wanted.set('nf_conntrack_tcp_be_liberal', 1);
  return wanted;
}

/** Writes them; answers what could not be written. The limit is raised, never lowered. */
export function applyConntrackSysctls(
  wanted: ReadonlyMap<string, number>,
  log: Logger,
  netns?: Netns,
): string[] {
  const refused: string[] = [];
  for (const [name, value] of wanted) {
    const path = `net/netfilter/${name}`;
    try {
      const present = Number(readSysctl(netns, path));
      if (present === value || (name === 'nf_conntrack_max' && present > value)) continue;
      writeSysctl(netns, path, String(value));
      log.info({ sysctl: path, before: present, value }, 'sysctl set');
    } catch (error) {
      refused.push(path);
      const why = hasCode(error, 'ENOENT') ? 'this kernel or namespace has none' : errorMessage(error);
      log.warn({ sysctl: path, value, why }, 'sysctl left as it is');
    }
  }
  return refused;
}

export function applyOomScore(score: number, log: Logger): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', String(score));
  } catch (error) {
    log.debug({ score, why: errorMessage(error) }, 'oom_score_adj left as it is');
  }
}
