/**
 * Linkerd's proxy, as linkerd-init or linkerd-cni sets it up, for both families. docs/linkerd.md says what each annotation, argument, variable and option does.
 *
 *     pod, options --settings.ts--> Settings --rules.ts--> Interception
 *
 * flags.ts and args.ts read the arguments of linkerd-init, values.ts reads texts as Linkerd does, pods.ts decides which pods have a proxy, and complaints.ts collects what is wrong.
 */
import type { Interception, Kit, Pod } from '../../core/plugin.ts'
import { type Options, optionsOf } from './options.ts'
import { isMeshed, notInjected, proxyOf, unknownInject } from './pods.ts'
import { interceptionOf } from './rules.ts'
import { readSettings, type Settings } from './settings.ts'

const closeWait = 'config.linkerd.io/close-wait-timeout'

/** Linkerd's injector does not copy this one from the namespace. */
function warnOfNoEffect(pod: Pod, { setup }: Options): void {
  if (setup === 'init' && pod.annotations[closeWait] !== undefined) {
    pod.warn(`annotation ${closeWait} has no effect: it is about connection tracking, and there is none`)
  }
}

/** What the proxy runs as; where its container does not say, what the rules take it for. */
function identityOf(pod: Pod, { proxyUid, proxyGid }: Settings): NonNullable<Interception['proxy']> {
  const [uid, gid] = [proxyOf(pod)?.uid ?? proxyUid, proxyOf(pod)?.gid ?? proxyGid]
  return { ...(uid >= 0 && { uid }), ...(gid >= 0 && { gid }) }
}

export default (kit: Kit) => {
  const schema = optionsOf(kit)
  const defaults = schema.parse({})
  return kit.definePlugin<Options>({
    api: 1,
    name: 'linkerd',
    options: schema,
    selects: (pod, options = defaults) => isMeshed(pod, options),
    describe: (pod, options) => {
      const unknown = unknownInject(pod)
      if (unknown !== undefined) pod.warn(unknown)
      const none = notInjected(pod)
      if (none !== undefined) return kit.cannot(`${none}; Linkerd intercepts nothing in such a pod, and neither does Merbridge`)
      const { settings, refused } = readSettings(pod, options, kit)
      warnOfNoEffect(pod, options)
      for (const complaint of refused) pod.warn(complaint)
      if (refused.length > 0) return kit.refused(`Linkerd does not start a pod with ${refused.join('; ')}. Correct it and start the pod again`)
      if (settings.nothing !== undefined)
        return kit.cannot(`argument ${settings.nothing} of linkerd-init: it writes no rules, so nothing is intercepted in this pod`)
      return { ...interceptionOf(settings, options), proxy: identityOf(pod, settings) }
    },
  })
}
