/** Asks the kernel where a pod's connections would go, and the mirror of its routes, and compares. */
import assert from 'node:assert/strict'
import { formatAddress, network, parseAddress, type Words } from '../../core/address.ts'
import { RouteKind } from '../../core/contract.ts'
import type { Address, NamespaceState } from '../../core/native/api.ts'
import { native } from '../../core/native/index.ts'
import { until } from '../lab/agent.ts'
import { type LabPod, must } from '../lab/net.ts'
import { routeReference } from '../unit/pods.ts'

/** Connects to each address without waiting; prints errno and the source that the kernel chose. */
const probe = `
import json, socket, sys
out = {}
for host in json.load(sys.stdin):
    s = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    s.setblocking(False)
    address, _, zone = host.partition('%')
    error = s.connect_ex((address, 9, 0, socket.if_nametoindex(zone)) if zone else (address, 9))
    out[host] = [error if error != 115 else 0, s.getsockname()[0]]
    s.close()
print(json.dumps(out))
`

/** The first and the last address of each network, and their neighbours. */
function edges(networks: readonly { readonly destination: string; readonly prefix: number }[]): string[] {
  const all = networks.flatMap(({ destination, prefix }) => {
    const base = parseAddress(destination)
    assert.ok(base)
    const bits = base.family === 4 ? 32 : 128
    const low = network(base, prefix).words.reduce((sum, word) => (sum << 32n) | BigInt(word), 0n) >> (bits === 32 ? 96n : 0n)
    const high = low + (1n << BigInt(bits - prefix)) - 1n
    const near = [low - 1n, low, low + 1n, high - 1n, high, high + 1n].filter((value) => value > 0n && value < 1n << BigInt(bits))
    return near.map((value) => {
      const wide = bits === 32 ? value << 96n : value
      const words = [96n, 64n, 32n, 0n].map((shift) => Number(BigInt.asUintN(32, wide >> shift))) as unknown as Words
      return formatAddress({ family: base.family, words })
    })
  })
  return [...new Set(all)]
}

/** What connect() gives for each address ("fe80::1%eth0" too): errno, and the source that the kernel chose. */
export async function connectResults(pod: LabPod, addresses: readonly string[]): Promise<Record<string, [errno: number, source: string]>> {
  return JSON.parse(await must(pod.command(['/usr/bin/python3', '-c', probe]), { input: JSON.stringify(addresses) }))
}

export async function stateOf(pod: LabPod): Promise<NamespaceState> {
  const [state] = await native.namespaces.inspect([pod.netns])
  assert.ok(state !== undefined && 'routes' in state, String(state))
  return state
}

/** Nobody's source yet, and no destination. */
export const isTentative = ({ flags = 0 }: Address): boolean => (flags & 0x40) !== 0 && (flags & 0x04) === 0

/** The kernel makes the route to an own address of IPv6 a moment after the address, in the background. */
export function hasOwnRoutes({ addresses, routes }: NamespaceState): boolean {
  const local = new Set(routes.filter(({ table }) => table === 255).map(({ destination }) => destination))
  return addresses.every((each) => each.family === 4 || isTentative(each) || local.has(each.address))
}

/** Lines with a leading -6 come last. */
export async function batch(pod: LabPod, commands: string): Promise<void> {
  const [four, six] = [/^(?!-6)/, /^-6 /].map((own) => commands.split('\n').filter((line) => own.test(line)))
  await must(pod.command(['ip', '-batch', '-']), { input: `${four?.join('\n')}\n` })
  await must(pod.command(['ip', '-6', '-batch', '-']), { input: `${six?.map((line) => line.slice(3)).join('\n')}\n` })
}

/** Asks for the edges of every route and for `more`. */
export async function compareWithKernel(pod: LabPod, more: readonly string[] = []): Promise<number> {
  const state = await until('a route to each own address', 2000, async () => {
    const now = await stateOf(pod)
    return hasOwnRoutes(now) ? now : undefined
  })
  const { routes, interfaces, cookie: netns } = state
  const reference = routeReference(state)
  const fixed = ['8.8.8.8', '255.255.255.255', '224.0.0.1', '239.255.255.255', '127.255.255.255', '2001:db8::1', 'ff02::1', 'ff0e::1', '::1']
  const asked = [...new Set([...edges(routes), ...fixed, ...more])].filter((text) => !/^(fe[89ab].:|::ffff)/.test(text))
  const seen = await connectResults(pod, asked)
  // connect() looks again when the source is known: IPv4 always, IPv6 only after an error. The last answer of these counts below.
  const looks = Object.entries(seen).flatMap(([to, [, source]]) => {
    const [open, known] = [`route get ${to}`, `route get ${to} from ${source}`]
    return to.includes(':') ? [known, open] : [open, known]
  })
  const gets = await pod.exec(['ip', '-oneline', '-force', '-batch', '-'], { input: `${looks.join('\n')}\n` })
  const locals = new Set([...gets.stdout.matchAll(/^(?:local|anycast) (\S+)/gm)].map(([, to]) => to))
  const devices = new Map([...gets.stdout.matchAll(/^(?:(?:local|anycast) )?(\S+) .*?dev (\S+)/gm)].map(([, to, device]) => [to, device]))
  const nameOf = new Map(interfaces.map(({ index, name }) => [index, name]))
  for (const [to, [errno, source]] of Object.entries(seen)) {
    const mirrored = reference.route(netns, to)
    const local = locals.has(to)
    // Left to the kernel: IPv4 networks that are local as a whole, where the source depends on the destination.
    const known = mirrored.source !== '0.0.0.0' && mirrored.source !== '::'
    assert.ok(known || errno !== 0 || (local && !to.includes(':')), `${to}: no source is known`)
    const found =
      mirrored.kind === RouteKind.UNREACHABLE
        ? { errno: mirrored.error }
        : {
            errno: 0,
            local: mirrored.kind === RouteKind.LOCAL,
            source: known ? mirrored.source : source,
            device: mirrored.kind === RouteKind.LOCAL ? 'lo' : nameOf.get(mirrored.interface),
          }
    assert.deepEqual(found, errno === 0 ? { errno, local, source, device: devices.get(to) } : { errno }, to)
  }
  return asked.length
}
