/** Reads what a pod says, and collects what Linkerd refuses or passes over: each becomes one warning. */
import type { Pod, PortSpec } from '../../core/plugin.ts'
import { messageOf } from '../shared/text.ts'
import { portList, quoted } from './values.ts'

export interface Complaints {
  /** Values that Linkerd does not start the pod with. */
  readonly refused: readonly string[]
  /** What cannot be read is refused, and the fallback is taken. */
  read<From, T>(title: string, from: From, parse: (from: From) => T, fallback: T): T
  refuse(title: string, message: string): void
  ignored(title: string, message: string): void
  /** Elements that are no ports are dropped. `alone`: nothing else is in the rule, and one without ports fails; default true. */
  ports(title: string, elements: readonly string[], which?: { readonly alone?: boolean }): readonly PortSpec[]
}

const portsExpected = 'expected ports and ranges like 8080,9000-9099, without blanks'

export function complaintsOf(pod: Pod): Complaints {
  const refused: string[] = []
  const refuse = (title: string, message: string) => {
    refused.push(`${title}: ${message}`)
  }
  const ignored = (title: string, message: string) => pod.warn(`${title}: ${message}; Linkerd ignores it`)
  return {
    refused,
    refuse,
    ignored,
    read(title, from, parse, fallback) {
      try {
        return parse(from)
      } catch (error) {
        refuse(title, messageOf(error))
        return fallback
      }
    },
    ports(title, elements, { alone = true } = {}) {
      const { ports, dropped } = portList(elements)
      const message = `${portsExpected}, got ${quoted(dropped)}`
      if (dropped.length === 0) return ports
      if (ports.length === 0 && alone) refuse(title, `${message}; no port is left, and iptables takes no rule without one`)
      else ignored(title, message)
      return ports
    },
  }
}
