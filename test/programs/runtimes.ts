/** HTTP servers, clients and TCP proxies of three languages: Node, Go and Java. */
import { cpSync } from 'node:fs'
import { join } from 'node:path'
import { java as javaCommand } from '../lab/java.ts'
import { call } from './call.ts'
import { goAbsent, goProgram, javaAbsent, javaClasses } from './packages.ts'
import { ports } from './ports.ts'
import { download, type Exercise, echo, expectFile, expectRequests, type Program } from './program.ts'
import { long, type Site, type Way } from './site.ts'

/** Clients at once, requests of each, and the largest body */
const [CLIENTS, REQUESTS, SIZE] = [8, long ? 100 : 25, 200_000]
const load = [CLIENTS, REQUESTS, SIZE].map(String)

const at = (port: number) => (way: Way) => `http://${way.server}:${port}`
const through = (port: number) => (way: Way) => `http://${way.middle}:${port}`

/** Clients that post random bodies and compare what comes back. */
const random = (name: string, url: (way: Way) => string, argv: (site: Site) => readonly string[], root = false): Exercise => ({
  name,
  run: (site, way, what) => expectRequests(site, what, { argv: [...argv(site), url(way), ...load], root }, CLIENTS * REQUESTS),
})

/** As root: its program is in the checkout, which other users may not read. */
const script = (name: string, ...words: readonly string[]) => [process.execPath, join(import.meta.dirname, 'node', name), ...words]

export const node: Program = {
  name: 'Node',
  missing: false,
  start: async (site) => {
    const { server } = site.ways[1]
    await Promise.all([
      site.serve(site.server, 'Node', script('serve.ts', String(ports.node), site.www), ports.node, 'root'),
      site.serve(site.middle, 'Node', script('pipe.ts', String(ports.nodePipe), server, String(ports.node)), ports.nodePipe, 'root'),
    ])
  },
  exercises: [
    download('download', at(ports.node), 'medium'),
    echo('both directions', at(ports.node)),
    random('its own client', at(ports.node), () => script('client.ts'), true),
    download('through pipe(), download', through(ports.nodePipe), 'medium'),
    random('through pipe(), its own client', through(ports.nodePipe), () => script('client.ts'), true),
  ],
}

const goIn = (site: Site) => join(site.root, 'go')

export const go: Program = {
  name: 'Go',
  missing: goAbsent(),
  start: async (site) => {
    cpSync(goProgram, goIn(site))
    const { server } = site.ways[1]
    await Promise.all([
      site.serve(site.server, 'Go', [goIn(site), 'serve', `0.0.0.0:${ports.go}`, site.www], ports.go),
      site.serve(site.middle, 'Go', [goIn(site), 'proxy', `0.0.0.0:${ports.goProxy}`, `${server}:${ports.go}`], ports.goProxy),
    ])
  },
  exercises: [
    download('net/http, download', at(ports.go), 'medium'),
    random('net/http, its own client', at(ports.go), (site) => [goIn(site), 'client']),
    {
      name: 'through io.Copy, its own client downloads',
      run: async (site, way, what) =>
        expectFile(
          site,
          what,
          site.medium,
          await call(site, { what, argv: [goIn(site), 'get', `${through(ports.goProxy)(way)}/${site.medium.name}`] }),
        ),
    },
    echo('through io.Copy, both directions', through(ports.goProxy)),
    random('through io.Copy, its own client', through(ports.goProxy), (site) => [goIn(site), 'client']),
  ],
}

const classes = (site: Site) => join(site.root, 'java')

export const java: Program = {
  name: 'Java',
  missing: javaAbsent(),
  start: async (site) => {
    cpSync(javaClasses, classes(site), { recursive: true })
    await site.serve(site.server, 'Java', javaCommand(classes(site), 'Exchange', 'serve', String(ports.java), site.www), ports.java)
  },
  exercises: [
    download('HttpServer, download', at(ports.java), 'medium'),
    random('HttpServer and HttpClient', at(ports.java), (site) => javaCommand(classes(site), 'Exchange', 'client')),
  ],
}
