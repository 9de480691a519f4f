/**
 * Makes the npm package below build/: compiled JavaScript, the BPF object, the native addon and the program of the self-test as set-up built them, so that a node that
 * installs it needs neither a compiler nor an install script. Prints the path of the tarball. `--build-only` stops before the tarball.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'

const root = join(import.meta.dirname, '..')
const stage = join(root, 'build/package')
const platform = `linux-${process.arch}`

/** What is shipped, from where in the checkout to where in the package. */
const shipped: readonly (readonly [from: string, to: string])[] = [
  ...['README.md', 'CHANGELOG.md', 'LICENSE', 'bin', 'config', 'deploy', 'docs', 'bpf/LICENSE', 'bpf/LICENSES'].map((path) => [path, path] as const),
  ...['merbridge.bpf.o', 'direct.bpf.o'].map((file) => [`build/bpf/${file}`, `dist/bpf/${file}`] as const),
  ...['merbridge.node', 'exchanges'].map((file) => [`build/native/${platform}/${file}`, `prebuilds/${platform}/${file}`] as const),
]

function copy(from: string, to: string): void {
  const source = join(root, from)
  if (!existsSync(source)) throw new Error(`${from} is missing: run npm run setup`)
  const target = join(stage, to)
  mkdirSync(dirname(target), { recursive: true })
  cpSync(source, target, { recursive: true })
}

/** In a checkout the exports are sources; in the package what was compiled of them. */
function compiledExports(value: unknown, condition = 'default'): unknown {
  if (typeof value === 'string') return value.replace(/^\.\/core\/(.*)\.ts$/, `./dist/core/$1.${condition === 'types' ? 'd.ts' : 'js'}`)
  return Object.fromEntries(Object.entries(value as object).map(([key, inner]) => [key, compiledExports(inner, key)]))
}

function writeManifest(): void {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly exports: object }
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify({ ...manifest, exports: compiledExports(manifest.exports) }, undefined, 2)}\n`)
}

const { values } = parseArgs({ options: { 'build-only': { type: 'boolean', default: false } } })
rmSync(stage, { recursive: true, force: true })
execFileSync(join(root, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json', '--outDir', join(stage, 'dist')], { cwd: root, stdio: 'inherit' })
for (const [from, to] of shipped) copy(from, to)
writeManifest()
if (values['build-only']) {
  process.stdout.write(`${stage}\n`)
} else {
  const name = execFileSync('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', dirname(stage)], { cwd: stage, encoding: 'utf8' })
  process.stdout.write(`${join(dirname(stage), name.trim())}\n`)
}
