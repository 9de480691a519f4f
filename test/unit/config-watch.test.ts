/** Every way in which a config changes is noticed, once, and what is no change is not. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { digest } from '../../core/config/load.ts'
import { watchConfig } from '../../core/config/watch.ts'

function contentOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '(gone)'
  }
}

interface Watched {
  readonly directory: string
  readonly path: string
  /** What the file said at each call. */
  readonly seen: string[]
  /** Waits for the n-th call; fails after five seconds. */
  reached(calls: number): Promise<void>
}

function place(t: TestContext): { readonly directory: string; readonly path: string } {
  const directory = mkdtempSync(join(tmpdir(), 'merbridge-watch-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return { directory, path: join(directory, 'config.yaml') }
}

async function watched(t: TestContext, { directory, path }: ReturnType<typeof place>, known?: string): Promise<Watched> {
  const seen: string[] = []
  const end = new AbortController()
  t.after(() => end.abort())
  let read = known
  const onChange = () => {
    const text = contentOf(path)
    read = digest(text)
    seen.push(text)
  }
  await watchConfig(path, onChange, end.signal, read === undefined ? {} : { known: () => read ?? '' })
  const reached = async (calls: number) => {
    for (let waited = 0; waited < 5000 && seen.length < calls; waited += 20) await sleep(20)
    assert(seen.length >= calls, `${calls} calls expected, seen: ${JSON.stringify(seen)}`)
  }
  return { directory, path, seen, reached }
}

test('edited in place, renamed over, removed and made again', async (t) => {
  const where = place(t)
  writeFileSync(where.path, 'one')
  const { directory, path, seen, reached } = await watched(t, where)
  writeFileSync(path, 'two')
  await reached(1)
  writeFileSync(join(directory, 'new'), 'three')
  renameSync(join(directory, 'new'), path)
  await reached(2)
  // An editor of another kind: away, then back with other content.
  unlinkSync(path)
  await reached(3)
  writeFileSync(path, 'four')
  await reached(4)
  writeFileSync(path, 'five')
  await reached(5)
  assert.deepEqual(seen, ['two', 'three', '(gone)', 'four', 'five'])
})

test('touching it, writing the same text, and files beside it are no change', async (t) => {
  const where = place(t)
  writeFileSync(where.path, 'one')
  const { directory, path, seen, reached } = await watched(t, where)
  utimesSync(path, new Date(), new Date())
  writeFileSync(path, 'one')
  writeFileSync(join(directory, 'other'), 'x')
  await sleep(1500)
  assert.deepEqual(seen, [])
  writeFileSync(path, 'two')
  await reached(1)
  assert.deepEqual(seen, ['two'])
})

/** As the kubelet does it: a new directory, then a link to it that is renamed over `..data`. */
function swap(directory: string, round: number, text: string): void {
  const version = `..version-${round}`
  mkdirSync(join(directory, version))
  writeFileSync(join(directory, version, 'config.yaml'), text)
  symlinkSync(version, join(directory, '..data_tmp'))
  renameSync(join(directory, '..data_tmp'), join(directory, '..data'))
  rmSync(join(directory, `..version-${round - 1}`), { recursive: true, force: true })
}

test('the ..data link of a ConfigMap, one by one and 200 in a burst that ends at the last', async (t) => {
  const where = place(t)
  swap(where.directory, 0, 'round 0')
  symlinkSync('..data/config.yaml', where.path)
  const { directory, seen, reached } = await watched(t, where)
  for (const round of [1, 2, 3]) {
    swap(directory, round, `round ${round}`)
    await reached(round)
  }
  assert.deepEqual(seen, ['round 1', 'round 2', 'round 3'])
  for (let round = 4; round < 204; round++) {
    swap(directory, round, `round ${round}`)
    if (round % 10 === 0) await sleep(5)
  }
  for (let waited = 0; waited < 5000 && seen.at(-1) !== 'round 203'; waited += 50) await sleep(50)
  assert.equal(seen.at(-1), 'round 203')
  assert(seen.length < 3 + 10, `${seen.length} calls for one burst`)
  await sleep(800)
  assert.equal(seen.at(-1), 'round 203')
})

test('a file that is not there yet, not even its directory', async (t) => {
  const { directory } = place(t)
  const { path, seen, reached } = await watched(t, { directory, path: join(directory, 'sub', 'sub', 'config.yaml') })
  await sleep(300)
  mkdirSync(join(directory, 'sub', 'sub'), { recursive: true })
  writeFileSync(path, 'first')
  await reached(1)
  writeFileSync(path, 'second')
  await reached(2)
  assert.deepEqual(seen, ['first', 'second'])
})

test('a directory of that name: what happens in it is nothing to us, until a file takes its place', async (t) => {
  const where = place(t)
  mkdirSync(join(where.path, 'deep'), { recursive: true })
  const { path, seen, reached } = await watched(t, where)
  writeFileSync(join(path, 'deep', 'x'), 'x')
  await sleep(600)
  assert.deepEqual(seen, [])
  rmSync(path, { recursive: true })
  writeFileSync(path, 'one')
  await reached(1)
  for (let waited = 0; waited < 3000 && seen.at(-1) !== 'one'; waited += 50) await sleep(50)
  assert.equal(seen.at(-1), 'one')
})

test('its directory renamed away and another one put in its place', async (t) => {
  const { directory } = place(t)
  const sub = join(directory, 'sub')
  mkdirSync(sub)
  writeFileSync(join(sub, 'config.yaml'), 'one')
  const { path, seen } = await watched(t, { directory, path: join(sub, 'config.yaml') })
  renameSync(sub, join(directory, 'old'))
  mkdirSync(sub)
  writeFileSync(path, 'two')
  for (let waited = 0; waited < 5000 && seen.at(-1) !== 'two'; waited += 50) await sleep(50)
  assert.equal(seen.at(-1), 'two')
  writeFileSync(path, 'three')
  for (let waited = 0; waited < 5000 && seen.at(-1) !== 'three'; waited += 50) await sleep(50)
  assert.equal(seen.at(-1), 'three')
})

test('a link to a file elsewhere, which is edited in place and renamed over', async (t) => {
  const where = place(t)
  const real = join(where.directory, 'elsewhere')
  mkdirSync(real)
  writeFileSync(join(real, 'real.yaml'), 'one')
  symlinkSync(join(real, 'real.yaml'), where.path)
  const { seen, reached } = await watched(t, where)
  writeFileSync(join(real, 'real.yaml'), 'two')
  await reached(1)
  writeFileSync(join(real, 'new'), 'three')
  renameSync(join(real, 'new'), join(real, 'real.yaml'))
  await reached(2)
  writeFileSync(join(real, 'real.yaml'), 'four')
  await reached(3)
  assert.deepEqual(seen, ['two', 'three', 'four'])
})

test('what changed between reading and watching is not missed', async (t) => {
  const where = place(t)
  writeFileSync(where.path, 'newer')
  const { seen, reached } = await watched(t, where, digest('older'))
  await reached(1)
  assert.deepEqual(seen, ['newer'])
})

test('what the caller read counts, not what it was called for: a file that was away for a moment is loaded again when it is back', async (t) => {
  const { path } = place(t)
  writeFileSync(path, 'one')
  const end = new AbortController()
  t.after(() => end.abort())
  let read = digest('one')
  let calls = 0
  const onChange = () => {
    calls++
    read = calls === 1 ? 'no such file' : digest('two') // at the first call somebody had just renamed it away
  }
  await watchConfig(path, onChange, end.signal, { known: () => read })
  writeFileSync(path, 'two')
  for (let waited = 0; waited < 5000 && calls < 2; waited += 20) await sleep(20)
  await sleep(1000)
  assert.equal(calls, 2, 'once more, and then it is known')
})

test('a burst that does not end is looked at after a second', async (t) => {
  const where = place(t)
  writeFileSync(where.path, 'start')
  const { path, seen } = await watched(t, where)
  for (let round = 0; round < 30; round++) {
    writeFileSync(path, `round ${round}`)
    await sleep(100)
  }
  assert(seen.length >= 2, 'seen while it goes on')
  assert(seen.length <= 6, `${seen.length} calls in three seconds`)
})

test('nothing is called after the signal, and the process can end', async (t) => {
  const { path } = place(t)
  writeFileSync(path, 'one')
  const watch = new URL('../../core/config/watch.ts', import.meta.url).href
  const script = `
    import { writeFileSync } from 'node:fs'
    const { watchConfig } = await import('${watch}')
    const end = new AbortController()
    await watchConfig('${path}', () => console.log('called'), end.signal)
    writeFileSync('${path}', 'two')
    end.abort()`
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 10_000 })
  assert.deepEqual([child.status, child.stdout], [0, ''], child.stderr)
})

test('without inotify the file is polled, and that is said', { timeout: 60_000, skip: process.getuid?.() !== 0 && 'needs root' }, (t) => {
  const { path } = place(t)
  writeFileSync(path, 'one')
  const watch = new URL('../../core/config/watch.ts', import.meta.url).href
  const script = `
    import { writeFileSync } from 'node:fs'
    const { watchConfig } = await import('${watch}')
    const end = new AbortController()
    let degraded = ''
    const options = { onDegraded: (error) => { degraded = error.message } }
    await watchConfig('${path}', () => { console.log('called', degraded); end.abort() }, end.signal, options)
    writeFileSync('${path}', 'two')
    setTimeout(() => end.abort(), 20000).unref()`
  const shell = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
  const child = spawnSync('unshare', ['--user', '--map-root-user', 'sh', '-c', shell, 'sh', process.execPath, '--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 50_000,
  })
  assert.match(child.stdout, /^called .*EMFILE/, `${child.stdout}${child.stderr}`)
})
