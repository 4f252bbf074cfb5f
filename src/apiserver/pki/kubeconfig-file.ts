// Writing kubeconfig files with everything embedded (clientcmd/v1 Config), so that one file is all a person needs.
import { stringify } from 'yaml';
import type { KeyPair } from './certificate.ts';

export interface KubeconfigContents {
  clusterName: string;
  server: string;
  /** CA certificate, PEM. */
  ca: string;
  userName: string;
  credentials: KeyPair | { token: string };
  namespace?: string;
}

const base64 = (text: string): string => Buffer.from(text, 'utf8').toString('base64');

export function renderKubeconfig(contents: KubeconfigContents): string {
  const { clusterName, userName, credentials } = contents;
  const context = `${userName}@${clusterName}`;
  const user =
    'token' in credentials
      ? { token: credentials.token }
      : {
          'client-certificate-data': base64(credentials.cert),
          'client-key-data': base64(credentials.key),
        };
  return stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: clusterName,
          cluster: { server: contents.server, 'certificate-authority-data': base64(contents.ca) },
        },
      ],
      users: [{ name: userName, user }],
      contexts: [
        {
          name: context,
          context: {
            cluster: clusterName,
            user: userName,
            ...(contents.namespace ? { namespace: contents.namespace } : {}),
          },
        },
      ],
      'current-context': context,
    },
    { lineWidth: 0 },
  );
}
