// Draws the table of bench proxy-latency: sh scripts/run.sh test/bench/pictures/latency-picture.ts FILE.csv FILE.svg
// Both axes are logarithmic: Services from 1 to 30,000, microseconds of a connection's first packet. One line a mode, its
// median; the dashed line is a connection without any proxy.
import { readFileSync, writeFileSync } from 'node:fs';

interface Row {
  mode: string;
  services: number;
  p50Us: number;
}

const SIZE = { width: 820, height: 460 };
const PLOT = { left: 70, right: 560, top: 50, bottom: 400 };
/** Told apart by colour and by shape: also in grey, and by those who see colours otherwise. */
const STYLES: Record<
  string,
  { label: string; colour: string; mark: 'circle' | 'square' | 'diamond' | 'triangle' }
> = {
  nftables: { label: 'nftables mode', colour: '#0072b2', mark: 'circle' },
  iptables: { label: 'iptables mode (legacy)', colour: '#d55e00', mark: 'square' },
  'kube-proxy-1.20': { label: 'kube-proxy 1.20, iptables', colour: '#6b6b6b', mark: 'diamond' },
  userspace: { label: 'userspace mode', colour: '#009e73', mark: 'triangle' },
};
const DIRECT = 'direct';

export function parseTable(text: string): Row[] {
  const [, ...lines] = text.trim().split('\n');
  return lines.map(line => {
    const [mode = '', services, p50] = line.split(',');
    return { mode, services: Number(services), p50Us: Number(p50) };
  });
}

/** 1, 2, 5, 10, 20, … that lie between. */
function ticks(from: number, to: number): number[] {
  const found: number[] = [];
  for (let power = 1; power <= to; power *= 10)
    for (const digit of [1, 2, 5])
      if (digit * power >= from && digit * power <= to) found.push(digit * power);
  return found;
}

function markAt(kind: string, x: number, y: number, colour: string): string {
  const points = (offsets: readonly [number, number][]): string =>
    `<polygon points="${offsets.map(([dx, dy]) => `${(x + dx).toFixed(1)},${(y + dy).toFixed(1)}`).join(' ')}" fill="${colour}"/>`;
  if (kind === 'circle') return `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="4" fill="${colour}"/>`;
  if (kind === 'square')
    return points([
      [-4, -4],
      [4, -4],
      [4, 4],
      [-4, 4],
    ]);
  if (kind === 'diamond')
    return points([
      [0, -5.5],
      [5.5, 0],
      [0, 5.5],
      [-5.5, 0],
    ]);
  return points([
    [0, -5],
    [5, 4],
    [-5, 4],
  ]);
}

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${content}</text>`;
}

export function draw(rows: readonly Row[]): string {
  const shown = rows.filter(({ mode }) => mode !== DIRECT);
  const direct = rows.find(({ mode }) => mode === DIRECT);
  const times = rows.map(({ p50Us }) => p50Us);
  const low = Math.min(...times) * 0.8;
  const high = Math.max(...times) * 1.25;
  const most = Math.max(...shown.map(({ services }) => services)) * 1.3;
  const x = (services: number): number =>
    PLOT.left + (Math.log(services) / Math.log(most)) * (PLOT.right - PLOT.left);
  const y = (us: number): number =>
    PLOT.bottom - (Math.log(us / low) / Math.log(high / low)) * (PLOT.bottom - PLOT.top);
  const parts: string[] = [
    `<rect width="${SIZE.width}" height="${SIZE.height}" fill="#ffffff"/>`,
    text(PLOT.left, 26, 'First packet of a connection to a Service', 'font-size="16" font-weight="bold"'),
  ];
  for (const tick of ticks(low, high)) {
    parts.push(
      `<line x1="${PLOT.left}" x2="${PLOT.right}" y1="${y(tick).toFixed(1)}" y2="${y(tick).toFixed(1)}" stroke="#e4e4e4"/>`,
      text(PLOT.left - 8, y(tick) + 4, tick.toLocaleString('en'), 'text-anchor="end"'),
    );
  }
  for (const { services } of shown.filter(({ mode }) => mode === shown[0]?.mode))
    parts.push(
      `<line x1="${x(services).toFixed(1)}" x2="${x(services).toFixed(1)}" y1="${PLOT.top}" y2="${PLOT.bottom}" stroke="#f0f0f0"/>`,
      text(x(services), PLOT.bottom + 20, services.toLocaleString('en'), 'text-anchor="middle"'),
    );
  parts.push(
    `<path d="M${PLOT.left},${PLOT.top}V${PLOT.bottom}H${PLOT.right}" fill="none" stroke="#333333"/>`,
    text((PLOT.left + PLOT.right) / 2, PLOT.bottom + 44, 'Services', 'text-anchor="middle"'),
    text(
      0,
      0,
      'median, microseconds',
      `text-anchor="middle" transform="translate(20 ${(PLOT.top + PLOT.bottom) / 2}) rotate(-90)"`,
    ),
  );
  const legend: { at: number; drawn: string; label: string }[] = [];
  if (direct) {
    const level = y(direct.p50Us).toFixed(1);
    parts.push(
      `<line x1="${PLOT.left}" x2="${PLOT.right}" y1="${level}" y2="${level}" stroke="#333333" stroke-dasharray="5 4"/>`,
    );
    legend.push({ at: y(direct.p50Us), drawn: '', label: `no proxy, ${Math.round(direct.p50Us)} us` });
  }
  for (const [mode, { label, colour, mark }] of Object.entries(STYLES)) {
    const points = shown.filter(row => row.mode === mode).sort((a, b) => a.services - b.services);
    const last = points.at(-1);
    if (!last) continue;
    const path = points
      .map(({ services, p50Us }) => `${x(services).toFixed(1)},${y(p50Us).toFixed(1)}`)
      .join(' ');
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const { services, p50Us } of points) parts.push(markAt(mark, x(services), y(p50Us), colour));
    legend.push({
      at: y(last.p50Us),
      drawn: mode,
      label: `${label}, ${Math.round(last.p50Us).toLocaleString('en')} us`,
    });
  }
  // Labels stand where their lines end, pushed apart where those meet.
  let free = Number.NEGATIVE_INFINITY;
  for (const { at, drawn, label } of legend.sort((a, b) => a.at - b.at)) {
    const level = Math.max(at, free);
    free = level + 18;
    const style = STYLES[drawn];
    if (style) parts.push(markAt(style.mark, PLOT.right + 14, level, style.colour));
    else
      parts.push(
        `<line x1="${PLOT.right + 6}" x2="${PLOT.right + 22}" y1="${level.toFixed(1)}" y2="${level.toFixed(1)}" stroke="#333333" stroke-dasharray="5 4"/>`,
      );
    parts.push(text(PLOT.right + 28, level + 4, label));
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SIZE.width} ${SIZE.height}" width="${SIZE.width}" height="${SIZE.height}" font-family="sans-serif" font-size="12" fill="#222222">\n<title>First-packet latency by number of Services, a line a mode</title>\n${parts.join('\n')}\n</svg>\n`;
}

if (import.meta.main) {
  const [from, to] = process.argv.slice(2);
  if (!from || !to) {
    console.error('usage: latency-picture.ts FILE.csv FILE.svg');
    process.exit(2);
  }
  writeFileSync(to, draw(parseTable(readFileSync(from, 'utf8'))));
}
