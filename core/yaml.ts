/** YAML that somebody wrote into an annotation, as the meshes' Go reads it: small, plain, and without anything that grows when it is read. */
import { isCollection, parseDocument, type ScalarTag, visit } from 'yaml'

/** Characters. The parser needs about a second for twice as many of the worst kind. */
const longest = 16_384
/** Levels of lists and keys. */
const deepest = 64

/** The text may be right, but is more than is read here: a mesh would perhaps take it. Plugins know it by its name. */
class LimitError extends Error {
  override readonly name = 'LimitError'
}

/** Words that are true and false in YAML 1.1, which Go follows there. */
const truth: ScalarTag = {
  default: true,
  tag: 'tag:yaml.org,2002:bool',
  test: /^(?:y|Y|yes|Yes|YES|on|On|ON|n|N|no|No|NO|off|Off|OFF)$/,
  resolve: (text) => /^[yY]|^[oO][nN]$/.test(text),
}

const tooDeep = () => new LimitError(`expected YAML of at most ${deepest} levels`)

function read(text: string): unknown {
  const document = parseDocument(text, { schema: 'core', customTags: [truth], resolveKnownTags: false, stringKeys: true, prettyErrors: false })
  const [problem] = [...document.errors, ...document.warnings]
  if (document.errors.some(({ code }) => code === 'RESOURCE_EXHAUSTION')) throw tooDeep()
  if (problem?.code === 'MULTIPLE_DOCS') throw new LimitError('expected one document of YAML, got several')
  if (problem?.code === 'TAG_RESOLVE_FAILED') throw new LimitError(`expected YAML without tags (!name): ${problem.message}`)
  if (problem !== undefined) throw new Error(`expected YAML: ${problem.message}`)
  visit(document, {
    Alias: () => {
      throw new LimitError('expected YAML without aliases (*name)')
    },
    Collection: (_key, _node, path) => {
      if (path.filter(isCollection).length >= deepest) throw tooDeep()
    },
  })
  return document.toJS({ maxAliasCount: 0 })
}

/** Throws an Error that says what was expected; its name is LimitError where only this reader cannot take the text. */
export function parseYaml(text: string): unknown {
  if (text.length > longest) throw new LimitError(`expected at most ${longest} characters of YAML, got ${text.length}`)
  try {
    return read(text)
  } catch (error) {
    // The parser goes down one frame of the stack for each level.
    throw error instanceof RangeError ? tooDeep() : error
  }
}
