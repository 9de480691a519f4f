/**
 * Istio's ambient mode, as far as its rules in the pod go: what istio-cni sets up beside a ztunnel that listens inside the pod. docs/ambient.md says what
 * each annotation, label and option does, and what is not there yet.
 *
 *     pod, options --settings.ts--> Settings --rules.ts--> Interception
 */
import type { Kit } from '../../core/plugin.ts'
import { short } from '../shared/text.ts'
import { type Options, optionsOf } from './options.ts'
import { interceptionOf } from './rules.ts'
import { isAmbientPod, notAmbient, readSettings, refusedBy, rerouteAnnotation, type Settings, warnOfIgnored } from './settings.ts'

/** Why no socket sees the pod's traffic as Istio would take it. */
function obstacle({ rerouted }: Settings): string | undefined {
  if (rerouted.length === 0) return undefined
  const names = rerouted.slice(0, 4).map(short).join(', ')
  return `annotation ${rerouteAnnotation}: traffic of the virtual machine at ${names}: the pod forwards its packets, so no socket of the pod sees it`
}

export default (kit: Kit) => {
  const schema = optionsOf(kit)
  const defaults = schema.parse({})
  return kit.definePlugin<Options>({
    api: 1,
    name: 'ambient',
    options: schema,
    selects: (pod, options = defaults) => isAmbientPod(pod, options),
    describe: (pod, options) => {
      const none = notAmbient(pod)
      if (none !== undefined) return kit.cannot(`${none}; ambient intercepts nothing in such a pod, and neither does Merbridge`)
      warnOfIgnored(pod)
      const settings = readSettings(pod, options, kit)
      const refused = refusedBy(settings)
      if (refused !== undefined) {
        pod.warn(refused)
        return kit.refused(`Istio does not start a pod with ${refused}. Correct it and start the pod again`)
      }
      const reason = obstacle(settings)
      return reason === undefined ? interceptionOf(settings) : kit.cannot(reason)
    },
  })
}
