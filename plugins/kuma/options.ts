/** The options of the mesh in the config: what a cluster sets globally. Their defaults are Kuma's own; what a pod says comes before an option. */
import type { Kit } from '../../core/plugin.ts'
import { isServer, noServer } from '../shared/networks.ts'
import { messageOf } from '../shared/text.ts'
import { exclusion } from './exclusions.ts'
import { maxUser } from './values.ts'

const usualDnsPort = 15053

/** Without quotes YAML has numbers for them. */
const versions = ['2.14', '2.11', '2.9', '2.7'] as const
export type Version = (typeof versions)[number]
export const versionOf = ({ version }: Options): Version => versions.find((each) => each === String(version)) ?? '2.14'

function exclusionProblem(text: string): string | undefined {
  try {
    exclusion(text)
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}

const portOf = ({ z }: Kit) => z.int().min(1).max(65535)
const portOrNoneOf = ({ z }: Kit) => z.int().min(0).max(65535)
const networksOf = ({ cidrList }: Kit) => cidrList.refine((list) => !list.includes('*'), "'*' is no network; write 0.0.0.0/0 and ::/0").default([])

const sidecarFields = (kit: Kit) => {
  const { z } = kit
  const port = portOf(kit)
  return {
    setup: z
      .enum(['cni', 'init'])
      .default('cni')
      .describe('pods that have the container kuma-init, and so rules of their own: left alone, as kuma-cni does (cni), or selected (init)'),
    version: z
      .union([z.enum(versions), z.literal(versions.map(Number))], { error: `expected ${versions.join(', ')}` })
      .default('2.14')
      .describe('the first version of Kuma whose rules are followed, see docs/kuma.md; 2.14: the current ones'),
    proxyPort: port.default(15001).describe('where the sidecar takes outbound connections'),
    inboundPort: port.default(15006).describe('where the sidecar takes inbound connections'),
    inboundPort6: port.optional().describe('where it takes inbound connections of IPv6, with version 2.7 only; absent: 15010 there'),
    dnsPort: port.default(usualDnsPort).describe('where the sidecar takes queries for names'),
    proxyUid: z.int().min(0).max(maxUser).default(5678).describe('user that the sidecar runs as, unless its container says which (runAsUser)'),
    ipFamilyMode: z.enum(['dualstack', 'ipv4']).default('dualstack').describe('whether IPv6 is captured too'),
  }
}

const outboundFields = (kit: Kit) => {
  const { z, portList } = kit
  const rule = z.string().superRefine((text, context) => {
    const message = exclusionProblem(text)
    if (message !== undefined) context.addIssue({ code: 'custom', message })
  })
  return {
    redirectOutbound: z.boolean().default(true).describe('whether outbound connections are captured; DNS has captureDns'),
    includeOutboundPorts: portList.default([]).describe('captured ports; empty: all but the excluded ones'),
    excludeOutboundPorts: portList
      .default([])
      .describe('ports that are never captured, whoever calls; without effect when includeOutboundPorts has some'),
    excludeOutboundCidrs: networksOf(kit).describe('destinations that are never captured, over any protocol, so that DNS is exempt too'),
    excludeOutboundPortsForUids: z
      .array(rule)
      .default([])
      .describe('rules [protocols:][ports:]uids, such as tcp:22,3000-5000:1000-1999: ports that are not captured for these users'),
    insertRedirectInsteadOfAppend: z
      .boolean()
      .default(false)
      .describe('the rule for outbound connections comes before the one that lets DNS over TCP pass, so that it is captured like others'),
  }
}

const inboundFields = (kit: Kit) => {
  const { z, portList } = kit
  const portOrNone = portOrNoneOf(kit)
  return {
    redirectInbound: z.boolean().default(true).describe('whether inbound connections are captured'),
    includeInboundPorts: portList.default([]).describe('captured ports; empty: all but the excluded ones'),
    excludeInboundPorts: portList.default([]).describe('ports that are not captured; without effect when includeInboundPorts has some'),
    excludeInboundCidrs: networksOf(kit).describe('sources whose connections are not captured'),
    applicationProbeProxyPort: portOrNone.default(9001).describe('where the sidecar answers probes of the apps, which is not captured; 0: nowhere'),
    readinessPort: portOrNone
      .default(0)
      .describe(
        "where the sidecar says that it is ready, which is not captured: 9902 where Envoy's admin interface is a socket; 0: captured, if it is anywhere",
      ),
  }
}

const fieldsOf = (kit: Kit) => {
  const { z } = kit
  return z.strictObject({
    ...sidecarFields(kit),
    ...outboundFields(kit),
    ...inboundFields(kit),
    captureDns: z
      .enum(['none', 'servers', 'all'])
      .default('all')
      .describe("queries for names over UDP go to the sidecar: those to the pod's own name servers (servers), or all to port 53 (all)"),
    nameservers: z
      .array(z.string().refine(isServer, noServer))
      .max(32)
      .default([])
      .describe('name servers of pods that have no list of their own; see captureDns'),
    vnet: z
      .array(z.string())
      .default([])
      .describe('virtual networks, NAME:NETWORK, whose traffic the pod forwards: it cannot be captured, see docs/kuma.md'),
    dropInvalid: z.boolean().default(false).describe('Kuma drops packets that conntrack calls invalid; without effect here, see docs/kuma.md'),
    excludeNamespaces: z
      .array(z.string())
      .default(['kube-system', 'kuma-system'])
      .describe('namespaces whose pods are left alone, unless the config lists them'),
  })
}

type Fields = ReturnType<ReturnType<typeof fieldsOf>['parse']>

/** What is wrong with the ports together, at the one that somebody wrote. */
function portClash(value: Fields) {
  const { dnsPort } = value
  const clash = (['proxyPort', 'inboundPort', 'inboundPort6'] as const).find((name) => value[name] === dnsPort)
  if (clash === undefined) return []
  const message = `${clash} and dnsPort are both ${dnsPort}, but the sidecar takes queries for names at a port of its own`
  const hint = `Give each its own port, as the sidecar has them; Kuma's are proxyPort 15001, inboundPort 15006 and dnsPort ${usualDnsPort}.`
  return [{ code: 'custom' as const, input: dnsPort, path: [dnsPort === usualDnsPort ? clash : 'dnsPort'], message, params: { hint } }]
}

/** Only those that version 2.7 has. */
function portOfOthers({ version, inboundPort6 }: Fields) {
  if (String(version) === '2.7' || inboundPort6 === undefined) return []
  const message = `version ${version} takes connections of both families at inboundPort; inboundPort6 is for version 2.7`
  return [{ code: 'custom' as const, input: inboundPort6, path: ['inboundPort6'], message, params: { hint: 'Leave out inboundPort6.' } }]
}

export const optionsOf = (kit: Kit) => fieldsOf(kit).check(({ value, issues }) => void issues.push(...portClash(value), ...portOfOthers(value)))

export type Options = ReturnType<ReturnType<typeof optionsOf>['parse']>
