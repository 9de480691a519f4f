/** nginx: static files with and without sendfile, kept connections, HTTP/2, and as a reverse proxy. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { call } from './call.ts'
import { absent, packaged, place } from './packages.ts'
import { ports } from './ports.ts'
import { curl, download, type Exercise, expectFile, type Program } from './program.ts'
import type { Site, Way } from './site.ts'

const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${name};`).join(' ')

const configuration = (servers: string) => `
daemon off; master_process off; pid nginx.pid; error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off; keepalive_requests 100000; ${temporary}
  ${servers}
}
`

const files = (www: string) => `
  server { listen 0.0.0.0:${ports.nginx}; root ${www}; sendfile on; tcp_nopush on; }
  server { listen 0.0.0.0:${ports.nginxNoSendfile}; root ${www}; sendfile off; }
  server { listen 0.0.0.0:${ports.nginxHttp2} http2; root ${www}; sendfile on; }
`

const reverse = (server: string) => `
  upstream files { server ${server}:${ports.nginx}; keepalive 8; }
  server {
    listen 0.0.0.0:${ports.nginxProxy};
    location / { proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_max_temp_file_size 0; }
  }
`

async function start(site: Site): Promise<void> {
  const run = async (pod: Site['server'], servers: string, port: number) => {
    const home = site.directory(`nginx-${pod.name}`)
    const file = join(home, 'nginx.conf')
    writeFileSync(file, configuration(servers))
    await site.serve(pod, 'nginx', [...packaged(site.root), place(site.root, 'nginx'), '-e', 'stderr', '-p', home, '-c', file], port)
  }
  await Promise.all([run(site.server, files(site.www), ports.nginx), run(site.middle, reverse(site.ways[1].server), ports.nginxProxy)])
}

const at = (port: number) => (way: Way) => `http://${way.server}:${port}`
const through = (way: Way) => `http://${way.middle}:${ports.nginxProxy}`

/** Many requests on one connection, whose answers come out as one stream. */
const kept = (name: string, url: (way: Way) => string, ...flags: readonly string[]): Exercise => ({
  name,
  run: async (site, way, what) => {
    const count = 20
    const argv = [...curl, ...flags, '--write-out', '%{stderr}%{num_connects} ', `${url(way)}/${site.small.name}?[1-${count}]`]
    const answer = await call(site, { what, argv })
    const hash = createHash('sha256')
    for (let round = 0; round < count; round++) hash.update(readFileSync(site.small.path))
    expectFile(site, what, { size: count * site.small.size, sha256: hash.digest('hex') }, answer)
    assert.deepEqual(answer.stderr.trim().split(' '), ['1', ...Array(count - 1).fill('0')], 'one connection for all requests')
  },
})

/** Many clients at once, which count bytes. */
const loaded = (name: string, url: (way: Way) => string, requests: number, ...flags: readonly string[]): Exercise => ({
  name,
  run: async (site, way, what) => {
    const argv = [place(site.root, 'h2load'), ...flags, '-n', String(requests), '-c', '8', '-t', '1', `${url(way)}/${site.tiny.name}`]
    const { text } = await call(site, { what, argv: [...packaged(site.root), ...argv] })
    assert.match(text, new RegExp(`${requests} succeeded, 0 failed, 0 errored, 0 timeout`), text)
    assert.match(text, new RegExp(` \\(${requests * site.tiny.size}\\) data`), text)
  },
})

/** Not with curl: that of Debian 12 cannot use a connection of HTTP/2 again that was not negotiated (curl issue 10634). */
const multiplexed: Exercise = {
  name: 'streams of one connection',
  run: async (site, way, what) => {
    const script = join(import.meta.dirname, 'node/http2.ts')
    const argv = [process.execPath, script, at(ports.nginxHttp2)(way), `/${site.small.name}`, '8', '4']
    const { text } = await call(site, { what, argv, root: true })
    assert.equal(text.trim(), `32 ${site.small.sha256}`)
  },
}

export const nginx: Program = {
  name: 'nginx',
  missing: absent('nginx', 'h2load'),
  start,
  exercises: [
    download('a large download with its checksum', at(ports.nginx), 'big'),
    download('without sendfile', at(ports.nginxNoSendfile), 'medium'),
    kept('kept connection', at(ports.nginx)),
    loaded('HTTP/1.1 from many clients', at(ports.nginx), 3000, '--h1'),
    download('proxy_pass', through, 'medium'),
    kept('proxy_pass, kept connection', through),
    loaded('proxy_pass, many clients', through, 1000, '--h1'),
  ],
}

export const http2: Program = {
  name: 'HTTP/2',
  missing: absent('nginx', 'h2load'),
  start: async () => {}, // nginx serves
  exercises: [
    download('download', at(ports.nginxHttp2), 'medium', '--http2-prior-knowledge'),
    multiplexed,
    loaded('many streams', at(ports.nginxHttp2), 3000, '-m', '10'),
  ],
}
