/** What is of this checkout, and of one kernel, in the guest: archives that follow the base in the initramfs. */
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Bootable } from './kernel.ts'
import { type Architecture, cacheDirectory, checkout, execute, must } from './place.ts'
import { archive, nodeArchitecture } from './root.ts'
import type { Shape } from './shapes.ts'

const PRODUCT = 'opt/merbridge'

interface Lock {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>>
}

/** The package as it is shipped and the compiled tests, for every architecture the same. */
export async function buildProduct(): Promise<string> {
  const directory = join(cacheDirectory, 'product')
  rmSync(directory, { recursive: true, force: true })
  const target = join(directory, PRODUCT)
  const tests = join(directory, 'tests')
  const [stage] = await Promise.all([must(['node', 'scripts/package.ts', '--build-only']), must(['tsc', '-p', 'scripts/kernels', '--outDir', tests])])
  cpSync(stage.trim(), target, { recursive: true })
  rmSync(join(target, 'prebuilds'), { recursive: true })
  cpSync(join(tests, 'test'), join(target, 'dist/test'), { recursive: true })
  rmSync(tests, { recursive: true })
  cpSync(join(checkout, 'test/parity/probe'), join(target, 'dist/test/parity/probe'), { recursive: true })
  copyFileSync(join(checkout, 'test/kernel/ends.py'), join(target, 'dist/test/kernel/ends.py'))
  copyFileSync(join(checkout, 'test/kernel/joined.py'), join(target, 'dist/test/kernel/joined.py'))
  // The tests look for the command line beside the directory that holds them; a link leads the script to its own place.
  mkdirSync(join(target, 'dist/bin'))
  symlinkSync('../../bin/merbridge', join(target, 'dist/bin/merbridge'))
  const { packages } = JSON.parse(readFileSync(join(checkout, 'package-lock.json'), 'utf8')) as Lock
  for (const [path, { dev }] of Object.entries(packages)) {
    if (path !== '' && dev !== true)
      cpSync(join(checkout, path), join(target, path), { recursive: true, filter: (name) => !/\.(map|d\.[cm]?ts)$/.test(name) })
  }
  await warmCompileCache(target)
  return directory
}

/** What a command, an agent and the checks load. */
const entryPoints = ['core/cli/program.js', 'core/run.js', 'core/detach.js', 'core/native/index.js']
const checkFiles = ['agent-checks.js', 'datapath-checks.js', 'parity-check.js'].map((name) => `test/kernels/${name}`)

/**
 * V8's compiled code for all of it, made here, where a second costs a second. The guest's Node takes it, because the paths in it are relative and
 * the version is the same; what does not load on this machine is compiled in the guest.
 */
async function warmCompileCache(target: string): Promise<void> {
  const urls = [...entryPoints, ...checkFiles].map((path) => pathToFileURL(join(target, 'dist', path)).href)
  const script = `for (const url of ${JSON.stringify(urls)}) await import(url).catch(() => {})`
  const env = {
    ...process.env,
    NODE_COMPILE_CACHE: join(target, 'compile-cache'),
    NODE_COMPILE_CACHE_PORTABLE: '1',
    NODE_DISABLE_COMPILE_CACHE: undefined,
  }
  await execute(['node', '--input-type=module', '-e', script], { env })
  await execute(['node', join(target, 'dist/core/main.js'), '--version'], { env })
  // Bytecode is the same on every architecture; only the directory is called after one.
  for (const made of readdirSync(env.NODE_COMPILE_CACHE)) {
    for (const arch of Object.values(nodeArchitecture)) {
      const other = join(env.NODE_COMPILE_CACHE, made.replace(`-${process.arch}-`, `-${arch}-`))
      if (!existsSync(other)) symlinkSync(made, other)
    }
  }
}

/** The product with the addon, and the self-test's program, of one architecture. */
export function productArchive(product: string, architecture: Architecture): string {
  const platform = `linux-${nodeArchitecture[architecture]}`
  const target = join(product, PRODUCT, 'prebuilds', platform)
  rmSync(dirname(target), { recursive: true, force: true })
  mkdirSync(target, { recursive: true })
  for (const file of ['merbridge.node', 'exchanges']) copyFileSync(join(checkout, 'build/native', platform, file), join(target, file))
  const path = join(cacheDirectory, `product-${architecture}.cpio`)
  archive(product, path)
  return path
}

/** The kernel's modules, init, and what this run is about. */
export function runArchive(kernel: Bootable, shape: Shape, selection: string, directory: string): string {
  const root = join(directory, 'root')
  mkdirSync(root, { recursive: true })
  cpSync(join(kernel.directory, 'modules'), join(root, 'modules'), { recursive: true })
  copyFileSync(join(import.meta.dirname, 'init.sh'), join(root, 'init'))
  chmodSync(join(root, 'init'), 0o755)
  copyFileSync(join(import.meta.dirname, 'hold.sh'), join(root, 'hold.sh'))
  writeFileSync(join(root, 'shape.sh'), `${shape.script}\n`)
  writeFileSync(join(root, 'selection'), selection)
  const path = join(directory, 'run.cpio')
  archive(root, path)
  rmSync(root, { recursive: true })
  return path
}
