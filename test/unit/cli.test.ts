/** The command line as an operator uses it: bin/merbridge as a process of its own. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text as streamText } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { parse } from 'yaml'
import { serveControl } from '../../core/control/server.ts'
import { explainView, inForce, podView, podViews, statusView } from './control-views.ts'

const launcher = join(import.meta.dirname, '../../bin/merbridge')
const root = mkdtempSync(join(tmpdir(), 'merbridge-cli-'))
const end = new AbortController()
after(() => {
  end.abort()
  rmSync(root, { recursive: true, force: true })
})

interface Result {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

async function merbridge(args: readonly string[], options: { readonly cwd?: string; readonly input?: string } = {}): Promise<Result> {
  const child = spawn(launcher, args, { cwd: options.cwd ?? root, stdio: 'pipe', timeout: 30_000 })
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const [stdout, stderr, [code]] = await Promise.all([streamText(child.stdout), streamText(child.stderr), once(child, 'close')])
  return { code, stdout, stderr }
}

const file = (name: string, content: string): string => {
  writeFileSync(join(root, name), content)
  return join(root, name)
}

const socket = join(root, 'agent.sock')
const good = file('good.yaml', `version: 1\nmesh: istio\ncontrol: { socket: ${socket} }\n`)
const bad = file('bad.yaml', 'version: 1\nmesh: istoi\noptions: { proxyPort: 70000 }\n')
const idle = file('idle.yaml', `version: 1\nmesh: istio\ncontrol: { socket: ${join(root, 'nobody.sock')} }\n`)

const commands = ['run', 'validate', 'plan', 'schema', 'status', 'pods', 'explain', 'selftest', 'detach']

test('help of every command has an example; the version is that of the package', async () => {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'))
  assert.deepEqual(await merbridge(['--version']), { code: 0, stdout: `${version}\n`, stderr: '' })
  const whole = await merbridge(['--help'])
  for (const command of commands) assert.match(whole.stdout, new RegExp(`^  ${command} `, 'm'))
  for (const command of commands) {
    const { code, stdout } = await merbridge([command, '--help'])
    assert.equal(code, 0)
    assert.match(stdout, new RegExp(`\\$ merbridge ${command}`), command)
    for (const option of ['--config', '--output']) assert(stdout.includes(option), `${command} ${option}`)
  }
  assert.match((await merbridge(['run', '--help'])).stdout, /SIGHUP .*SIGTERM/)
})

test('wrong use is exit 2 with the way out, also as JSON', async () => {
  for (const args of [
    [],
    ['validat'],
    ['status', '--colour'],
    ['status', '--output', 'xml'],
    ['pods', 'a', 'b'],
    ['explain', 'web'],
    ['explain', 'web', '10.0.0.1:80', '--config', idle, '--uid', 'root'],
    ['explain', 'web', '10.0.0.1', '--config', idle],
    ['detach', '--bypass', '--block', '--config', good],
  ]) {
    const { code, stdout, stderr } = await merbridge(args)
    assert.deepEqual([code, stdout], [2, ''], args.join(' '))
    assert.match(stderr, /^merbridge: .+\n {2}.+\n$/, args.join(' '))
  }
  assert.match((await merbridge(['validat'])).stderr, /Did you mean validate/)
  const { code, stderr } = await merbridge(['status', '--colour', '--output=json'])
  assert.equal(code, 2)
  assert.equal(JSON.parse(stderr).error.code, 'USAGE')
})

test('validate: ok, relative paths, standard input', async () => {
  assert.deepEqual(await merbridge(['validate', good]), { code: 0, stdout: 'ok: mesh istio, 0 pods listed\n', stderr: '' })
  assert.equal((await merbridge(['validate', 'good.yaml'])).code, 0)
  assert.equal((await merbridge(['validate', '--config', 'good.yaml'])).code, 0)
  mkdirSync(join(root, 'sub'))
  assert.equal((await merbridge(['validate', '../good.yaml'], { cwd: join(root, 'sub') })).code, 0)
  assert.equal((await merbridge(['validate', '-'], { input: readFileSync(good, 'utf8') })).code, 0)
  assert.deepEqual(JSON.parse((await merbridge(['validate', good, '--output', 'json'])).stdout), {
    ok: true,
    file: good,
    meshes: ['istio'],
    pods: 0,
    warnings: [],
  })
  assert.equal(parse((await merbridge(['validate', good, '--output', 'yaml'])).stdout).meshes[0], 'istio')
})

test('validate: every mistake with its place, exit 2, never a stack trace', async () => {
  const { code, stdout, stderr } = await merbridge(['validate', bad])
  assert.deepEqual([code, stdout], [2, ''])
  assert.match(stderr, /bad\.yaml:2:7: mesh: must be [a-z, ]+, but is "istoi"\n {2}2 \| mesh: istoi\n {4}\| {7}\^{5}\n {2}Did you mean "istio"\?/)
  const asJson = await merbridge(['validate', bad, '--output', 'json'])
  const json = JSON.parse(asJson.stdout)
  assert.deepEqual([asJson.code, asJson.stderr, json.ok], [2, '', false])
  assert.equal(json.error.code, 'CONFIG_INVALID')
  assert.deepEqual(Object.keys(json.error.issues[0]).sort(), ['column', 'hint', 'line', 'message', 'path'])
  assert.deepEqual([json.error.issues[0].line, json.error.issues[0].column, json.error.issues[0].path], [2, 7, 'mesh'])
  const port = await merbridge(['validate', '-'], { input: 'version: 1\nmesh: istio\noptions: { proxyPort: 70000 }\n' })
  assert.match(port.stderr, /<stdin>:3:23: options\.proxyPort: must be at most 65535, but is 70000/)
  assert.equal((await merbridge(['validate', '-'], { input: '#'.repeat(3 * 1024 * 1024) })).code, 2)
  for (const [args, message] of [
    [['validate', 'none.yaml'], /none\.yaml: no such file/],
    [['validate', root], /is a directory/],
    [['validate', '/dev/null'], /not a regular file/],
  ] as const) {
    const result = await merbridge(args)
    assert.equal(result.code, 2)
    assert.match(result.stderr, message)
    assert.doesNotMatch(result.stderr, /^\s+at /m)
  }
})

test('run with a config that cannot be used, and no last good one: exit 2 with the message', async () => {
  const { code, stderr } = await merbridge(['run', '--config', bad, '--state-dir', join(root, 'state')])
  assert.equal(code, 2)
  assert.match(stderr, /bad\.yaml:2:7/)
  assert.doesNotMatch(stderr, /^\s+at /m)
})

test('no agent: exit 3, what to type, and that the datapath may be there', async () => {
  for (const command of ['status', 'pods']) {
    const { code, stderr } = await merbridge([command, '--config', idle])
    assert.equal(code, 3)
    assert.match(stderr, /no agent answers at .*nobody\.sock; the datapath .* may still be in place/)
    assert.match(stderr, /merbridge run/)
  }
  assert.equal(JSON.parse((await merbridge(['status', '--config', idle, '--output', 'json'])).stderr).error.code, 'AGENT_NOT_RUNNING')
})

test('status and pods of a running agent', async () => {
  // Made now: the tests before this one may have taken longer than the minutes that are shown are exact.
  const ago = (milliseconds: number) => new Date(Date.now() - milliseconds).toISOString()
  const { agent, config } = statusView
  const fresh = {
    ...statusView,
    agent: { ...agent, startedAt: ago(3_900_000) },
    config: { ...config, lastReload: { ...config.lastReload, at: ago(120_000) } },
  }
  const refuse = async () => Promise.reject(new Error('not asked for'))
  const explain = async (query: URLSearchParams) => ({ ...explainView, notes: [String(query)] })
  const handlers = {
    status: async () => fresh,
    pods: async () => [...podViews],
    acceleration: refuse,
    accelerate: refuse,
    config: async () => inForce,
    explain,
    reload: refuse,
    events: () => () => {},
    stop: refuse,
  }
  await serveControl(socket, handlers, end.signal)

  assert.deepEqual(JSON.parse((await merbridge(['status', '--config', good, '--output', 'json'])).stdout), fresh)
  assert.deepEqual(parse((await merbridge(['status', '--config', good, '--output', 'yaml'])).stdout), fresh)
  const status = (await merbridge(['status', '--config', good])).stdout
  const order = [
    /NOT READY, pid 42, up 1 h [5-9] min/,
    /the config is refused/,
    /REFUSED [2-6] min ago: config\.yaml:3:1/,
    /reloads +3 applied, 1 unchanged, 2 refused/,
    /meshes\[0\] +istio, 3 pods\nmeshes\[1\] +acme, 0 pods/,
    /warning +line 9: meshes\[1\]\.match matches no pod/,
    /3 pods listed: 1 enrolled, 1 waiting, 1 FAILED/,
    /shop\/api +waiting +its network namespace/,
    /no_listener +12/,
    /theirs \(3, foreign\), then mb_connect4 \(5\)/,
    /netns cookie in sock_ops +yes/,
    /cidr_sets +900 +1000 +90 %/,
  ]
  const places = order.map((pattern) => status.search(pattern))
  assert(!places.includes(-1), `${places}\n${status}`)
  assert.deepEqual(
    [...places].sort((a, b) => a - b),
    places,
    'the most important first',
  )
  assert(!status.includes('\u001b'))

  assert.deepEqual(JSON.parse((await merbridge(['pods', '--config', good, '--output', 'json'])).stdout), podViews)
  const list = (await merbridge(['pods', '--config', good])).stdout.split('\n').map((line) => line.split(/ +/)[0])
  assert.deepEqual(list, ['POD', 'shop/old', 'shop/api', 'default/web', ''])
  const pod = (await merbridge(['pods', 'web', '--config', good])).stdout
  assert.match(
    pod,
    /THEN +HITS +TCP\/IPv4 +UDP\/IPv6\n +0 +skipped port +port skipped +pass +2 +2 +0\n +1 +everything else +always +outbound \(127\.0\.0\.1:15001\) +9 +2 +7\n/,
  )
  assert.match(pod, /mesh +istio, by meshes\[0\]: its match\noverlap +meshes\[1\] \(acme\) would have taken it, too, but comes later\n/)
  assert.deepEqual(JSON.parse((await merbridge(['pods', 'default/web', '--config', good, '--output', 'json'])).stdout), podView)
  const asked = ['explain', 'web', 'from-proxy', '[fd00::1]:80', '--mark', '0x539', '--config', good]
  const notes = ['pod=web&who=from-proxy&to=%5Bfd00%3A%3A1%5D%3A80&mark=0x539']
  assert.deepEqual(JSON.parse((await merbridge([...asked, '--output', 'json'])).stdout), { ...explainView, notes })
  assert.match((await merbridge(asked)).stdout, /^default\/web +10\.96\.0\.10:80\/tcp from the app\ndecided by +outbound rule 1 'everything else'/)
  const unknown = await merbridge(['pods', 'wbe', '--config', good])
  assert.equal(unknown.code, 1)
  assert.match(unknown.stderr, /no pod "wbe"\n {2}Did you mean web\?/)
})

test('commands that ask the agent do not care whether a plugin of the config can be loaded; those that read the config do', async () => {
  const foreign = file(
    'foreign.yaml',
    `version: 1\nmeshes:\n  - mesh: { path: /nowhere/acme.ts }\n    options: { any: thing }\ncontrol: { socket: ${join(root, 'nobody.sock')} }\n`,
  )
  for (const command of ['status', 'pods']) {
    const { code, stderr } = await merbridge([command, '--config', foreign])
    assert.equal(code, 3, stderr)
    assert.match(stderr, /no agent answers at .*nobody\.sock/)
  }
  for (const args of [
    ['validate', foreign],
    ['run', '--config', foreign, '--state-dir', join(root, 'state')],
  ]) {
    const { code, stderr } = await merbridge([...args, '--plugin-dir', 'a', '--plugin-dir', '/b'])
    assert.equal(code, 2)
    assert.match(stderr, /foreign\.yaml:3:19: meshes\[0\]\.mesh\.path: .+\n/)
  }
})

test('a reader that goes away early is no error', async () => {
  const child = spawn('sh', ['-c', `"${launcher}" schema | head -c 1`], { stdio: 'pipe' })
  const [stderr] = await Promise.all([streamText(child.stderr), once(child, 'close')])
  assert.equal(stderr, '')
})

test('a working directory that was removed is no error', async () => {
  const script = `mkdir "${root}/gone" && cd "${root}/gone" && rmdir "${root}/gone" && exec "${launcher}" validate "${good}"`
  const child = spawn('sh', ['-c', script], { stdio: 'pipe' })
  const [stdout, stderr, [code]] = await Promise.all([streamText(child.stdout), streamText(child.stderr), once(child, 'close')])
  assert.deepEqual([code, stdout], [0, 'ok: mesh istio, 0 pods listed\n'], stderr)
})

test('an option that a script left empty is no directory, and no option allows all files for plugins', async () => {
  for (const [argv, message] of [
    [['validate', good, '--plugin-dir', ''], /--plugin-dir.*It is empty; give a path/],
    [['validate', good, '--plugin-dir=/'], /--plugin-dir.*would allow every file of the node/],
    [['validate', '--config', ''], /--config.*It is empty/],
    [['status', '--state-dir='], /--state-dir.*It is empty/],
  ] as const) {
    const { code, stderr } = await merbridge(argv)
    assert.equal(code, 2)
    assert.match(stderr, message)
  }
})
