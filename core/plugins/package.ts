/** The file of a plugin that is installed as a package: DIRECTORY/node_modules/NAME, entry by its package.json. Nothing of the package runs before. */
import { existsSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { MerbridgeError } from '../errors.ts'
import { invalid, type PluginFile, readAllowed } from './file.ts'

/** As npm has them; no path, nothing that leads out of node_modules. */
const packageName = /^(@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]{0,212}$/

const conditions = new Set(['merbridge', 'node', 'import', 'default'])

const fieldsOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : {}

/** The first condition that holds, as Node chooses; undefined: none. */
function chosen(target: unknown, depth = 8): string | undefined {
  if (typeof target === 'string') return target
  if (depth === 0) return undefined
  for (const [condition, inner] of Object.entries(fieldsOf(target))) {
    const found = conditions.has(condition) ? chosen(inner, depth - 1) : undefined
    if (found !== undefined) return found
  }
  return undefined
}

/** Path of the entry, relative to the package. */
export function entryOf(manifest: unknown): string | undefined {
  const { exports, main } = fieldsOf(manifest)
  if (exports !== undefined) return chosen('.' in fieldsOf(exports) ? fieldsOf(exports)['.'] : exports)
  return typeof main === 'string' && main !== '' ? main : 'index.js'
}

function parsedManifest({ file, text }: PluginFile): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw invalid(`${file}: ${error instanceof Error ? error.message : String(error)}`, 'Install the package again.')
  }
}

/** Throws PLUGIN_DENIED or PLUGIN_INVALID, with what to do. */
export function readPackage(name: string, directories: readonly string[]): PluginFile {
  if (!packageName.test(name))
    throw invalid(`'${name}' is not the name of a package`, 'Write the name as npm has it, such as "@acme/mesh"; a file is named with path.')
  const [first] = directories
  if (first === undefined) {
    throw new MerbridgeError('PLUGIN_DENIED', `package ${name}: no directory of plugins is allowed`, 'Start the command with --plugin-dir DIRECTORY.')
  }
  const home = directories.map((directory) => join(directory, 'node_modules', name)).find((directory) => existsSync(directory))
  if (home === undefined) {
    throw invalid(
      `package ${name} is not installed in ${directories.join(', ')}`,
      `Install it: npm install --prefix ${first} --ignore-scripts ${name}`,
    )
  }
  const entry = entryOf(parsedManifest(readAllowed(join(home, 'package.json'), directories)))
  if (entry === undefined || normalize(`/${entry}`) !== join('/', entry) || entry.split('/').includes('..')) {
    throw invalid(`package ${name} does not say where its plugin is`, 'Its package.json needs "exports": "./FILE", a path in the package.')
  }
  return readAllowed(join(home, entry), directories)
}
