/**
 * Kuma's sidecar as kuma-init or kuma-cni sets it up, for both families, TCP and DNS. docs/kuma.md says what each annotation, label and option does.
 *
 *     pod, options --base.ts, settings.ts--> Settings --rules.ts--> Interception
 *
 * values.ts and exclusions.ts read the texts as Kuma does, tree.ts and flags.ts the configuration that Kuma's injector wrote, sidecar.ts decides
 * which pods have a sidecar.
 */
import type { Kit, Pod } from '../../core/plugin.ts'
import { short } from '../shared/text.ts'
import { type Options, optionsOf } from './options.ts'
import { interceptionOf } from './rules.ts'
import { readSettings, type Settings } from './settings.ts'
import { isSidecarPod, noSidecar, sidecarOf } from './sidecar.ts'

/** Why no socket sees the pod's traffic as Kuma would take it. */
function obstacle({ vnet }: Settings): string | undefined {
  if (vnet.length === 0) return undefined
  const networks = vnet.slice(0, 4).map(short).join(', ')
  return `traffic of the virtual networks ${networks}: the pod forwards their packets, so no socket of the pod sees them`
}

/** What the pod asks for and gets nothing. */
function warnOfNoEffect(pod: Pod, { dropInvalid, logs }: Settings): void {
  if (dropInvalid !== undefined) {
    pod.warn(`${dropInvalid} has no effect: there is no address translation that an invalid packet could slip past, and TCP itself answers it`)
  }
  if (logs !== undefined) pod.warn(`${logs} has no effect: there are no rules of iptables that could log; "merbridge monitor" shows the decisions`)
}

/** What the sidecar runs as; where its container does not say, what the rules take it for. */
function proxyOf(pod: Pod, { uid }: Settings) {
  const sidecar = sidecarOf(pod)
  const user = sidecar?.uid ?? uid
  return { uid: user, gid: sidecar?.gid ?? user }
}

export default (kit: Kit) => {
  const schema = optionsOf(kit)
  const defaults = schema.parse({})
  return kit.definePlugin<Options>({
    api: 1,
    name: 'kuma',
    options: schema,
    selects: (pod, options = defaults) => isSidecarPod(pod, options),
    describe: (pod, options) => {
      if (noSidecar(pod)) {
        return kit.cannot(
          'label kuma.io/sidecar-injection says that it shall have no sidecar; Kuma intercepts nothing in such a pod, and neither does Merbridge',
        )
      }
      const { settings, refused, impossible } = readSettings(pod, options, kit)
      warnOfNoEffect(pod, settings)
      for (const complaint of [...refused, ...impossible]) pod.warn(complaint)
      if (refused.length > 0) return kit.refused(`Kuma does not start a pod with ${refused.join('; ')}. Correct it and start the pod again`)
      const reason = impossible[0] ?? obstacle(settings)
      if (reason !== undefined) return kit.cannot(reason)
      const interception = interceptionOf(settings)
      return typeof interception === 'string' ? kit.cannot(interception) : { ...interception, proxy: proxyOf(pod, settings) }
    },
  })
}
