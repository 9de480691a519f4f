/** Exchanges that are not accelerated, each with the reason; every other one must be. And what is in the way of an exchange in a place. */
import { type Exchange, readsBySplice } from '../../core/selftest/program.ts'

const waits = 'too few messages, or none that matter, in a connection that is joined'

const reasons: Readonly<Record<string, string>> = {
  'small-writes': 'a stream of small messages',
  'small-writes-no-delay': 'a stream of small messages',
  'single-bytes': 'a stream of small messages',
  siocoutq: waits,
  'no-delay': waits,
  cork: 'TCP_CORK',
  'order-cork': 'TCP_CORK',
  'low-water': 'SO_RCVLOWAT',
  'low-water-blocking': 'SO_RCVLOWAT',
  'order-low-water': 'SO_RCVLOWAT',
  'peek-offset': 'SO_PEEK_OFF',
  'order-blocking': 'its sockets turn to blocking',
  'half-open': waits,
  'linger-wait': waits,
  'linger-zero': waits,
  'fork-readers': waits,
}

/** undefined: it must be accelerated. */
export function overTcp(exchange: Exchange): string | undefined {
  if (readsBySplice(exchange)) return 'its program splices'
  if (exchange.blocking) return 'its sockets are blocking'
  if (exchange.ownStart) return 'about the beginning of connections'
  return reasons[exchange.name]
}

/** Does not run there, for reasons of the exchange. */
export const elsewhere: Readonly<Record<string, string>> = {
  keepalive: 'needs root',
  'user-timeout': 'needs root',
  mptcp: 'listens at ports of its own, which are captured',
  'many-connections': 'in npm run test:full',
  churn: 'in npm run test:full',
}
