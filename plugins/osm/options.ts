/** The options of the mesh in the config: what the mesh has in its MeshConfig, under the same names, with the same defaults. Lists are joined with those of the pod. */
import type { Kit } from '../../core/plugin.ts'
import { isIpv6 } from '../shared/networks.ts'
import { interfaceExpected, isInterface } from './values.ts'

const isNetwork = (cidr: string): boolean => !isIpv6(cidr) && cidr.includes('/')

export const optionsOf = ({ z, cidrList }: Kit) => {
  const port = z.int().min(1).max(65535)
  const portList = z.array(port).default([])
  const networkList = z.array(cidrList.element.refine(isNetwork, 'expected a network of IPv4 with its length, like 10.0.0.0/8')).default([])
  return z.strictObject({
    flavour: z
      .enum(['osm', 'osm-edge', 'fsm'])
      .optional()
      .describe('whose names of annotations, labels and containers count; absent: seen from each pod, and osm where it shows nothing'),
    interceptionMode: z
      .enum(['PodLevel', 'NodeLevel', 'iptables', 'ebpf', 'none'])
      .default('PodLevel')
      .describe(
        'PodLevel or iptables: rules in each pod; NodeLevel (FSM), ebpf or none (osm-edge): pods have none, and Merbridge intercepts nothing either',
      ),
    proxyPort: port.default(15001).describe('where the sidecar takes outbound connections'),
    inboundPort: port.default(15003).describe('where the sidecar takes inbound connections'),
    proxyUid: z.int().min(0).max(0xffffffff).default(1500).describe('user that the sidecar runs as'),
    localProxyMode: z
      .enum(['Localhost', 'PodIP'])
      .default('Localhost')
      .describe("where the sidecar reaches the app: what it connects to 127.0.0.1 stays there (Localhost) or goes to the pod's IPv4 address (PodIP)"),
    localDNSProxy: z.boolean().default(false).describe('osm-edge, and FSM 1.0: queries to 127.0.0.153 go to the DNS proxy of the sidecar'),
    outboundIPRangeExclusionList: networkList.describe('destinations that are not captured'),
    outboundIPRangeInclusionList: networkList.describe('destinations that are captured; empty, with an empty list of the pod: all'),
    outboundPortExclusionList: portList.describe('ports of other pods and servers that are not captured'),
    inboundPortExclusionList: portList.describe('ports of the pod that are not captured'),
    networkInterfaceExclusionList: z
      .array(z.string().refine(isInterface, `expected ${interfaceExpected}`))
      .default([])
      .describe('network interfaces of the pod whose traffic is not captured, in both directions; "eth+": all that begin so'),
    excludeNamespaces: z
      .array(z.string())
      .default(['kube-system', 'kube-public', 'osm-system', 'fsm-system'])
      .describe('namespaces whose pods are left alone, unless the config lists them'),
  })
}

export type Options = ReturnType<ReturnType<typeof optionsOf>['parse']>
