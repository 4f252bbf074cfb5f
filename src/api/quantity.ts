// resource.Quantity: decimal and binary suffixes, exact to a billionth (nano), no floating point.
// Grammar and canonical form: k8s.io/apimachinery `api/resource`.
import { ApiError } from '../lib/errors.ts';

export type QuantityFormat = 'DecimalSI' | 'BinarySI' | 'DecimalExponent';

/** The number times 10^9, exactly, and the form it came in. */
export interface Quantity {
  readonly nano: bigint;
  readonly format: QuantityFormat;
}

const NANO = 1_000_000_000n;
const MAX_NANO = (2n ** 63n - 1n) * NANO;
const BINARY: readonly string[] = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
/** Suffix → power of ten. */
const DECIMAL: Record<string, number> = { n: -9, u: -6, m: -3, '': 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const DECIMAL_BY_POWER = new Map(Object.entries(DECIMAL).map(([suffix, power]) => [power, suffix]));

export const QUANTITY_PATTERN = '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$';
const GRAMMAR = /^([+-]?)(\d+(?:\.\d*)?|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?|[eE][+-]?\d{1,3})$/;

function refuse(): ApiError {
  return new ApiError(
    400,
    'BadRequest',
    `quantities must match the regular expression '${QUANTITY_PATTERN}'`,
  );
}

/** Division that rounds away from zero, as Kubernetes rounds what is smaller than it can keep. */
function divideUp(value: bigint, divisor: bigint): bigint {
  const quotient = value / divisor;
  return quotient * divisor === value ? quotient : quotient + (value < 0n ? -1n : 1n);
}

/** Parses `1500m`, `2Gi`, `1e3`, `0.5`. Throws ApiError 400. */
export function parseQuantity(text: string | number): Quantity {
  const match = GRAMMAR.exec(String(text));
  if (!match) throw refuse();
  const [, sign = '', digits = '', suffix = ''] = match;
  const [whole = '', fraction = ''] = digits.split('.');
  let mantissa = BigInt(whole + fraction || '0') * (sign === '-' ? -1n : 1n);
  let power = -fraction.length;
  let format: QuantityFormat = 'DecimalSI';
  const binary = suffix === '' ? -1 : BINARY.indexOf(suffix);
  if (binary > 0) {
    format = 'BinarySI';
    mantissa *= 1024n ** BigInt(binary);
  } else if (/^[eE][+-]?\d/.test(suffix)) {
    format = 'DecimalExponent';
    power += Number(suffix.slice(1));
  } else power += DECIMAL[suffix] ?? 0;
  const shift = power + 9;
  const nano = shift >= 0 ? mantissa * 10n ** BigInt(shift) : divideUp(mantissa, 10n ** BigInt(-shift));
  const capped = nano > MAX_NANO ? MAX_NANO : nano < -MAX_NANO ? -MAX_NANO : nano;
  return { nano: capped, format };
}

export function isQuantity(text: string | number): boolean {
  return GRAMMAR.test(String(text));
}

/** The canonical form: no fraction, the largest suffix that loses nothing; binary suffixes from 1024 on only. */
export function formatQuantity({ nano, format }: Quantity): string {
  if (nano === 0n) return '0';
  const magnitude = nano < 0n ? -nano : nano;
  if (format === 'BinarySI' && magnitude >= 1024n * NANO) {
    let [value, power] = [divideUp(nano, NANO), 0];
    while (value % 1024n === 0n && power < BINARY.length - 1) {
      value /= 1024n;
      power++;
    }
    return `${value}${BINARY[power]}`;
  }
  let [value, power] = [nano, -9];
  while (value % 1000n === 0n && power < 18) {
    value /= 1000n;
    power += 3;
  }
  if (format === 'DecimalExponent' && power !== 0) return `${value}e${power}`;
  return `${value}${DECIMAL_BY_POWER.get(power) ?? ''}`;
}

export function compareQuantity(a: Quantity, b: Quantity): number {
  return a.nano < b.nano ? -1 : a.nano > b.nano ? 1 : 0;
}

export function addQuantity(a: Quantity, b: Quantity): Quantity {
  return { nano: a.nano + b.nano, format: a.nano === 0n ? b.format : a.format };
}

export function subtractQuantity(a: Quantity, b: Quantity): Quantity {
  return { nano: a.nano - b.nano, format: a.nano === 0n ? b.format : a.format };
}

/** Rounded up to a whole number, as limits in bytes are used. */
export function quantityValue(quantity: Quantity): bigint {
  return divideUp(quantity.nano, NANO);
}

/** Rounded up to thousandths, as CPU is counted. */
export function quantityMilliValue(quantity: Quantity): bigint {
  return divideUp(quantity.nano, 1_000_000n);
}
