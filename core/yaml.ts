/** YAML that somebody wrote into an annotation: small, plain, and without anything that grows when it is read. */
import { parseDocument, visit } from 'yaml'

/** Characters. */
const longest = 16_384

/** Throws an Error that says what was expected. */
export function parseYaml(text: string): unknown {
  if (text.length > longest) throw new Error(`expected at most ${longest} characters of YAML, got ${text.length}`)
  try {
    const document = parseDocument(text, { schema: 'core', resolveKnownTags: false, stringKeys: true, prettyErrors: false })
    const [problem] = [...document.errors, ...document.warnings]
    if (problem?.code === 'MULTIPLE_DOCS') throw new Error('expected one document of YAML, got several')
    if (problem !== undefined) throw new Error(`expected YAML: ${problem.message}`)
    visit(document, {
      Alias: () => {
        throw new Error('expected YAML without aliases (*name)')
      },
    })
    return document.toJS({ maxAliasCount: 0 })
  } catch (error) {
    // The parser goes down one frame of the stack for each level.
    throw error instanceof RangeError ? new Error('expected YAML that is nested less deeply') : error
  }
}
