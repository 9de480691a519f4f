/**
 * The sidecar of OSM (Open Service Mesh), osm-edge and FSM: rules of IPv4 for TCP, and one for the DNS proxy of osm-edge and FSM 1.0. docs/osm.md says what each annotation,
 * label and option does.
 *
 *     pod, options --script.ts or annotations.ts--> Settings --rules.ts--> Interception
 *
 * flavours.ts knows what differs between the three, and decides which pods have a sidecar; values.ts reads texts as the mesh and iptables do,
 * and frame.ts takes the script of osm-init apart.
 */
import type { Kit, Pod } from '../../core/plugin.ts'
import { fromAnnotations, warnOfDifferent, warnOfIgnored } from './annotations.ts'
import { containerOf, type Flavour, flavourOf, isSidecarPod, noSidecar, warnOfLateWords, wrongInjection } from './flavours.ts'
import { type Options, optionsOf } from './options.ts'
import { interceptionOf } from './rules.ts'
import { readScript } from './script.ts'
import { mostPorts, type Reading } from './settings.ts'

/** Why the mesh intercepts nothing in the pod. */
function obstacle(pod: Pod, { interceptionMode }: Options, flavour: Flavour): string | undefined {
  if (interceptionMode === 'NodeLevel') {
    return `interceptionMode NodeLevel: pods have no sidecar, the proxy of the node takes their traffic; ${flavour.title} has no rules in this pod, and neither has Merbridge`
  }
  if (interceptionMode === 'ebpf' || interceptionMode === 'none') {
    return `interceptionMode ${interceptionMode}: ${flavour.title} has no rules in this pod, and neither has Merbridge; it takes the place of rules with PodLevel or iptables`
  }
  const none = noSidecar(pod, flavour)
  return none === undefined ? undefined : `${none}; ${flavour.title} intercepts nothing in such a pod, and neither does Merbridge`
}

/** The rules of osm-init are those that the pod has, whatever its annotations have become since. */
function readSettings(pod: Pod, options: Options, flavour: Flavour): Reading {
  const script = containerOf(pod, flavour.init)?.args.at(-1)
  if (script === undefined) return fromAnnotations(pod, options, flavour)
  const reading = readScript(script, pod, flavour)
  if ('settings' in reading) warnOfDifferent(pod, reading.settings, flavour)
  return reading
}

function warnOfNoEffect(pod: Pod, { localDNSProxy }: Options, { title, dns }: Flavour, reading: Reading): void {
  if (!localDNSProxy || dns || ('settings' in reading && reading.settings.dns)) return
  pod.warn(`localDNSProxy has no effect: ${title} has no rule for DNS`)
}

export default (kit: Kit) => {
  const schema = optionsOf(kit)
  const defaults = schema.parse({})
  return kit.definePlugin<Options>({
    api: 1,
    name: 'osm',
    options: schema,
    selects: (pod, options = defaults) => isSidecarPod(pod, options),
    describe: (pod, options) => {
      const flavour = flavourOf(pod, options)
      const reason = obstacle(pod, options, flavour)
      if (reason !== undefined) return kit.cannot(reason)
      const reading = readSettings(pod, options, flavour)
      warnOfIgnored(pod, flavour)
      warnOfLateWords(pod, flavour)
      warnOfNoEffect(pod, options, flavour, reading)
      const refused = [...wrongInjection(pod, flavour), ...('refused' in reading ? reading.refused : [])]
      for (const complaint of refused) pod.warn(complaint)
      if (refused.length > 0)
        return kit.refused(`${flavour.title} does not start a pod with ${refused.join('; ')}. Correct it and start the pod again`)
      if ('cannot' in reading) return kit.cannot(reading.cannot)
      if ('refused' in reading) return kit.refused(reading.refused.join('; '))
      for (const list of reading.more) {
        pod.warn(`${list}; a rule of iptables takes ${mostPorts}, and with more ${flavour.title} does not start the pod. Merbridge takes them all`)
      }
      return interceptionOf(reading.settings)
    },
  })
}
