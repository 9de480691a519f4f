/**
 * `npm run test:mutants -- [--mesh NAME] [--sets N] [--seed S] [--verbose]`: drops and exchanges the rules of each plugin; what nothing tells apart must stand
 * in docs/mutants.md with the reason. A plugin that decides otherwise than its mesh is told first, with the smallest pod that shows it.
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { meshesNamed } from '../meshes/index.ts'
import type { MeshUnderTest } from '../parity/mesh.ts'
import { complaints, type Judgement, listedSurvivors, type Verdict } from './mutants.ts'
import { type Choice, judgeMesh } from './samples.ts'
import { usual } from './usual.ts'

const USAGE = 2

const say = (text: string) => process.stdout.write(`${text}\n`)

function fail(message: string): never {
  process.stderr.write(`${message}\nusage: npm run test:mutants -- [--mesh NAME] [--sets N] [--seed S] [--verbose]\n`)
  process.exit(USAGE)
}

function whole(name: string, text: string): number {
  return /^\d{1,10}$/.test(text) ? Number(text) : fail(`--${name}: expected a whole number, got '${text}'`)
}

interface Request {
  readonly meshes: readonly MeshUnderTest[]
  readonly choice: Choice
  readonly verbose: boolean
}

function readArguments(): Request {
  const text = { type: 'string' } as const
  try {
    const { values } = parseArgs({ options: { mesh: text, sets: text, seed: text, verbose: { type: 'boolean', default: false } } })
    const meshes = meshesNamed(values.mesh)
    if (typeof meshes === 'string') return fail(meshes)
    const [sets, seed] = [whole('sets', values.sets ?? String(usual.sets)), whole('seed', values.seed ?? String(usual.seed))]
    return { meshes, choice: { sets, seed }, verbose: values.verbose }
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

/** A row as docs/mutants.md has it, to be copied; the reason is the author's, but for the trivial ones. */
const row = (name: string, { sameEnd }: Verdict) => `| \`${name}\` | ${sameEnd ? 'both end alike' : '?'} |`

function report(mesh: string, { mutants, samples, connections }: Judgement, verbose: boolean): boolean {
  const document = readFileSync(new URL('../../docs/mutants.md', import.meta.url), 'utf8')
  const { unlisted, idle } = complaints({ mutants, samples, connections }, listedSurvivors(document, mesh))
  const survivors = [...mutants.values()].filter(({ killedBy }) => killedBy === undefined).length
  say(
    `${mesh}: ${mutants.size} mutants over ${samples} option sets and ${connections} connections; ${mutants.size - survivors} told apart, ${survivors} equivalent`,
  )
  if (verbose) for (const [name, { killedBy = 'survives' }] of mutants) say(`  ${name}\n    ${killedBy}`)
  if (unlisted.length > 0)
    say(`not told apart, and not in docs/mutants.md (## ${mesh}):\n${unlisted.map((name) => row(name, mutants.get(name) as Verdict)).join('\n')}`)
  if (idle.length > 0) say(`in docs/mutants.md, but told apart or never made:\n${idle.map((name) => `  ${name}`).join('\n')}`)
  return unlisted.length === 0 && idle.length === 0
}

function judge(mesh: MeshUnderTest, choice: Choice, verbose: boolean): boolean {
  try {
    return report(mesh.name, judgeMesh(mesh, choice), verbose)
  } catch (error) {
    say(`${mesh.name}: ${error instanceof Error ? error.message : String(error)}`)
    return false
  }
}

const { meshes, choice, verbose } = readArguments()
const well = meshes.map((mesh) => judge(mesh, choice, verbose))
process.exitCode = well.every(Boolean) ? 0 : 1
