/** The tables that istio-cni writes in a pod of ambient, rule by rule and in its order, for both families. Its routing table for the way back is not among them. */
import type { RuleFiles } from '../../lab/restore.ts'

export interface AmbientRules {
  readonly dns: boolean
  /** Nothing is done with what comes in. */
  readonly ingress: boolean
  readonly ipv6: boolean
  readonly probe: string
  readonly probe6: string
}

interface Family {
  readonly localhost: string
  readonly probe: string
}

const ztunnel = '0x539/0xfff'
const returning = '0x111/0xfff'

function mangle({ ingress }: AmbientRules): string[] {
  return [
    '-A PREROUTING -j ISTIO_PRERT',
    '-A OUTPUT -j ISTIO_OUTPUT',
    ...(ingress ? [] : [`-A ISTIO_PRERT -m mark --mark ${ztunnel} -j CONNMARK --set-xmark ${returning}`]),
    `-A ISTIO_OUTPUT -m connmark --mark ${returning} -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff`,
  ]
}

/** The proxy's own queries and their answers are in a zone of conntrack of their own. */
const raw = [
  '-A PREROUTING -j ISTIO_PRERT',
  '-A OUTPUT -j ISTIO_OUTPUT',
  `-A ISTIO_OUTPUT -p udp -m mark --mark ${ztunnel} -m udp --dport 53 -j CT --zone 1`,
  `-A ISTIO_PRERT -p udp -m mark ! --mark ${ztunnel} -m udp --sport 53 -j CT --zone 1`,
]

function nat({ dns, ingress }: AmbientRules, { localhost, probe }: Family): string[] {
  const notZtunnel = `-m mark ! --mark ${ztunnel}`
  const inbound = [
    `-A ISTIO_PRERT -s ${probe} -p tcp -m tcp -j ACCEPT`,
    `-A ISTIO_PRERT ! -d ${localhost} -p tcp ! --dport 15008 ${notZtunnel} -j REDIRECT --to-ports 15006`,
  ]
  const queries = [
    `-A ISTIO_OUTPUT ! -o lo -p udp ${notZtunnel} -m udp --dport 53 -j REDIRECT --to-port 15053`,
    `-A ISTIO_OUTPUT ! -d ${localhost} -p tcp --dport 53 ${notZtunnel} -j REDIRECT --to-ports 15053`,
  ]
  return [
    '-A OUTPUT -j ISTIO_OUTPUT',
    '-A PREROUTING -j ISTIO_PRERT',
    ...(ingress ? [] : inbound),
    `-A ISTIO_OUTPUT -d ${probe} -p tcp -m tcp -j ACCEPT`,
    ...(dns ? queries : []),
    `-A ISTIO_OUTPUT -p tcp -m mark --mark ${returning} -j ACCEPT`,
    `-A ISTIO_OUTPUT ! -d ${localhost} -o lo -j ACCEPT`,
    `-A ISTIO_OUTPUT ! -d ${localhost} -p tcp ${notZtunnel} -j REDIRECT --to-ports 15001`,
  ]
}

const table = (name: string, rules: readonly string[]) => [`*${name}`, '-N ISTIO_OUTPUT', '-N ISTIO_PRERT', ...rules, 'COMMIT', ''].join('\n')

const tablesOf = (rules: AmbientRules, family: Family) =>
  [table('mangle', mangle(rules)), table('nat', nat(rules, family)), rules.dns ? table('raw', raw) : ''].join('')

export function ambientTables(rules: AmbientRules): RuleFiles {
  const v4 = tablesOf(rules, { localhost: '127.0.0.1/32', probe: rules.probe })
  const v6 = tablesOf(rules, { localhost: '::1/128', probe: rules.probe6 })
  return { v4, ...(rules.ipv6 ? { v6 } : {}), loopbackAddresses: [] }
}
