/** The options of the mesh in the config. Their defaults are Linkerd's own; what a pod says comes before an option. */
import type { Kit } from '../../core/plugin.ts'

/** One less than the largest: iptables does not take that one. */
export const maxOwner = 4_294_967_294

export const optionsOf = ({ z, portList, cidrList }: Kit) => {
  const port = z.int().min(1).max(65535)
  const owner = z.int().min(-1).max(maxOwner)
  const skipped = portList.refine((list) => !list.includes('*'), "'*' is not a port; all of them are '0-65535'")
  return z.strictObject({
    setup: z
      .enum(['init', 'cni'])
      .default('init')
      .describe('whose rules are followed where Linkerd has two: those of the container linkerd-init (init) or of its CNI plugin (cni)'),
    version: z
      .enum(['current', '2.15', '2.10'])
      .default('current')
      .describe(
        'whose rules: those of Linkerd 2.16 and later (current), of 2.11 to 2.15, without IPv6 (2.15), or of 2.10 and before, where besides the proxy calls its own pod through the inbound port (2.10)',
      ),
    inboundPort: port.default(4143).describe('where the proxy takes inbound connections, unless the pod says which'),
    outboundPort: port.default(4140).describe('where the proxy takes outbound connections, unless the pod says which'),
    controlPort: port.default(4190).describe("the proxy's control port, never captured inbound, unless the pod says which"),
    adminPort: port.default(4191).describe("the proxy's port for metrics and health, never captured inbound, unless the pod says which"),
    proxyUid: owner.default(2102).describe('user that the proxy runs as, unless the pod says which; 0 or -1: no rule by user'),
    proxyGid: owner.default(-1).describe('group that the proxy runs as, unless the pod says which; 0 or -1: no rule by group'),
    skipInboundPorts: skipped
      .optional()
      .describe('ports that are not captured inbound, besides the control port and the admin port; absent: 4567 and 4568 with init, none with cni'),
    skipOutboundPorts: skipped.optional().describe('ports that are not captured outbound; absent: 4567 and 4568 with init, none with cni'),
    skipSubnets: cidrList
      .refine((list) => !list.includes('*'), "'*' is not a network; everything is '0.0.0.0/0' and '::/0'")
      .default([])
      .describe('networks whose clients are not captured; about inbound connections only'),
    portsToRedirect: z
      .array(z.int().min(0).max(65535))
      .default([])
      .describe('the only ports that are captured inbound, as in the chart of the CNI plugin; empty: all'),
    disableIPv6: z.boolean().default(true).describe('there are no rules for IPv6, as by default in the charts of Linkerd'),
    apiServerPorts: skipped
      .default([443, 6443])
      .describe('ports of the API server (kubeAPIServerPorts), which pods of the control plane call without the proxy'),
    excludeNamespaces: z
      .array(z.string())
      .default(['kube-system', 'cert-manager'])
      .describe('namespaces whose pods are left alone, unless the config lists them'),
  })
}

export type Options = ReturnType<ReturnType<typeof optionsOf>['parse']>
