/** Annotations that are there and decide nothing: one warning each. */
import type { Pod, PortSpec } from '../../core/plugin.ts'
import type { Options } from './options.ts'
import { isControlPlane } from './pods.ts'
import type { Settings } from './settings.ts'
import { flagElements, portList, subnets } from './values.ts'

const portNames = ['inbound-port', 'outbound-port', 'control-port', 'admin-port']

/** undefined: it cannot be read, so that it is no list of the arguments either. */
function read<T>(text: string, parse: (elements: readonly string[]) => readonly T[]): readonly T[] | undefined {
  try {
    return parse(flagElements(text))
  } catch {
    return undefined
  }
}

/** All of `listed` are there, and at most so many others: what the injector adds. */
function covers<T>(all: readonly T[], listed: readonly T[] | undefined, others: number): boolean {
  const known = new Set(all)
  return listed?.every((each) => known.has(each)) === true && known.size - new Set(listed).size <= others
}

const portsIn = (elements: readonly string[]): readonly PortSpec[] => portList(elements).ports

/** The annotations that the injector would have made other arguments of. The control port and the admin port stand among those that are not captured. */
function differing(pod: Pod, { version }: Options, { skipInboundPorts, skipOutboundPorts, skipSubnets }: Settings): readonly string[] {
  const differs: Readonly<Record<string, (text: string) => boolean>> = {
    'skip-inbound-ports': (text) => !covers(skipInboundPorts, read(text, portsIn), 2),
    'skip-outbound-ports': (text) => !covers(skipOutboundPorts, read(text, portsIn), isControlPlane(pod) ? Number.POSITIVE_INFINITY : 0),
    'skip-subnets': (text) => version !== '2.10' && !covers(skipSubnets, read(text, subnets), 0),
  }
  return Object.entries(differs).flatMap(([name, wrong]) => {
    const text = pod.annotations[`config.linkerd.io/${name}`]
    return text !== undefined && wrong(text) ? [name] : []
  })
}

/** `told`: what the arguments of linkerd-init say; absent: there are none. */
export function warnOfIgnored(pod: Pod, options: Options, told: Settings | undefined): void {
  const ignored = (name: string, why: string) => pod.warn(`annotation config.linkerd.io/${name}: it is ignored: ${why}`)
  if (told !== undefined) {
    for (const name of told.nothing === undefined ? differing(pod, options, told) : [])
      ignored(name, 'the arguments of linkerd-init say something else and win')
    return
  }
  if (options.setup === 'init') return
  for (const name of portNames)
    if (pod.annotations[`config.linkerd.io/${name}`] !== undefined) ignored(name, 'the CNI plugin takes this port from its own configuration only')
}
