// Names: what is a valid object name, label key, label value, port name; and the suffix of generateName.
// Rules and wording follow k8s.io/apimachinery `util/validation`, which users know from kubectl's errors.
import { randomBytes } from 'node:crypto';

const DNS1123_LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const DNS1123_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const DNS1035_LABEL = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const QUALIFIED_NAME = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const ENV_NAME = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/;
const CONFIG_KEY = /^[-._a-zA-Z0-9]+$/;

/** A check answers with everything that is wrong, in words; an empty list is a valid name. */
export type NameCheck = (name: string) => string[];

function tooLong(limit: number): string {
  return `must be no more than ${limit} characters`;
}

function regexError(message: string, pattern: string, ...examples: string[]): string {
  const shown = examples.map(example => `'${example}'`).join(', or ');
  return `${message} (${shown === '' ? '' : `e.g. ${shown}, `}regex used for validation is '${pattern}')`;
}

/** At most 63 of [a-z0-9-]: namespaces, container names. */
export const checkDns1123Label: NameCheck = name => {
  const errors: string[] = [];
  if (name.length > 63) errors.push(tooLong(63));
  if (!DNS1123_LABEL.test(name))
    errors.push(
      DNS1123_SUBDOMAIN.test(name)
        ? 'must not contain dots'
        : regexError(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            '[a-z0-9]([-a-z0-9]*[a-z0-9])?',
            'my-name',
            '123-abc',
          ),
    );
  return errors;
};

/** At most 253, labels joined by dots: most object names. */
export const checkDns1123Subdomain: NameCheck = name => {
  const errors: string[] = [];
  if (name.length > 253) errors.push(tooLong(253));
  if (!DNS1123_SUBDOMAIN.test(name))
    errors.push(
      regexError(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
        '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*',
        'example.com',
      ),
    );
  return errors;
};

/** RFC 1035 label, starting with a letter: Service names. */
export const checkDns1035Label: NameCheck = name => {
  const errors: string[] = [];
  if (name.length > 63) errors.push(tooLong(63));
  if (!DNS1035_LABEL.test(name))
    errors.push(
      regexError(
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
        '[a-z]([-a-z0-9]*[a-z0-9])?',
        'my-name',
        'abc-123',
      ),
    );
  return errors;
};

/** May be one segment of a URL path: RBAC names. */
export const checkPathSegment: NameCheck = name => {
  if (name === '.' || name === '..') return [`may not be '${name}'`];
  return ['/', '%'].filter(part => name.includes(part)).map(part => `may not contain '${part}'`);
};

/** `[prefix/]name`: label keys, annotation keys, finalizers, condition types. */
export const checkQualifiedName: NameCheck = name => {
  const errors: string[] = [];
  const parts = name.split('/');
  let local = parts[0] ?? '';
  if (parts.length === 2) {
    local = parts[1] ?? '';
    if (parts[0] === '') errors.push('prefix part must be non-empty');
    else errors.push(...checkDns1123Subdomain(parts[0] ?? '').map(error => `prefix part ${error}`));
  } else if (parts.length > 2) {
    return [
      `a qualified name ${regexError("must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character", '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]', 'MyName', 'my.name', '123-abc')} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  if (local === '') errors.push('name part must be non-empty');
  else if (local.length > 63) errors.push(`name part ${tooLong(63)}`);
  if (!QUALIFIED_NAME.test(local))
    errors.push(
      `name part ${regexError("must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character", '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]', 'MyName', 'my.name', '123-abc')}`,
    );
  return errors;
};

export const checkLabelValue: NameCheck = value => {
  const errors: string[] = [];
  if (value.length > 63) errors.push(tooLong(63));
  if (value !== '' && !QUALIFIED_NAME.test(value))
    errors.push(
      regexError(
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?',
        'MyValue',
        'my_value',
        '12345',
      ),
    );
  return errors;
};

/** IANA service name (RFC 6335 §5.1): names of container ports. */
export const checkPortName: NameCheck = name => {
  const errors: string[] = [];
  if (name.length > 15) errors.push(tooLong(15));
  if (!/^[-a-z0-9]+$/.test(name))
    errors.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)');
  if (!/[a-z]/.test(name)) errors.push('must contain at least one letter (a-z)');
  if (name.includes('--')) errors.push('must not contain consecutive hyphens');
  if (name !== '' && (name.startsWith('-') || name.endsWith('-')))
    errors.push('must not begin or end with a hyphen');
  return errors;
};

export const checkEnvName: NameCheck = name => {
  if (name === '.') return ["must not be '.'"];
  if (name === '..') return ["must not be '..'"];
  if (!ENV_NAME.test(name))
    return [
      regexError(
        "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit",
        '[-._a-zA-Z][-._a-zA-Z0-9]*',
        'my.env-name',
        'MY_ENV.NAME',
        'MyEnvName1',
      ),
    ];
  return name.startsWith('..') ? ["must not start with '..'"] : [];
};

/** Keys of ConfigMaps and Secrets. */
export const checkConfigKey: NameCheck = key => {
  const errors: string[] = [];
  if (key.length > 253) errors.push(tooLong(253));
  if (!CONFIG_KEY.test(key))
    errors.push(
      regexError(
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        '[-._a-zA-Z0-9]+',
        'key.name',
        'KEY_NAME',
        'key-name',
      ),
    );
  if (key === '.') errors.push("must not be '.'");
  else if (key === '..') errors.push("must not be '..'");
  else if (key.startsWith('..')) errors.push("must not start with '..'");
  return errors;
};

/** util/rand: no vowels and no 0, 1, 3, so that a random suffix spells nothing. */
const SUFFIX_ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
const SUFFIX_LENGTH = 5;
const MAX_GENERATED_PREFIX = 63 - SUFFIX_LENGTH;

/** Random characters for generated names; 27 divides 256 badly, so values past the last full turn are drawn again. */
export function randomSuffix(length = SUFFIX_LENGTH): string {
  const limit = 256 - (256 % SUFFIX_ALPHABET.length);
  let text = '';
  while (text.length < length)
    for (const byte of randomBytes(length * 2))
      if (byte < limit && text.length < length) text += SUFFIX_ALPHABET[byte % SUFFIX_ALPHABET.length];
  return text;
}

/** A name from metadata.generateName: the prefix, cut to fit 63, and five random characters. */
export function generateName(prefix: string): string {
  return prefix.slice(0, MAX_GENERATED_PREFIX) + randomSuffix();
}

/** The same alphabet applied to a hash's digits, as Kubernetes encodes pod-template-hash (rand.SafeEncodeString). */
export function safeEncode(text: string): string {
  return [...text].map(char => SUFFIX_ALPHABET[char.charCodeAt(0) % SUFFIX_ALPHABET.length]).join('');
}
