/** What the suite expects of an exchange whose connections could be joined: redirected messages, or TCP for a reason. Both are checked. */
import { type Exchange, readsBySplice } from '../../core/selftest/program.ts'
import type { Place } from './places.ts'

export const asksFionread = 'fionread'

/** The exchange's own connections must not redirect one message. */
const overTcp: Readonly<Record<string, string>> = {
  cork: 'TCP_CORK',
  'order-cork': 'TCP_CORK',
  'low-water': 'SO_RCVLOWAT',
  'peek-offset': 'SO_PEEK_OFF',
  'socket-filter': 'a filter on the socket',
  'control-messages': 'time stamps',
  'user-timeout': 'TCP_USER_TIMEOUT',
  'user-timeout-full': 'TCP_USER_TIMEOUT',
  'never-reads-blocking': 'blocking sockets',
  'kernel-tls': 'kernel TLS',
  mptcp: 'MPTCP',
  epipe: 'it sends nothing before an end closes',
  'reset-error': 'it sends nothing before an end closes',
  'tcp-info-states': 'it sends nothing before an end closes',
  'half-open': 'it sends nothing before an end is gone',
}

/** Some of what these send may be redirected, which depends on the moment. */
const either: Readonly<Record<string, string>> = {
  'order-blocking': 'its sockets turn to blocking',
  'low-water-blocking': 'its sockets turn to blocking',
  interrupted: 'its sockets turn to blocking',
  zerocopy: 'SO_ZEROCOPY',
  'tiny-buffers': 'its receive buffer has room for next to nothing',
}

export type Way = { readonly redirected: true } | { readonly redirected: boolean | undefined; readonly reason: string }

/** In mode all, or toward a proxy in mode proxies. */
export function wayOf(exchange: Exchange, { proxies }: Pick<Place, 'proxies'>): Way {
  const { name } = exchange
  if (readsBySplice(exchange)) return { redirected: false, reason: 'its program splices' }
  if (name === asksFionread && proxies.length < 2) return { redirected: false, reason: 'its program asks FIONREAD' }
  const [tcp, depends] = [overTcp[name], either[name]]
  if (tcp !== undefined) return { redirected: false, reason: tcp }
  if (depends !== undefined) return { redirected: undefined, reason: depends }
  if (exchange.ownStart) return { redirected: undefined, reason: 'about the beginning of connections' }
  if (exchange.blocking) return { redirected: false, reason: 'blocking sockets' }
  return { redirected: true }
}
