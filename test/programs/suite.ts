/** All programs in one site, each over plain text and over mTLS. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { fetchPrograms } from './packages.ts'
import type { Program } from './program.ts'
import { long, type Mode, type Site, startSite } from './site.ts'

await fetchPrograms()
// These files look at what is there, so they come after it was fetched.
const { nginx, http2 } = await import('./nginx.ts')
const { haproxy } = await import('./haproxy.ts')
const { node, go, java } = await import('./runtimes.ts')
const { redis } = await import('./redis.ts')
const { postgresql } = await import('./postgresql.ts')
const { grpc, webSocket, iperf3 } = await import('./streams.ts')
const programs: readonly Program[] = [nginx, http2, haproxy, node, go, java, redis, postgresql, grpc, webSocket, iperf3]

/** Messages that no chance accelerates */
const MANY = 500

/** `afterwards`: what must be true of the site after all programs. */
export function programSuite(mode: Mode, afterwards: Readonly<Record<string, (site: Site) => Promise<void>>> = {}): void {
  describe(`programs, acceleration: ${mode ?? 'not set'}`, { timeout: long ? 280_000 : 180_000 }, () => {
    let site: Site

    before(async () => {
      site = await startSite(mode)
      await Promise.all(programs.filter(({ missing }) => missing === false).map((program) => program.start(site)))
    })

    after(() => site?.[Symbol.asyncDispose]())

    for (const { name, missing, exercises, afterwards: checks = {} } of programs)
      describe(name, { skip: missing }, () => {
        for (const exercise of exercises)
          for (const way of ['plain', 'mTLS'] as const)
            test(`${exercise.name}, ${way}`, () =>
              exercise.run(site, way === 'plain' ? site.ways[0] : site.ways[1], `${name}: ${exercise.name}, ${way}`))
        for (const [what, check] of Object.entries(checks)) test(what, () => check(site))
      })

    for (const [what, check] of Object.entries(afterwards)) test(what, () => check(site))

    if (mode === 'proxies' || mode === 'all')
      for (const name of ['client', 'middle', 'server'] as const)
        test(`messages of the pod ${name} were accelerated`, async (t) => {
          const { accelerated, tcp, reasons } = await site.acceleration(name)
          const by = reasons.map(({ reason, messages }) => `${reason} ${messages}`).join(', ')
          const told = `${accelerated.messages} of ${accelerated.messages + tcp.messages}; by TCP: ${by}`
          t.diagnostic(`${name}: ${told}`)
          assert(accelerated.messages > MANY, told)
        })

    test('all of it went through the sidecars, and mTLS was spoken', { skip: nginx.missing }, async () => {
      const [client = {}, server = {}] = await Promise.all([site.sidecars.client.stats(), site.sidecars.server.stats()])
      const bytes = (stats: Readonly<Record<string, number>>, name: string) => stats[`cluster.${name}.upstream_cx_rx_bytes_total`] ?? 0
      for (const name of ['outbound', 'outbound-mtls']) assert(bytes(client, name) > site.big.size, `${name}: ${bytes(client, name)}`)
      assert(bytes(server, 'inbound') > 2 * site.big.size, `inbound: ${bytes(server, 'inbound')}`)
      assert((client['cluster.outbound-mtls.ssl.handshake'] ?? 0) > 0, 'handshakes')
    })
  })
}
