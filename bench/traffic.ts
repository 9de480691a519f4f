/** connect(), requests and DNS queries in the three variants. */

import { FORMS } from './addresses.ts'
import { type Comparison, figuresOf, type Setting } from './measure.ts'
import { startAgent, VARIANTS, Variant, type VariantName, type Workload } from './variants.ts'

const connects: readonly Workload[] = FORMS.map((form) => ({
  title: 'connect()',
  form,
  between: 'caller and sink',
  program: 'load',
  mode: 'connect',
  count: 300,
  runs: 3,
}))

const exchanges: readonly Workload[] = FORMS.map((form) => ({
  title: 'connect() and one exchange',
  form,
  between: 'asker and sink',
  program: 'load',
  mode: 'new',
  count: 200,
  runs: 1,
}))

const requests: readonly Workload[] = (
  [
    ['keep', 'request through two Envoys, connection kept', 300],
    ['new', 'request through two Envoys, new connection', 200],
  ] as const
).map(([mode, title, count]) => ({ title, form: 'IPv4', between: 'envoys', program: 'load', mode, count, runs: 1 }))

const queries: readonly Workload[] = (
  [
    ['connected', 'DNS, a connected socket for each'],
    ['kept', 'DNS, one connected socket'],
    ['fresh', 'DNS, sendto(), a socket for each'],
    ['sendto', 'DNS, sendto(), one socket'],
    ['second', 'DNS, sendto(), one socket, its second server'],
  ] as const
).flatMap(([mode, title]) => FORMS.map((form): Workload => ({ title, form, between: 'asker and sink', program: 'dns', mode, count: 400, runs: 1 })))

export async function trafficSetting(): Promise<Setting> {
  await using stack = new AsyncDisposableStack()
  const create = async (name: VariantName) => stack.use(await Variant.create(name))
  const merbridge = await create('merbridge')
  stack.use(await startAgent(merbridge))
  const byName: Record<VariantName, Variant> = { merbridge, none: await create('none'), iptables: await create('iptables') }
  for (const name of VARIANTS) await byName[name].check()
  const comparisons = [...connects, ...exchanges, ...requests, ...queries].map((workload): Comparison => {
    const run = (name: VariantName) => [name, async () => figuresOf(await byName[name].measure(workload))] as const
    const { title, form, between, count, runs } = workload
    return { title: between === 'envoys' ? title : `${title}, ${form}`, count, runs, variants: Object.fromEntries(VARIANTS.map(run)) }
  })
  const kept = stack.move()
  return { comparisons, [Symbol.asyncDispose]: () => kept.disposeAsync() }
}
