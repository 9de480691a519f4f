/** Between whom an exchange runs. Addresses are those of a lane's two pods; both have a proxy that is not there but for the exchange's own half. */
import type { LabPod } from '../lab/net.ts'
import type { RunAs } from '../lab/process.ts'

export const families = ['ipv4', 'ipv6', 'mapped'] as const
export type Family = (typeof families)[number]

export interface Lane {
  readonly here: LabPod
  readonly there: LabPod
}

interface End {
  readonly pod: LabPod
  readonly as: RunAs
  readonly options: readonly string[]
}

export interface Ends {
  readonly client: End
  readonly server: End
}

export interface Place {
  /** "app and its proxy" */
  readonly name: string
  readonly ends: (lane: Lane, family: Family) => Ends
  /** Which of the halves are a proxy's: toward them messages are redirected in mode proxies. */
  readonly proxies: readonly ('client' | 'server')[]
}

/** Root's, so that every exchange may do what it is about; the proxy is known by its group. */
const app: RunAs = { uid: 0, gid: 0 }
const proxy: RunAs = { uid: 0, gid: 1337 }

/** Nobody has these addresses; where traffic is redirected nobody needs to. */
const outside: Readonly<Record<Family, string>> = { ipv4: '10.99.0.1', ipv6: '[2001:db8::9]', mapped: '[::ffff:10.99.0.1]' }
const any = (family: Family) => (family === 'ipv4' ? '0.0.0.0' : '[::]')
const passthrough: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['--bind', '127.0.0.6'],
  ipv6: ['--bind', '[::6]'],
  mapped: ['--bind', '[::ffff:127.0.0.6]'],
}
const addressOf = (pod: LabPod, family: Family) =>
  family === 'ipv6' ? `[${pod.ipv6}]` : family === 'mapped' ? `[::ffff:${pod.address}]` : pod.address

/** In every lane the same addresses and ports: only the sequence numbers tell the connections of two lanes apart. */
export const equalAddresses: Place = {
  name: 'equal addresses',
  proxies: ['client'],
  ends: ({ here }) => ({
    client: { pod: here, as: proxy, options: ['--connect', '127.0.0.1:8080', '--bind', '127.0.0.6:4001'] },
    server: { pod: here, as: app, options: ['--listen', '127.0.0.1:8080'] },
  }),
}

export const places: readonly Place[] = [
  {
    name: 'app and its proxy',
    proxies: ['server'],
    ends: ({ here }, family) => ({
      client: { pod: here, as: app, options: ['--connect', `${outside[family]}:8080`] },
      server: { pod: here, as: proxy, options: ['--listen', `${any(family)}:15001`] },
    }),
  },
  {
    name: 'proxy and its app',
    proxies: ['client'],
    ends: ({ here }, family) => ({
      client: { pod: here, as: proxy, options: ['--connect', `${addressOf(here, family)}:8080`, ...passthrough[family]] },
      server: { pod: here, as: app, options: ['--listen', `${any(family)}:8080`] },
    }),
  },
  {
    name: 'proxies of two pods',
    proxies: ['client', 'server'],
    ends: ({ here, there }, family) => ({
      client: { pod: here, as: proxy, options: ['--connect', `${addressOf(there, family)}:8080`] },
      server: { pod: there, as: proxy, options: ['--listen', `${any(family)}:15006`] },
    }),
  },
]
