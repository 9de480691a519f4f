/** One walk over the parsed nodes: duplicate keys, nesting, and aliases that would grow beyond all bounds when they are written out. */
import { isAlias, isMap, isScalar, isSeq, type Node } from 'yaml'
import type { Path, Problem } from './document.ts'

/** Levels. A config has about seven. */
const maxDepth = 40
/** Nodes of the document with all aliases written out; a pod with a container has about twenty. */
const maxExpanded = 200_000
/** A text of 256 KiB behind a thousand aliases is no thousand values: so many characters count as one. */
const charactersOfOne = 100
const maxAliases = 1000

export interface Inspection {
  readonly problems: readonly Problem[]
  /** false: the nodes must not be turned into a value. */
  readonly convertible: boolean
}

class Walk {
  readonly problems: Problem[] = []
  convertible = true
  private aliases = 0
  /** Expanded size of what an anchor names; undefined while it is being counted. */
  private readonly anchors = new Map<string, number | undefined>()

  /** Number of nodes under this one, itself included, aliases written out. */
  count(node: unknown, path: Path): number {
    if (!this.convertible) return 0
    if (isAlias(node)) return this.countAlias(node, path)
    if (!isMap(node) && !isSeq(node)) {
      const size = 1 + (isScalar(node) && typeof node.value === 'string' ? Math.floor(node.value.length / charactersOfOne) : 0)
      if (isScalar(node) && node.anchor !== undefined) this.anchors.set(node.anchor, size)
      return size
    }
    if (path.length > maxDepth) this.refuse(node, path, `nested deeper than ${maxDepth} levels`, 'Nest less deeply.')
    if (node.anchor !== undefined) this.anchors.set(node.anchor, undefined)
    const size = isMap(node) ? this.countMap(node, path) : node.items.reduce<number>((sum, item, at) => sum + this.count(item, [...path, at]), 1)
    if (node.anchor !== undefined) this.anchors.set(node.anchor, size)
    if (size > maxExpanded) this.refuse(node, path, `more than ${maxExpanded} values when its aliases are written out`, 'Use fewer aliases.')
    return size
  }

  private countMap(node: { readonly items: readonly { readonly key: unknown; readonly value: unknown }[] }, path: Path): number {
    const keys = new Set<string>()
    let size = 1
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : ''
      if (keys.has(name) && isScalar(key)) this.report(key, [...path, name], `the key "${name}" is there twice`, 'Keep one of the two.')
      keys.add(name)
      size += this.count(value, [...path, name])
    }
    return size
  }

  private countAlias(node: Node & { readonly source: string }, path: Path): number {
    this.aliases++
    if (this.aliases > maxAliases) this.refuse(node, path, `more than ${maxAliases} aliases`, 'Write the values out.')
    const size = this.anchors.get(node.source)
    if (size !== undefined) return size
    const inside = this.anchors.has(node.source)
    this.refuse(node, path, `the alias *${node.source} ${inside ? 'contains itself' : 'has no anchor before it'}`, 'Write the value out.')
    return 0
  }

  private report(node: Node, path: Path, message: string, hint: string): void {
    const [start, end] = node.range ?? [0, 0]
    this.problems.push({ span: { start, end }, path, message, hint })
  }

  private refuse(node: Node, path: Path, message: string, hint: string): void {
    if (this.convertible) this.report(node, path, message, hint)
    this.convertible = false
  }
}

export function inspectNodes(contents: Node): Inspection {
  const walk = new Walk()
  walk.count(contents, [])
  return { problems: walk.problems, convertible: walk.convertible }
}
