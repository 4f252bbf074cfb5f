// undici's parts by path: importing the whole package costs about 65 ms more at every start (fetch, WebSocket, caches).

declare module 'undici/lib/dispatcher/pool.js' {
  import type { Pool } from 'undici';

  const PoolConstructor: typeof Pool;
  export default PoolConstructor;
}

declare module 'undici/lib/api/api-request.js' {
  import type { Dispatcher } from 'undici';

  function request(
    this: Dispatcher,
    options: Dispatcher.RequestOptions<null>,
  ): Promise<Dispatcher.ResponseData<null>>;
  export default request;
}
