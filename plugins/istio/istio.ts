/**
 * Istio's sidecar, as istio-cni or istio-init sets it up, for IPv4 and TCP. docs/istio.md says what each annotation, label, variable and option does.
 *
 *     pod, options --settings.ts--> Settings --rules.ts--> Interception
 *
 * values.ts reads the texts as Istio does, sidecar.ts knows the container istio-proxy and decides which pods have one.
 */
import type { IdSpec, Interception, Kit, Pod } from '../../core/plugin.ts'
import { type Options, optionsOf } from './options.ts'
import { interceptionOf } from './rules.ts'
import { readSettings, type Settings } from './settings.ts'
import { environmentOf, isSidecarPod, noSidecar, sidecarOf, trueAmong, warnOfIgnored } from './sidecar.ts'

/** Why no socket sees the pod's traffic as Istio would take it. */
function obstacle(pod: Pod, { mode, rerouted }: Settings, dualStack: string | undefined): string | undefined {
  if (mode === 'NONE') return 'interceptionMode NONE: Istio intercepts nothing in this pod, and neither does Merbridge'
  if (mode === 'TPROXY') {
    return 'interceptionMode TPROXY: the sidecar calls the app with the address of the client, and the way back of the answers is not built yet; use REDIRECT'
  }
  if (rerouted.length > 0) {
    const names = rerouted.slice(0, 4).join(', ')
    return `traffic of the virtual machine at ${names}: the pod forwards its packets, so no socket of the pod sees it`
  }
  if (pod.addresses[0]?.includes(':')) return 'its first address is IPv6: capturing IPv6 is not supported yet'
  if (dualStack !== undefined && pod.addresses.some((address) => address.includes(':'))) {
    return `it has an IPv6 address and ${dualStack}: capturing IPv6 is not supported yet`
  }
  return undefined
}

/** What the environment asks for and gets nothing, or something else. */
function warnOfDifferences(pod: Pod, { setup, dropInvalid }: Options, kit: Kit): { readonly dualStack: string | undefined } {
  const environment = environmentOf(pod, setup)
  const asked = (common: string, init: string) => trueAmong(pod, environment, setup === 'init' ? [common, init] : [common], kit)
  const dns = asked('ISTIO_META_DNS_CAPTURE', 'REDIRECT_DNS')
  if (dns !== undefined) pod.warn(`${dns}: DNS is not captured yet; queries go to the name server without the sidecar`)
  const drop = asked('INVALID_DROP', 'DROP_INVALID') ?? (dropInvalid ? 'dropInvalid' : undefined)
  if (drop !== undefined) {
    pod.warn(`${drop} has no effect: there is no address translation that an invalid packet could slip past, and TCP itself answers it`)
  }
  return { dualStack: asked('ISTIO_DUAL_STACK', 'DUAL_STACK') }
}

/** The number, or the first of a range. */
const firstId = (ids: readonly IdSpec[]): number => Number.parseInt(String(ids[0]), 10)

/** What the sidecar runs as; where its container does not say, what the rules take it for. */
const proxyOf = (pod: Pod, { proxyUid, proxyGid }: Settings): NonNullable<Interception['proxy']> => ({
  uid: sidecarOf(pod)?.uid ?? firstId(proxyUid),
  gid: sidecarOf(pod)?.gid ?? firstId(proxyGid),
})

export default (kit: Kit) => {
  const schema = optionsOf(kit)
  const defaults = schema.parse({})
  return kit.definePlugin<Options>({
    api: 1,
    name: 'istio',
    options: schema,
    selects: (pod, options = defaults) => isSidecarPod(pod, options, kit),
    describe: (pod, options) => {
      const none = noSidecar(pod, options.setup, kit)
      if (none !== undefined) return kit.cannot(`${none}; Istio intercepts nothing in such a pod, and neither does Merbridge`)
      const { settings, refused, impossible } = readSettings(pod, options)
      warnOfIgnored(pod, options.setup, kit)
      const { dualStack } = warnOfDifferences(pod, options, kit)
      for (const complaint of [...refused, ...impossible]) pod.warn(complaint)
      if (refused.length > 0) return kit.refused(`Istio does not start a pod with ${refused.join('; ')}. Correct it and start the pod again`)
      const reason = impossible[0] ?? obstacle(pod, settings, dualStack)
      return reason === undefined ? { ...interceptionOf(settings), proxy: proxyOf(pod, settings) } : kit.cannot(reason)
    },
  })
}
