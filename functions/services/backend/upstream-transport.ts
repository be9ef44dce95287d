// How another server is reached and read, whichever protocol it speaks.
import type { Upstream } from '../../env';
import type { HttpTransportOptions } from './http-transport';

type ReadError = NonNullable<HttpTransportOptions['readError']>;
type Access = Pick<HttpTransportOptions, 'urls' | 'credentials' | 'readError'>;

export function accessTo({ url, api_key: key }: Upstream, readError: ReadError): Access {
  return {
    urls: [url],
    credentials: key === '' ? {} : { authorization: `Bearer ${key}` },
    // Servers repeat what they were sent; the text goes to the log.
    readError: (status, text, retryAfter) =>
      readError(status, key === '' ? text : text.replaceAll(key, '[key]'), retryAfter),
  };
}
