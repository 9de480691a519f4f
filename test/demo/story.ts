/** What the demo tells: numbered steps, facts, and expectations that are checked. */

const bold = (text: string) => (process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text)
const good = process.stdout.isTTY ? '\x1b[32m✓\x1b[0m' : '✓'

export class Unexpected extends Error {
  override readonly name = 'Unexpected'
}

export class Story {
  readonly #started = performance.now()
  readonly #checked: { readonly what: string; readonly seen: string }[] = []
  readonly #measured: string[] = []
  #steps = 0

  step(title: string): void {
    this.say(`\n${bold(`${++this.#steps}. ${title}`)}`)
  }

  say(text: string): void {
    process.stdout.write(`${text}\n`)
  }

  /** Indented, as it came from a file or a command. */
  show(text: string): void {
    this.say(text.trimEnd().replace(/^/gm, '     | '))
  }

  /** What no expectation is about, because it depends on the machine; the summary has it, too. */
  measured(text: string): void {
    this.say(text)
    this.#measured.push(text)
  }

  /** Goes on only when the two are equal. */
  expect(what: string, seen: string | number, expected: string | number): void {
    if (seen !== expected) throw new Unexpected(`${what}: expected ${expected}, but it was ${seen}`)
    this.#checked.push({ what, seen: String(seen) })
    this.say(`   ${good} ${what}: ${seen}`)
  }

  summary(): void {
    const width = Math.max(...this.#checked.map(({ what }) => what.length))
    const seconds = ((performance.now() - this.#started) / 1000).toFixed(0)
    this.say(`\n${bold(`All ${this.#checked.length} expectations hold, after ${seconds} s:`)}`)
    for (const { what, seen } of this.#checked) this.say(`   ${good} ${what.padEnd(width)}  ${seen}`)
    if (this.#measured.length > 0) this.say(['', bold('Measured:'), ...this.#measured].join('\n'))
  }
}
