// String formats that a schema may ask for (go-openapi/strfmt, as far as apiextensions honours them). A format that is
// not known is not checked, as in Kubernetes.
import { isIPv4, isIPv6 } from 'node:net';
import { parseCidr } from '../../lib/cidr.ts';

const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const DATE = /^\d{4}-\d\d-\d\d$/;
const DATE_TIME = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const HOSTNAME =
  /^(?=.{1,253}\.?$)[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?)*\.?$/;
const EMAIL = /^[^\s@<>]+@[^\s@<>]+$/;
const MAC = /^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$/;
const DURATION = /^[-+]?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d|w))+$|^[-+]?0$/;

const TEXT_FORMATS: Record<string, (text: string) => boolean> = {
  'date-time': text => DATE_TIME.test(text) && !Number.isNaN(Date.parse(text)),
  datetime: text => DATE_TIME.test(text) && !Number.isNaN(Date.parse(text)),
  date: text => DATE.test(text) && !Number.isNaN(Date.parse(text)),
  byte: text => BASE64.test(text),
  ipv4: text => isIPv4(text),
  ipv6: text => isIPv6(text),
  ip: text => isIPv4(text) || isIPv6(text),
  cidr: text => parseCidr(text) !== undefined,
  mac: text => MAC.test(text),
  uuid: text => UUID.test(text),
  uuid3: text => UUID.test(text),
  uuid4: text => UUID.test(text),
  uuid5: text => UUID.test(text),
  uri: text => URL.canParse(text),
  hostname: text => HOSTNAME.test(text),
  email: text => EMAIL.test(text),
  duration: text => DURATION.test(text),
};

const INTEGER_LIMITS: Record<string, number> = { int32: 2 ** 31, int64: 2 ** 63 };

export function matchesFormat(value: string | number, format: string): boolean {
  if (typeof value === 'string')
    return Object.hasOwn(TEXT_FORMATS, format) ? TEXT_FORMATS[format]!(value) : true;
  const limit = Object.hasOwn(INTEGER_LIMITS, format) ? INTEGER_LIMITS[format]! : undefined;
  return limit === undefined || (value >= -limit && value < limit);
}
