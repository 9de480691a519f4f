import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { native } from '../../core/native/index.ts'
import { bpffs, compiled, leavesNoDescriptors, nativeError, temporaryDirectory } from './fixtures.ts'

const BPF_FS_MAGIC = 0xcafe4a11
const CGROUP2_MAGIC = 0x63677270

const root = join(import.meta.dirname, '../..')
const lookup = compiled('lookup')
const directory = temporaryDirectory()
const pins = bpffs(native.mountBpffs)

describe('the system', () => {
  leavesNoDescriptors()

  it('tells libbpf and the CPUs', () => {
    assert.match(native.libbpf, /^1\.\d+/)
    assert(native.possibleCpus >= availableParallelism())
  })

  it('knows file systems and mounts bpffs', () => {
    assert.equal(native.filesystemType(pins), BPF_FS_MAGIC)
    const cgroup = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((line) => line.includes(' - cgroup2 '))
      ?.split(' ')[4]
    assert.equal(native.filesystemType(cgroup ?? ''), CGROUP2_MAGIC)
    assert.notEqual(native.filesystemType('/proc'), BPF_FS_MAGIC)
    assert.throws(() => native.filesystemType(`${directory}/none`), nativeError('ENOENT', /none/))
    assert.throws(() => native.mountBpffs(`${directory}/none`), nativeError('ENOENT', /none/))
  })

  it('locks a file for one process', () => {
    const path = `${directory}/agent.lock`
    const lock = native.lock(path)
    assert(lock)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal(readFileSync(path, 'utf8'), `${process.pid}\n`)
    assert.equal(native.lock(path), undefined)
    lock.close()
    using again = native.lock(path)
    assert(again && !again.closed)
    symlinkSync(path, `${directory}/link`)
    assert.throws(() => native.lock(`${directory}/link`), nativeError('ELOOP'))
    assert.throws(() => native.lock(`${directory}/none/lock`), nativeError('ENOENT'))
  })

  it('frees the lock when the process dies', () => {
    const path = `${directory}/dead.lock`
    const index = join(root, 'core/native/index.ts')
    const script = `import { native } from '${index}'; native.lock('${path}'); process.kill(process.pid, 'SIGKILL')`
    assert.equal(spawnSync(process.execPath, ['--input-type=module', '-e', script]).signal, 'SIGKILL')
    using lock = native.lock(path)
    assert(lock)
  })
})

describe('BTF', () => {
  leavesNoDescriptors()

  it('is read from an object file', () => {
    const types = native.btf(lookup)
    assert(types.every((type, index) => type.id === index))
    const find = (kind: string, name: string) => types.find((type) => type.kind === kind && type.name === name)
    assert.deepEqual({ ...find('int', 'unsigned int'), id: 0 }, { id: 0, kind: 'int', name: 'unsigned int', size: 4, signed: false })
    const context = find('struct', 'bpf_sk_lookup')
    const member = context?.members?.find(({ name }) => name === 'remote_port')
    assert.equal(types[member?.type ?? 0]?.name, '__be16')
    assert.equal(context?.members?.find(({ name }) => name === 'family')?.offset, 64)
    const array = types.find((type) => type.kind === 'array' && type.length === 4)
    assert.equal(types[array?.type ?? 0]?.name, '__u32')
    assert.equal(types[find('var', 'verdict')?.type ?? 0]?.kind, 'const')
  })

  it('is read from the kernel, as bpftool shows it', () => {
    const types = native.btf('/sys/kernel/btf/vmlinux')
    const dump = execFileSync('bpftool', ['btf', 'dump', 'file', '/sys/kernel/btf/vmlinux'], { encoding: 'utf8', maxBuffer: 2 ** 30 })
    const shown = Array.from(dump.matchAll(/^\[(\d+)\] (\w+) '([^']*)'/gm), ([, id, kind, name]) => `${id} ${kind?.toLowerCase()} ${name}`)
    const read = types.slice(1).map(({ id, kind, name }) => `${id} ${kind} ${name === '' ? '(anon)' : name}`)
    assert(read.length > 10_000)
    assert.deepEqual(read, shown)
    const family = types.find(({ kind, values }) => kind === 'enum' && values?.some(({ name }) => name === 'BPF_MAP_TYPE_HASH'))
    assert.equal(family?.values?.find(({ name }) => name === 'BPF_MAP_TYPE_HASH')?.value, 1n)
    const signed = types.find(({ kind, signed, values }) => kind === 'enum' && signed && values?.some(({ value }) => value < 0n))
    assert(signed, 'an enum with a negative value')
  })

  it('is refused where there is none', () => {
    assert.throws(() => native.btf('/etc/passwd'), nativeError('ENOEXEC', /passwd/))
    assert.throws(() => native.btf(`${directory}/none`), nativeError('ENOENT', /none/))
  })
})

describe('the binary', () => {
  const binary = join(`linux-${process.arch}`, 'merbridge.node')

  /** A package with the addon's TypeScript and these bytes as its binary. */
  function pack(name: string, place: string, bytes: Buffer): string {
    const home = join(directory, name)
    mkdirSync(join(home, place, `linux-${process.arch}`), { recursive: true })
    mkdirSync(join(home, 'core'), { recursive: true })
    writeFileSync(join(home, place, binary), bytes)
    writeFileSync(join(home, 'package.json'), '{"type":"module"}')
    cpSync(join(root, 'core/native'), join(home, 'core/native'), { recursive: true, filter: (path) => !/\.(cc|h)$/.test(path) })
    for (const file of ['core/errors.ts', 'core/address.ts']) cpSync(join(root, file), join(home, file))
    return home
  }

  function use(home: string): string {
    const script = `import { native } from '${home}/core/native/index.ts'
      try { console.log(native.possibleCpus) } catch (error) { console.log(error.name, error.code, error.message, error.hint) }`
    return execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', cwd: directory })
  }

  const built = () => readFileSync(join(root, 'build/native', binary))

  it('is found in the build directory and among the prebuilt ones', () => {
    for (const [name, place] of [
      ['checkout', 'build/native'],
      ['package', 'prebuilds'],
    ] as const) {
      assert.equal(use(pack(name, place, built())), `${native.possibleCpus}\n`)
    }
  })

  it('says what to do when libbpf is missing', () => {
    const bytes = built()
    bytes.write('libbpf.so.9', bytes.indexOf('libbpf.so.1\0'))
    assert.match(use(pack('nolib', 'prebuilds', bytes)), /^MerbridgeError KERNEL_UNSUPPORTED .*libbpf\.so\.9 .*libbpf1/)
  })

  it('says what to do when there is none', () => {
    assert.match(use(pack('none', 'elsewhere', built())), /^MerbridgeError KERNEL_UNSUPPORTED .*build-addon\.sh/)
  })

  it('is not built again when nothing changed', () => {
    const before = statSync(join(root, 'build/native', binary)).mtimeMs
    execFileSync(join(root, 'scripts/build-addon.sh'))
    assert.equal(statSync(join(root, 'build/native', binary)).mtimeMs, before)
    assert(existsSync(join(root, 'core/native/addon.cc')) && readdirSync(join(root, 'core/native')).length > 20)
  })
})
