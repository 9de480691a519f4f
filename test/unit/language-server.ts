/** Red Hat's yaml-language-server as editors start it: over standard input and output, with one schema for every file, and without a network. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

export interface Completion {
  readonly label: string
  readonly documentation?: string | { readonly value: string }
}

export interface Diagnostic {
  readonly message: string
  readonly range: { readonly start: { readonly line: number; readonly character: number } }
}

interface Message {
  readonly id?: number
  readonly method?: string
  readonly params?: { readonly uri?: string; readonly diagnostics?: readonly Diagnostic[]; readonly items?: readonly { readonly section?: string }[] }
  readonly result?: unknown
  readonly error?: { readonly message: string }
}

const root = join(import.meta.dirname, '../..')
const patience = 20_000

/** A text with one "|": where the cursor is. */
function cursorIn(marked: string) {
  const before = marked.slice(0, marked.indexOf('|'))
  const line = before.split('\n').length - 1
  return { text: marked.replace('|', ''), position: { line, character: before.length - (before.lastIndexOf('\n') + 1) } }
}

export class LanguageServer implements AsyncDisposable {
  readonly #process: ChildProcess
  readonly #waiting = new Map<number, { done: (result: unknown) => void; failed: (error: Error) => void }>()
  readonly #diagnosed = new Map<string, (diagnostics: readonly Diagnostic[]) => void>()
  readonly #settings: object
  #received = Buffer.alloc(0)
  #requests = 0
  #documents = 0

  private constructor(schema: string) {
    // Without a network, where this process may do that: whatever the server wants from one, it does not get.
    const server = join(root, 'node_modules/yaml-language-server/bin/yaml-language-server')
    const words = [process.execPath, server, '--stdio']
    const [file = '', ...rest] = spawnSync('unshare', ['--net', 'true']).status === 0 ? ['unshare', '--net', ...words] : words
    this.#process = spawn(file, rest, { stdio: ['pipe', 'pipe', 'ignore'], cwd: '/' })
    this.#process.stdout?.on('data', (chunk: Buffer) => this.#receive(chunk))
    this.#process.stdin?.on('error', () => {})
    this.#settings = {
      yaml: { schemas: { [pathToFileURL(schema).href]: '*.yaml' }, schemaStore: { enable: false }, completion: true, hover: true, validate: true },
    }
  }

  static async start(schema: string): Promise<LanguageServer> {
    const server = new LanguageServer(schema)
    await server.#request('initialize', {
      processId: process.pid,
      rootUri: null,
      capabilities: { workspace: { configuration: true }, textDocument: { completion: { completionItem: { documentationFormat: ['plaintext'] } } } },
    })
    server.#send({ method: 'initialized', params: {} })
    server.#send({ method: 'workspace/didChangeConfiguration', params: { settings: server.#settings } })
    return server
  }

  /** What an editor offers at the "|". */
  async complete(marked: string): Promise<readonly Completion[]> {
    const { text, position } = cursorIn(marked)
    const { uri } = await this.#open(text)
    const answer = await this.#request('textDocument/completion', { textDocument: { uri }, position })
    return (answer as { readonly items: readonly Completion[] }).items
  }

  /** The text that appears over the word at the "|". */
  async hover(marked: string): Promise<string> {
    const { text, position } = cursorIn(marked)
    const { uri } = await this.#open(text)
    const answer = await this.#request('textDocument/hover', { textDocument: { uri }, position })
    return JSON.stringify((answer as { readonly contents?: unknown } | null)?.contents ?? '')
  }

  async diagnose(text: string): Promise<readonly Diagnostic[]> {
    const { diagnostics } = await this.#open(text)
    return diagnostics
  }

  /** A file of the checkout under its own name, so that the schema that its first line names is the one that counts. */
  async diagnoseFile(path: string): Promise<readonly Diagnostic[]> {
    const { diagnostics } = await this.#open(readFileSync(path, 'utf8'), pathToFileURL(path).href)
    return diagnostics
  }

  /** Resolves when the server has said what is wrong with the document. */
  async #open(text: string, uri = `file:///tmp/merbridge-editor/${this.#documents++}.yaml`) {
    const diagnosed = this.#inTime(`diagnostics of ${uri}`, new Promise<readonly Diagnostic[]>((done) => this.#diagnosed.set(uri, done)))
    this.#send({ method: 'textDocument/didOpen', params: { textDocument: { uri, languageId: 'yaml', version: 1, text } } })
    return { uri, diagnostics: await diagnosed }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await gone
  }

  #request(method: string, params: object): Promise<unknown> {
    const id = ++this.#requests
    const answered = new Promise<unknown>((done, failed) => this.#waiting.set(id, { done, failed }))
    this.#send({ id, method, params })
    return this.#inTime(method, answered)
  }

  async #inTime<T>(what: string, promise: Promise<T>): Promise<T> {
    const { promise: late, reject } = Promise.withResolvers<never>()
    const timer = setTimeout(() => reject(new Error(`the language server did not answer within ${patience} ms: ${what}`)), patience)
    try {
      return await Promise.race([promise, late])
    } finally {
      clearTimeout(timer)
    }
  }

  #send(message: object): void {
    const body = JSON.stringify({ jsonrpc: '2.0', ...message })
    this.#process.stdin?.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
  }

  #receive(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk])
    for (;;) {
      const end = this.#received.indexOf('\r\n\r\n')
      const length = Number(/Content-Length: (\d+)/i.exec(this.#received.subarray(0, Math.max(0, end)).toString())?.[1])
      if (end < 0 || this.#received.length < end + 4 + length) return
      const body = this.#received.subarray(end + 4, end + 4 + length).toString()
      this.#received = this.#received.subarray(end + 4 + length)
      this.#handle(JSON.parse(body) as Message)
    }
  }

  #handle({ id, method, params, result, error }: Message): void {
    if (method === undefined && id !== undefined) {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error === undefined) waiting?.done(result)
      else waiting?.failed(new Error(error.message))
    } else if (method === 'textDocument/publishDiagnostics') {
      this.#diagnosed.get(params?.uri ?? '')?.(params?.diagnostics ?? [])
    } else if (id !== undefined) {
      // What the server asks of an editor: its settings, section by section; the rest may be nothing.
      const settings = this.#settings as Readonly<Record<string, unknown>>
      this.#send({
        id,
        result: method === 'workspace/configuration' ? (params?.items ?? []).map(({ section }) => settings[section ?? ''] ?? {}) : null,
      })
    }
  }
}
