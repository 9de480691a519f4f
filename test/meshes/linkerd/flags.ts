/** The arguments of linkerd-init as its program reads them, of those that the injector and the tests write: --name value and --name=value. */
import { type LinkerdRules, linkerdDefaults } from './rules.ts'
import { at, entries, type Lists, maxOwner, Refusal, subnet } from './values.ts'

/** Without them the program has no port, no owner, no list, and rules for both families. */
const unset = {
  ...linkerdDefaults,
  inboundPort: -1,
  outboundPort: -1,
  proxyUid: -1,
  proxyGid: -1,
  inboundIgnored: [],
  outboundIgnored: [],
  ipv6: true,
}

const known = [
  'incoming-proxy-port',
  'outgoing-proxy-port',
  'proxy-uid',
  'proxy-gid',
  'ports-to-redirect',
  'inbound-ports-to-ignore',
  'outbound-ports-to-ignore',
  'subnets-to-ignore',
  'ipv6',
  'firewall-bin-path',
  'firewall-save-bin-path',
  'timeout-close-wait-secs',
  'log-format',
  'log-level',
]

function valuesOf(args: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const values = new Map<string, readonly string[]>()
  for (let index = 0; index < args.length; index++) {
    const [, name = '', value] = /^--([\w-]+)(?:=(.*))?$/s.exec(args[index] ?? '') ?? []
    if (!known.includes(name)) throw new Refusal('linkerd-init')
    const text = value ?? (name === 'ipv6' ? 'true' : args[++index])
    if (text === undefined) throw new Refusal(`--${name}`)
    values.set(name, [...(values.get(name) ?? []), text])
  }
  return values
}

function redirected(text: string): number {
  const port = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(port <= 65535)) throw new Refusal('--ports-to-redirect')
  return port
}

/** `env`: of the proxy. One of before 2.16 has a single address to listen on, and linkerd-init then knows no IPv6. */
export function parseFlags(args: readonly string[], found: Lists, env: Readonly<Record<string, string>>): LinkerdRules {
  const values = valuesOf(args)
  const listens = (name: string) => Object.hasOwn(env, `LINKERD2_PROXY_OUTBOUND_LISTEN_${name}`)
  const old = listens('ADDR') && !listens('ADDRS')
  const number = (name: string, most: number, least = Number.NEGATIVE_INFINITY) => {
    const value = Number(values.get(name)?.at(-1) ?? -1)
    if (!Number.isInteger(value) || value > most || value < least) throw new Refusal(`--${name}`)
    return value
  }
  const list = (name: string) => (values.get(name) ?? []).flatMap((text) => at(`--${name}`, () => entries(text, false)))
  return {
    ...unset,
    inboundPort: number('incoming-proxy-port', 65535, 1),
    outboundPort: number('outgoing-proxy-port', 65535, 1),
    proxyUid: number('proxy-uid', maxOwner),
    proxyGid: number('proxy-gid', maxOwner),
    inboundIgnored: found.ports('--inbound-ports-to-ignore', list('inbound-ports-to-ignore')),
    outboundIgnored: found.ports('--outbound-ports-to-ignore', list('outbound-ports-to-ignore')),
    subnets: at('--subnets-to-ignore', () => list('subnets-to-ignore').map(subnet)),
    redirected: (values.get('ports-to-redirect') ?? []).flatMap((text) => text.split(',')).map(redirected),
    ipv6: (values.get('ipv6')?.at(-1) ?? String(!old)) === 'true',
  }
}
