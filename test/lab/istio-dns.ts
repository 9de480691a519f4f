/** Istio's rules for DNS capture: port 53 goes to the proxy's DNS server. */
import type { Family, IstioRuleOptions } from './istio-iptables.ts'

const nothing = { nat: [], raw: [] }

/** `nat`: in its order, to stand between the owners' rules and the destinations'. `raw`: zones of connection tracking. */
export function dnsRules(options: Required<IstioRuleOptions>, family: Family): { readonly nat: readonly string[]; readonly raw: readonly string[] } {
  const { dns, nameservers } = options
  if (dns === false) return nothing
  const length = family === 'ipv4' ? 32 : 128
  const own = nameservers.filter((server) => server.includes(':') === (family === 'ipv6')).map((server) => `${server}/${length}`)
  const servers = dns === 'all' ? [''] : own
  const to = servers.map((server) => (server === '' ? '' : ` -d ${server}`))
  const from = servers.map((server) => (server === '' ? '' : ` -s ${server}`))
  const redirect = (protocol: string) => to.map((each) => `-A ISTIO_OUTPUT_DNS -p ${protocol} --dport 53${each} -j REDIRECT --to-ports 15053`)
  const jump = (rule: string) => (servers.length === 0 ? [] : [rule])
  return {
    nat: [...jump('-A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS'), ...redirect('tcp'), ...redirect('udp')],
    raw: [
      '-A OUTPUT -j ISTIO_OUTPUT_DNS',
      ...zonesOfProxy(options),
      ...jump('-A PREROUTING -j ISTIO_INBOUND'),
      ...to.map((each) => `-A ISTIO_OUTPUT_DNS -p udp --dport 53${each} -j CT --zone 2`),
      ...from.map((each) => `-A ISTIO_INBOUND -p udp --sport 53${each} -j CT --zone 1`),
    ],
  }
}

/** Zone 1: the proxy and the name servers. Zone 2: the apps and the proxy. */
function zonesOfProxy({ proxyUids, proxyGids }: Required<IstioRuleOptions>): string[] {
  const owners = [...proxyUids.map((uid) => `--uid-owner ${uid}`), ...proxyGids.map((gid) => `--gid-owner ${gid}`)]
  return owners.flatMap((owner) => [
    `-A ISTIO_OUTPUT_DNS -p udp --dport 53 -m owner ${owner} -j CT --zone 1`,
    `-A ISTIO_OUTPUT_DNS -p udp --sport 15053 -m owner ${owner} -j CT --zone 2`,
  ])
}
