/** The options of the mesh in the config. Their defaults are Istio's own; an annotation of the pod comes before an option. */
import type { Kit } from '../../core/plugin.ts'
import { isServer, noServer } from '../shared/networks.ts'
import { interfaceExpected, isInterface, loopbackNetwork } from './values.ts'

/** As istio-iptables: one rule of iptables holds no more. */
export const mostOwnerGroups = 64

const usualDnsPort = 15053

const alone = (list: readonly (string | number)[]): boolean => !list.includes('*') || list.length === 1
const aloneMessage = "'*' stands for all and must be the only element"

function isLoopbackNetwork(text: string): boolean {
  try {
    return loopbackNetwork(text) !== ''
  } catch {
    return false
  }
}

const fieldsOf = ({ z, portList, cidrList, idList }: Kit) => {
  const port = z.int().min(1).max(65535)
  const interfaceName = z.string().refine(isInterface, `expected ${interfaceExpected}`)
  const group = z.union([z.literal('*'), idList.element], { error: "expected '*', or the id of a group; names cannot be looked up here" })
  return z.strictObject({
    setup: z
      .enum(['cni', 'init'])
      .default('cni')
      .describe('whose rules are followed where Istio has two: those of its CNI plugin (cni) or of the container istio-init (init)'),
    proxyPort: port.default(15001).describe('where the sidecar takes outbound connections'),
    inboundPort: port.default(15006).describe('where the sidecar takes inbound connections'),
    dnsPort: port.default(usualDnsPort).describe('where the sidecar takes queries for names'),
    proxyUid: idList.min(1).default([1337]).describe('users that the sidecar runs as, unless its container says which (runAsUser)'),
    proxyGid: idList
      .min(1)
      .optional()
      .describe(
        'groups that the sidecar runs as, unless its container says which (runAsGroup, with cni only); absent: 1337 with cni, the ids of the users with init',
      ),
    includeOutboundCidrs: cidrList.refine(alone, aloneMessage).default(['*']).describe('captured destinations; empty: none by destination'),
    excludeOutboundCidrs: cidrList
      .refine((list) => !list.includes('*'), "'*' cannot be excluded; capture nothing with includeOutboundCidrs: []")
      .default([])
      .describe('destinations that are not captured'),
    includeOutboundPorts: portList.default([]).describe('ports that are captured whatever the destination'),
    excludeOutboundPorts: portList.optional().describe('ports that are never captured, whoever calls; absent: 15020 with cni, none with init'),
    includeInboundPorts: portList.refine(alone, aloneMessage).default(['*']).describe('captured ports; empty: none'),
    excludeInboundPorts: portList
      .optional()
      .describe(
        "ports that are not captured, besides those of Istio itself; without effect unless includeInboundPorts is ['*']; absent: 15020 with cni, none with init",
      ),
    excludeInterfaces: z.array(interfaceName).default([]).describe('network interfaces of the pod whose traffic is not captured, in both directions'),
    ownerGroupsInclude: z
      .array(group)
      .max(mostOwnerGroups, `expected at most ${mostOwnerGroups} groups, as in Istio`)
      .refine(alone, aloneMessage)
      .default(['*'])
      .describe("groups whose processes are captured; ['*']: all; empty: none"),
    ownerGroupsExclude: idList.default([]).describe("groups whose processes are not captured; without effect unless ownerGroupsInclude is ['*']"),
    loopbackCidr: z
      .string()
      .refine(isLoopbackNetwork, 'expected a network of loopback from /8 to /32, like 127.0.0.1/32')
      .default('127.0.0.1/32')
      .describe('destinations that count as the app itself and are never captured'),
    dualStack: z
      .boolean()
      .default(false)
      .describe('IPv6 is captured in every pod that has an IPv6 address, not only where that is its first address'),
    captureDns: z
      .enum(['none', 'servers', 'all'])
      .default('none')
      .describe("queries for names go to the sidecar: those to the pod's own name servers (servers), or all to port 53 (all)"),
    nameservers: z
      .array(z.string().refine(isServer, noServer))
      .max(32)
      .default([])
      .describe('name servers of pods that have no list of their own; see captureDns'),
    dropInvalid: z.boolean().default(false).describe('Istio drops packets that conntrack calls invalid; without effect here, see docs/istio.md'),
    excludeNamespaces: z.array(z.string()).default(['kube-system']).describe('namespaces whose pods are left alone, unless the config lists them'),
  })
}

type Fields = ReturnType<ReturnType<typeof fieldsOf>['parse']>

/** What is wrong with the ports together, at the one that somebody wrote. */
function portClash(value: Pick<Fields, 'proxyPort' | 'inboundPort' | 'dnsPort'>) {
  const { dnsPort } = value
  const clash = (['proxyPort', 'inboundPort'] as const).find((name) => value[name] === dnsPort)
  if (clash === undefined) return []
  const message = `${clash} and dnsPort are both ${dnsPort}, but the sidecar takes queries for names at a port of its own`
  const hint = `Give each its own port, as the sidecar has them; Istio's are proxyPort 15001, inboundPort 15006 and dnsPort ${usualDnsPort}.`
  return [{ code: 'custom' as const, input: dnsPort, path: [dnsPort === usualDnsPort ? clash : 'dnsPort'], message, params: { hint } }]
}

export const optionsOf = (kit: Kit) => fieldsOf(kit).check(({ value, issues }) => void issues.push(...portClash(value)))

export type Options = ReturnType<ReturnType<typeof optionsOf>['parse']>
