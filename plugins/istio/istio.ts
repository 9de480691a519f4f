/**
 * Istio's sidecar, as istio-cni or istio-init sets it up, for both families, TCP and DNS. docs/istio.md says what each annotation, label, variable and option does.
 *
 *     pod, options --settings.ts--> Settings --rules.ts--> Interception
 *
 * values.ts reads the texts as Istio does, families.ts says whether IPv6 and DNS are captured, sidecar.ts knows the container istio-proxy and decides which pods have one.
 */
import type { IdSpec, Interception, Kit, Pod } from '../../core/plugin.ts'
import { type Options, optionsOf } from './options.ts'
import { interceptionOf } from './rules.ts'
import { readSettings, type Settings } from './settings.ts'
import { environmentOf, isSidecarPod, noSidecar, sidecarOf, trueAmong, warnOfIgnored } from './sidecar.ts'

/** Why no socket sees the pod's traffic as Istio would take it. */
function obstacle({ mode, rerouted }: Settings): string | undefined {
  if (mode === 'NONE') return 'interceptionMode NONE: Istio intercepts nothing in this pod, and neither does Merbridge'
  if (mode === 'TPROXY') {
    return 'interceptionMode TPROXY: the sidecar calls the app with the address of the client, and the way back of the answers is not built yet; use REDIRECT'
  }
  if (rerouted.length > 0) {
    const names = rerouted.slice(0, 4).join(', ')
    return `traffic of the virtual machine at ${names}: the pod forwards its packets, so no socket of the pod sees it`
  }
  return undefined
}

/** What the environment asks for and gets nothing. */
function warnOfNoEffect(pod: Pod, { setup, dropInvalid }: Options, kit: Kit): void {
  const names = setup === 'init' ? ['INVALID_DROP', 'DROP_INVALID'] : ['INVALID_DROP']
  const drop = trueAmong(pod, environmentOf(pod, setup), names, kit) ?? (dropInvalid ? 'dropInvalid' : undefined)
  if (drop !== undefined) {
    pod.warn(`${drop} has no effect: there is no address translation that an invalid packet could slip past, and TCP itself answers it`)
  }
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
      const { settings, refused, impossible } = readSettings(pod, options, kit)
      warnOfIgnored(pod, options.setup, kit)
      warnOfNoEffect(pod, options, kit)
      for (const complaint of [...refused, ...impossible]) pod.warn(complaint)
      if (refused.length > 0) return kit.refused(`Istio does not start a pod with ${refused.join('; ')}. Correct it and start the pod again`)
      const reason = impossible[0] ?? obstacle(settings)
      return reason === undefined ? { ...interceptionOf(settings), proxy: proxyOf(pod, settings) } : kit.cannot(reason)
    },
  })
}
