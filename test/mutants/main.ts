/** `npm run test:mutants`: drops and exchanges the rules of each plugin; what nothing tells apart must stand in docs/mutants.md with the reason. */
import { readFileSync } from 'node:fs'
import { istioMesh } from './istio.ts'
import { complaints, type Judgement, judgeMutants, listedSurvivors, type Mesh, type Verdict } from './mutants.ts'

const say = (text: string) => process.stdout.write(`${text}\n`)

/** A row as docs/mutants.md has it, to be copied; the reason is the author's, but for the trivial ones. */
const row = (name: string, { sameEnd }: Verdict) => `| \`${name}\` | ${sameEnd ? 'both end alike' : '?'} |`

function report(mesh: Mesh, { mutants, samples, connections }: Judgement, listed: ReadonlyMap<string, string>): boolean {
  const { unlisted, idle } = complaints({ mutants, samples, connections }, listed)
  const survivors = [...mutants.values()].filter(({ killedBy }) => killedBy === undefined).length
  say(
    `${mesh.name}: ${mutants.size} mutants over ${samples} option sets and ${connections} connections; ${mutants.size - survivors} told apart, ${survivors} equivalent`,
  )
  if (process.argv.includes('--verbose')) for (const [name, { killedBy = 'survives' }] of mutants) say(`  ${name}\n    ${killedBy}`)
  if (unlisted.length > 0)
    say(`not told apart, and not in docs/mutants.md:\n${unlisted.map((name) => row(name, mutants.get(name) as Verdict)).join('\n')}`)
  if (idle.length > 0) say(`in docs/mutants.md, but told apart or never made:\n${idle.map((name) => `  ${name}`).join('\n')}`)
  return unlisted.length === 0 && idle.length === 0
}

const document = readFileSync(new URL('../../docs/mutants.md', import.meta.url), 'utf8')
const well = [istioMesh].map((mesh) => report(mesh, judgeMutants(mesh), listedSurvivors(document, mesh.name)))
process.exitCode = well.every(Boolean) ? 0 : 1
