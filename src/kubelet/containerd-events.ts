// containerd's own event stream (containerd.services.events.v1), which tells of an exit at once where its CRI (before
// 1.7) has no events and a kubelet would wait for its next relist. Only "something happened" is taken from it: what
// happened is read by CRI, so that a runtime without this service merely answers later.
import {
  type Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  makeGenericClientConstructor,
} from '@grpc/grpc-js';

/** SubscribeRequest{repeated string filters = 1}: tasks of the namespace that containerd's CRI uses. */
const FILTER = 'namespace==k8s.io,topic~="/tasks/(exit|oom)"';

const EventsClient = makeGenericClientConstructor(
  {
    subscribe: {
      path: '/containerd.services.events.v1.Events/Subscribe',
      requestStream: false,
      responseStream: true,
      requestSerialize: (filter: string) => {
        const text = Buffer.from(filter);
        return Buffer.concat([Buffer.from([0x0a, text.length]), text]);
      },
      requestDeserialize: (bytes: Buffer) => bytes.toString(),
      responseSerialize: (bytes: Buffer) => bytes,
      responseDeserialize: (bytes: Buffer) => bytes,
    },
  },
  'Events',
);

/** Calls `onEvent` for every task event until `signal` aborts. Rejects when the stream ends: CRI reads must go on. */
export function followContainerdEvents(
  socket: string,
  onEvent: () => void,
  signal: AbortSignal,
): Promise<void> {
  const client: Client = new EventsClient(`unix:${socket}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  const subscribe = (
    client as unknown as { subscribe(filter: string, metadata: Metadata): ClientReadableStream<Buffer> }
  ).subscribe;
  const metadata = new Metadata();
  metadata.set('containerd-namespace', 'k8s.io');
  const stream = subscribe.call(client, FILTER, metadata);
  const cancel = () => stream.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  return new Promise<void>((resolve, reject) => {
    stream.on('data', onEvent);
    stream.on('end', resolve);
    stream.on('error', error => (signal.aborted ? resolve() : reject(error)));
  }).finally(() => {
    signal.removeEventListener('abort', cancel);
    client.close();
  });
}
