/** Whether IPv6 is captured, and what of DNS: the environment of the pod says so, else the options. */
import type { Kit, Pod } from '../../core/plugin.ts'
import { isIpv6, serverAddress } from '../shared/networks.ts'
import type { Options } from './options.ts'
import { environmentOf, trueAmong } from './sidecar.ts'

export interface Families {
  /** Istio has rules for IPv6 too. Those for IPv4 are always there. */
  readonly ipv6: boolean
  /** Name servers whose queries the sidecar gets; '*': all of them. false: DNS is a connection like others. */
  readonly dns: false | '*' | readonly string[]
}

/** Of variables that mean the same: the one that is true, or false; undefined: none is there. */
type Asked = (...names: readonly string[]) => string | false | undefined

function environmentSays(pod: Pod, { setup }: Options, kit: Kit): Asked {
  const environment = environmentOf(pod, setup)
  return (...names) => (names.some((name) => environment[name] !== undefined) ? (trueAmong(pod, environment, names, kit) ?? false) : undefined)
}

/** As Istio sees them: an address with a zone ("fe80::1%eth0") is none to it. */
const knownServers = (pod: Pod, options: Options): readonly string[] => [
  ...new Set((pod.nameservers ?? options.nameservers).flatMap((server) => serverAddress(server) ?? [])),
]

const serversUnknown =
  'only queries to the name servers of the pod are captured, and none is known; list them under nameservers, of the pod or among the options of the mesh, or capture all queries with captureDns: all'

/** Without a name server Istio captures nothing. While the pod's addresses are not known yet, nobody can tell whether IPv6 is captured. */
function toServers(pod: Pod, options: Options, cause: string, ipv6: boolean): Families['dns'] {
  const servers = knownServers(pod, options)
  const onlyIpv4 = !ipv6 && pod.addresses.length > 0
  if (servers.length === 0) pod.warn(`${cause}: DNS is not captured: ${serversUnknown}`)
  else if (onlyIpv4 && servers.every(isIpv6))
    pod.warn(`${cause}: DNS is not captured: its name servers have IPv6 addresses, and IPv6 is not captured`)
  return servers.length > 0 && servers
}

/** The CNI plugin does not read the pod's list of servers; where the environment wants DNS to be captured, it captures all. */
function dnsOf(pod: Pod, options: Options, asked: Asked, ipv6: boolean): Families['dns'] {
  const { setup, captureDns } = options
  const inPod = setup === 'cni' ? asked('ISTIO_META_DNS_CAPTURE') : asked('ISTIO_META_DNS_CAPTURE', 'REDIRECT_DNS')
  const cause = inPod ?? (captureDns !== 'none' && `captureDns: ${captureDns}`)
  if (cause === false) return false
  const all = setup === 'cni' ? inPod : asked('CAPTURE_ALL_DNS')
  return (all ?? captureDns === 'all') ? '*' : toServers(pod, options, cause, ipv6)
}

export function familiesOf(pod: Pod, options: Options, kit: Kit): Families {
  const asked = environmentSays(pod, options, kit)
  const inPod = options.setup === 'cni' ? asked('ISTIO_DUAL_STACK') : asked('ISTIO_DUAL_STACK', 'DUAL_STACK')
  const dual = inPod ?? options.dualStack
  const ipv6 = (dual === false ? pod.addresses.slice(0, 1) : pod.addresses).some(isIpv6)
  return { ipv6, dns: dnsOf(pod, options, asked, ipv6) }
}
