/** Between whom an exchange runs. Addresses are those of a lane's two pods; both have a proxy that is not there but for the exchange's own half. */
import type { LabPod } from '../lab/net.ts'

export const families = ['ipv4', 'ipv6', 'mapped'] as const
export type Family = (typeof families)[number]

export interface Lane {
  readonly here: LabPod
  readonly there: LabPod
}

export interface Ends {
  readonly client: { readonly pod: LabPod; readonly uid: number; readonly options: readonly string[] }
  readonly server: { readonly pod: LabPod; readonly uid: number; readonly options: readonly string[] }
}

export interface Place {
  /** "app and its proxy" */
  readonly name: string
  readonly ends: (lane: Lane, family: Family) => Ends
  /** Which of the halves are a proxy's: toward them messages are redirected in mode proxies. */
  readonly proxies: readonly ('client' | 'server')[]
}

export const app = 1000
export const proxy = 1337

/** Nobody has these addresses; where traffic is redirected nobody needs to. */
const outside: Readonly<Record<Family, string>> = { ipv4: '10.99.0.1', ipv6: '[2001:db8::9]', mapped: '[::ffff:10.99.0.1]' }
const any = (family: Family) => (family === 'ipv6' ? '[::]' : '0.0.0.0')
const passthrough: Readonly<Record<Family, readonly string[]>> = {
  ipv4: ['--bind', '127.0.0.6'],
  ipv6: ['--bind', '[::6]'],
  mapped: ['--bind', '[::ffff:127.0.0.6]'],
}
const addressOf = (pod: LabPod, family: Family) =>
  family === 'ipv6' ? `[${pod.ipv6}]` : family === 'mapped' ? `[::ffff:${pod.address}]` : pod.address

export const places: readonly Place[] = [
  {
    name: 'app and its proxy',
    proxies: ['server'],
    ends: ({ here }, family) => ({
      client: { pod: here, uid: app, options: ['--connect', `${outside[family]}:8080`] },
      server: { pod: here, uid: proxy, options: ['--listen', `${any(family)}:15001`] },
    }),
  },
  {
    name: 'proxy and its app',
    proxies: ['client'],
    ends: ({ here }, family) => ({
      client: { pod: here, uid: proxy, options: ['--connect', `${addressOf(here, family)}:8080`, ...passthrough[family]] },
      server: { pod: here, uid: app, options: ['--listen', `${any(family)}:8080`] },
    }),
  },
  {
    name: 'proxies of two pods',
    proxies: ['client', 'server'],
    ends: ({ here, there }, family) => ({
      client: { pod: here, uid: proxy, options: ['--connect', `${addressOf(there, family)}:8080`] },
      server: { pod: there, uid: proxy, options: ['--listen', `${any(family)}:15006`] },
    }),
  },
]
