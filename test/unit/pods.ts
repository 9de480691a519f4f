/** Pods as tests want them: facts for plugins, routes for compile. */
import { type CompilePod, compile, type Desired } from '../../core/compile/compile.ts'
import { type Capacities, mapNames } from '../../core/compile/maps.ts'
import { compileRoutes } from '../../core/compile/routes.ts'
import type { PodFacts } from '../../core/describe.ts'
import type { Address, NamespaceState, Route, Rule } from '../../core/native/api.ts'
import type { Container, Interception } from '../../core/plugin.ts'
import { Reference } from './reference.ts'

export const roomy = Object.fromEntries(mapNames.map((name) => [name, 100_000])) as Capacities

export const container = (name: string, more: Partial<Container> = {}): Container => ({ name, args: [], env: {}, ports: [], ...more })

export const podFacts = (more: Partial<PodFacts> = {}): PodFacts => ({
  name: 'web',
  namespace: { name: 'default', labels: {}, annotations: {} },
  labels: {},
  annotations: {},
  containers: [container('app'), container('istio-proxy')],
  addresses: ['10.9.0.2', 'fd09::2'],
  ...more,
})

const route = (destination: string, prefix: number, table: number, type: number, more: Partial<Route> = {}): Route => ({
  family: destination.includes(':') ? 6 : 4,
  destination,
  prefix,
  table,
  type,
  metric: 0,
  index: 2,
  ...more,
})

export const rule = (priority: number, more: Partial<Rule> = {}): Rule => ({
  family: 4,
  priority,
  action: 1,
  table: 0,
  inverted: false,
  mark: 0,
  mask: 0,
  suppress: -1,
  others: [],
  ...more,
})

const address = (text: string, prefix: number, more: Partial<Address> = {}): Address => ({
  family: text.includes(':') ? 6 : 4,
  address: text,
  prefix,
  index: 2,
  interface: 'eth0',
  scope: 0,
  secondary: false,
  ...more,
})

/** 10.9.0.2/24 and fd09::2/64 on eth0 with a gateway for both families. */
export const podAddresses: readonly Address[] = [
  address('127.0.0.1', 8, { index: 1, interface: 'lo', scope: 254 }),
  address('10.9.0.2', 24),
  address('fd09::2', 64),
]

export const podRoutes: readonly Route[] = [
  route('127.0.0.0', 8, 255, 2, { source: '127.0.0.1', index: 1 }),
  route('127.0.0.1', 32, 255, 2, { source: '127.0.0.1', index: 1 }),
  route('10.9.0.2', 32, 255, 2, { source: '10.9.0.2' }),
  route('10.9.0.255', 32, 255, 3, { source: '10.9.0.2' }),
  route('10.9.0.0', 24, 254, 1, { source: '10.9.0.2' }),
  route('0.0.0.0', 0, 254, 1, { gateway: '10.9.0.1' }),
  route('::1', 128, 255, 2, { index: 1 }),
  route('::6', 128, 255, 2, { index: 1 }),
  route('fd09::2', 128, 255, 2),
  route('fd09::', 64, 254, 1, { metric: 256 }),
  route('::', 0, 254, 1, { gateway: 'fd09::1', metric: 1024 }),
]

export { address, route }

export const compilePod = (interception: Interception, more: Partial<CompilePod> = {}): CompilePod => ({
  name: 'default/web',
  netns: 1n,
  interception,
  routes: podRoutes,
  addresses: podAddresses,
  ...more,
})

export const compileOne = (interception: Interception): Desired => compile({ pods: [compilePod(interception)] }, roomy)

/** What the routes of one namespace say. */
export function routeReference({ cookie, routes, addresses, rules }: Pick<NamespaceState, 'cookie' | 'routes' | 'addresses' | 'rules'>): Reference {
  const entries = compileRoutes(cookie, routes, addresses, rules).map((entry) => [entry.key.toString('hex'), entry] as const)
  const none = compile({ pods: [] }, roomy)
  return new Reference({ ...none, maps: { ...none.maps, routes: new Map(entries) } })
}
