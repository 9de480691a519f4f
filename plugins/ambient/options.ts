/** The options of the mesh in the config. Their defaults are those of Istio's chart for istio-cni; an annotation of the pod comes before an option. */
import type { Kit } from '../../core/plugin.ts'
import { ipv4, isIpv6, serverAddress } from '../shared/networks.ts'

const isIpv6Address = (text: string): boolean => isIpv6(serverAddress(text) ?? '')

export const optionsOf = ({ z }: Kit) =>
  z.strictObject({
    captureDns: z
      .boolean()
      .default(true)
      .describe(
        'queries for names go to ztunnel, unless the annotation ambient.istio.io/dns-capture says otherwise; ambient.dnsCapture of the chart',
      ),
    ipv6: z.boolean().default(true).describe('IPv6 is captured, in every pod; ambient.ipv6 of the chart'),
    probeAddress: z
      .string()
      .refine((text) => ipv4.test(text), 'expected an IPv4 address, like 169.254.7.127')
      .default('169.254.7.127')
      .describe("source of the node's own connections to its pods, which are not captured; HOST_PROBE_SNAT_IP of istio-cni"),
    probeAddress6: z
      .string()
      .refine(isIpv6Address, 'expected an IPv6 address, like fd16:9254:7127:1337:ffff:ffff:ffff:ffff')
      .default('fd16:9254:7127:1337:ffff:ffff:ffff:ffff')
      .describe('the same for IPv6; HOST_PROBE_SNAT_IPV6 of istio-cni'),
    excludeNamespaces: z.array(z.string()).default(['kube-system']).describe('namespaces whose pods are left alone, unless the config lists them'),
  })

export type Options = ReturnType<ReturnType<typeof optionsOf>['parse']>
