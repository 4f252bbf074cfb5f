// Whether a text is a cron schedule: five fields, or a macro such as @hourly. Running schedules is the controller's.

const MACROS = /^@(yearly|annually|monthly|weekly|daily|midnight|hourly|every \d+(h|m|s|ms)(\d+(m|s))*)$/;
const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

interface Field {
  name: string;
  min: number;
  max: number;
  names?: readonly string[];
}

const FIELDS: readonly Field[] = [
  { name: 'minute', min: 0, max: 59 },
  { name: 'hour', min: 0, max: 23 },
  { name: 'day of month', min: 1, max: 31 },
  { name: 'month', min: 1, max: 12, names: MONTHS },
  { name: 'day of week', min: 0, max: 6, names: DAYS },
];

/** What is wrong with a schedule; undefined when it can be run. */
export function scheduleProblem(schedule: string): string | undefined {
  if (schedule.includes('TZ')) return 'cannot use TZ or CRON_TZ in schedule, use timeZone field instead';
  const text = schedule.trim();
  if (text.startsWith('@')) return MACROS.test(text) ? undefined : `unrecognized descriptor: ${text}`;
  const parts = text.split(/\s+/);
  if (parts.length !== FIELDS.length)
    return `expected exactly 5 fields, found ${parts.length}: [${parts.join(' ')}]`;
  for (const [index, field] of FIELDS.entries()) {
    const problem = fieldProblem(parts[index] ?? '', field);
    if (problem) return problem;
  }
  return undefined;
}

function fieldProblem(text: string, field: Field): string | undefined {
  for (const term of text.split(',')) {
    const [range = '', step, ...rest] = term.split('/');
    if (rest.length > 0) return `too many slashes: ${term}`;
    if (step !== undefined && !/^[1-9]\d*$/.test(step))
      return `step of range should be a positive number: ${term}`;
    if (range === '*' || range === '?') continue;
    const [from = '', to, ...more] = range.split('-');
    if (more.length > 0) return `too many hyphens: ${term}`;
    const low = numberOf(from, field);
    const high = to === undefined ? low : numberOf(to, field);
    if (low === undefined || high === undefined) return `failed to parse ${field.name} from ${term}`;
    if (low < field.min) return `beginning of range (${low}) below minimum (${field.min}): ${term}`;
    if (high > field.max) return `end of range (${high}) above maximum (${field.max}): ${term}`;
    if (low > high) return `beginning of range (${low}) beyond end of range (${high}): ${term}`;
  }
  return undefined;
}

function numberOf(text: string, field: Field): number | undefined {
  if (/^\d+$/.test(text)) return Number(text);
  const at = field.names?.indexOf(text.toLowerCase()) ?? -1;
  return at < 0 ? undefined : at + (field.names === MONTHS ? 1 : 0);
}
