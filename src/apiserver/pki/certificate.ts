// X.509 v3 certificates (RFC 5280) on ECDSA P-256 with SHA-256: a CA, serving certificates, client certificates whose
// subject is the user (CN) and groups (O) as Kubernetes reads them. Makes PEM text; keeps no files.
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto';
import { parseIp } from '../../lib/ip.ts';
import {
  bitString,
  boolean,
  explicit,
  implicit,
  integer,
  octetString,
  oid,
  sequence,
  set,
  time,
  utf8String,
} from './der.ts';

export interface KeyPair {
  /** Certificate, PEM. */
  cert: string;
  /** Private key, PKCS#8 PEM. */
  key: string;
}

export interface LeafRequest {
  cn: string;
  organizations?: readonly string[];
  /** DNS names and IP addresses, told apart by their form. */
  sans?: readonly string[];
  usages: readonly ('server' | 'client')[];
  validDays?: number;
}

const DAY_MS = 86_400_000;
/** Certificates start a little in the past: clocks of joining machines differ. */
const BACKDATE_MS = 300_000;
const CA_DAYS = 3650;
const LEAF_DAYS = 365;

const OID = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  server: '1.3.6.1.5.5.7.3.1',
  client: '1.3.6.1.5.5.7.3.2',
} as const;

/** KeyUsage bit strings: bit 0 (digitalSignature) is the most significant. */
const KEY_USAGE = {
  digitalSignature: bitString(Buffer.from([0x80]), 7),
  digitalSignatureCertSignCrlSign: bitString(Buffer.from([0x86]), 1),
} as const;

/** A self-signed certificate authority. */
export function createCertificateAuthority(cn: string): KeyPair {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const subject = distinguishedName(cn, []);
  const id = keyIdentifier(keys.publicKey);
  return {
    cert: buildCertificate({
      subject,
      issuer: subject,
      publicKey: keys.publicKey,
      signer: keys.privateKey,
      days: CA_DAYS,
      extensions: [
        extension(OID.basicConstraints, sequence(boolean(true)), true),
        extension(OID.keyUsage, KEY_USAGE.digitalSignatureCertSignCrlSign, true),
        extension(OID.subjectKeyIdentifier, octetString(id)),
      ],
    }),
    key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

/** A certificate and a fresh key for one server or one user. */
export function issueCertificate(ca: KeyPair, request: LeafRequest): KeyPair {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const sans = request.sans ?? [];
  const extensions = [
    extension(OID.basicConstraints, sequence(), true),
    extension(OID.keyUsage, KEY_USAGE.digitalSignature, true),
    extension(OID.extKeyUsage, sequence(...request.usages.map(usage => oid(OID[usage])))),
    extension(OID.subjectKeyIdentifier, octetString(keyIdentifier(keys.publicKey))),
    extension(OID.authorityKeyIdentifier, sequence(implicit(0, keyIdentifier(createPublicKey(ca.cert))))),
  ];
  if (sans.length > 0) extensions.push(extension(OID.subjectAltName, sequence(...sans.map(generalName))));
  return {
    cert: buildCertificate({
      subject: distinguishedName(request.cn, request.organizations ?? []),
      issuer: subjectOf(ca.cert),
      publicKey: keys.publicKey,
      signer: createPrivateKey(ca.key),
      days: request.validDays ?? LEAF_DAYS,
      extensions,
    }),
    key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

/** A client certificate: user `cn` in groups `organizations`. */
export function issueClientCertificate(
  ca: KeyPair,
  subject: { cn: string; organizations?: readonly string[] },
): KeyPair {
  return issueCertificate(ca, { ...subject, usages: ['client'] });
}

/** True if the certificate is this CA's, names all these SANs, and lasts at least so many more days. */
export function certificateServes(cert: string, ca: string, sans: readonly string[], days = 30): boolean {
  const parsed = new X509Certificate(cert);
  if (!parsed.verify(createPublicKey(ca))) return false;
  if (Date.parse(parsed.validTo) < Date.now() + days * DAY_MS) return false;
  return sans.every(san =>
    parseIp(san) ? parsed.checkIP(san) !== undefined : parsed.checkHost(san) !== undefined,
  );
}

interface CertificateParts {
  subject: Buffer;
  issuer: Buffer;
  publicKey: KeyObject;
  signer: KeyObject;
  days: number;
  extensions: Buffer[];
}

/** RFC 5280 §4.1: Certificate = { tbsCertificate, signatureAlgorithm, signatureValue }. */
function buildCertificate(parts: CertificateParts): string {
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const now = Date.now();
  const serial = randomBytes(16);
  serial[0]! &= 0x7f;
  const tbs = sequence(
    explicit(0, integer(2)),
    integer(serial),
    algorithm,
    parts.issuer,
    sequence(time(new Date(now - BACKDATE_MS)), time(new Date(now + parts.days * DAY_MS))),
    parts.subject,
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    explicit(3, sequence(...parts.extensions)),
  );
  const der = sequence(tbs, algorithm, bitString(sign('sha256', tbs, parts.signer)));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function distinguishedName(cn: string, organizations: readonly string[]): Buffer {
  const attribute = (type: string, value: string) => set(sequence(oid(type), utf8String(value)));
  return sequence(
    ...organizations.map(organization => attribute(OID.organization, organization)),
    attribute(OID.commonName, cn),
  );
}

function extension(id: string, value: Buffer, critical = false): Buffer {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(value));
}

/** GeneralName: dNSName is [2], iPAddress is [7]. */
function generalName(san: string): Buffer {
  const address = parseIp(san);
  return address ? implicit(7, address) : implicit(2, Buffer.from(san, 'latin1'));
}

/** RFC 5280 §4.2.1.2 (1): SHA-1 of the public key's bits, which end the SubjectPublicKeyInfo (65 bytes for P-256). */
function keyIdentifier(publicKey: KeyObject): Buffer {
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha1').update(spki.subarray(-65)).digest();
}

/** The DER subject of a certificate of ours: CN alone, as createCertificateAuthority writes it. */
function subjectOf(cert: string): Buffer {
  const cn = /^CN=(.*)$/m.exec(new X509Certificate(cert).subject)?.[1] ?? '';
  return distinguishedName(cn, []);
}
