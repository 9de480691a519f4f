/** HAProxy as a reverse proxy that is an app: with splice(2) and without, and in TCP mode. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { missing } from '../lab/packages.ts'
import { absent } from './packages.ts'
import { ports } from './ports.ts'
import { download, echo, type Program } from './program.ts'
import type { Site, Way } from './site.ts'

const configuration = (home: string, frontends: string, server: string) => `
global
  stats socket ${home}/stats
defaults
  timeout connect 5s
  timeout client 30s
  timeout server 30s
${frontends}
backend files
  mode http
  server files ${server}:${ports.nginx}
backend echo
  mode http
  server echo ${server}:${ports.node}
backend bytes
  mode tcp
  server bytes ${server}:${ports.nginx}
`

const web = (port: number, option: string) => `
frontend web
  mode http
  bind 0.0.0.0:${port}
  ${option}
  use_backend echo if { path /echo }
  default_backend files
`

const bytes = `
frontend bytes
  mode tcp
  bind 0.0.0.0:${ports.haproxyTcp}
  option splice-auto
  default_backend bytes
`

const homes = new WeakMap<Site, Readonly<Record<'splicing' | 'copying', string>>>()

async function start(site: Site): Promise<void> {
  const run = async (frontends: string, port: number) => {
    const home = site.directory(`haproxy-${port}`)
    const file = join(home, 'haproxy.cfg')
    writeFileSync(file, configuration(home, frontends, site.ways[1].server))
    await site.serve(site.middle, 'HAProxy', ['/usr/sbin/haproxy', '-db', '-f', file], port)
    return home
  }
  const [splicing, copying] = await Promise.all([
    run(`${web(ports.haproxySplice, 'option splice-auto')}${bytes}`, ports.haproxySplice),
    run(web(ports.haproxyPlain, ''), ports.haproxyPlain),
  ])
  homes.set(site, { splicing, copying })
}

/** What HAProxy says of itself: how many bytes went by splice(2). */
async function spliced(site: Site, which: 'splicing' | 'copying'): Promise<number> {
  const socket = createConnection(join(homes.get(site)?.[which] ?? '', 'stats'))
  await once(socket, 'connect')
  socket.write('show info\n')
  const told = /^TotalSplic\w*BytesOut: (\d+)$/m.exec(await text(socket))
  assert(told !== null, 'HAProxy does not say how much it has spliced')
  return Number(told[1])
}

const at = (port: number) => (way: Way) => `http://${way.middle}:${port}`

export const haproxy: Program = {
  name: 'HAProxy',
  missing: missing('haproxy') || absent('nginx'),
  start,
  exercises: [
    download('with splice-auto, download', at(ports.haproxySplice), 'medium'),
    echo('with splice-auto, both directions', at(ports.haproxySplice)),
    download('with splice-auto in TCP mode', at(ports.haproxyTcp), 'medium'),
    download('without splice, download', at(ports.haproxyPlain), 'medium'),
    echo('without splice, both directions', at(ports.haproxyPlain)),
  ],
  afterwards: {
    'the one with splice-auto has spliced': async (site) => assert((await spliced(site, 'splicing')) >= site.medium.size),
    'the other has not': async (site) => assert.equal(await spliced(site, 'copying'), 0),
  },
}
