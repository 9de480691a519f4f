/** The log as a file and as a terminal get it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LogSettings } from '../../core/config/schema.ts'
import { MerbridgeError } from '../../core/errors.ts'
import { createLog, type Log } from '../../core/log.ts'

function logged(settings: LogSettings, isTTY: boolean, write: (log: Log) => void): string {
  const lines: string[] = []
  write(createLog(settings, { isTTY, write: (line) => lines.push(line) }))
  return lines.join('')
}

const error = new MerbridgeError('PLUGIN_FAILED', 'istio: no', 'correct it', new Error('inner'))

test('JSON lines for a file: level, time, message and fields; no stack of an error that says what to do', () => {
  const text = logged({ level: 'info', format: 'auto' }, false, (log) => {
    log.debug('not shown')
    log.warn({ pod: 'default/web', code: 'X', hint: 'do' }, 'pod waiting')
    log.error({ err: error }, 'failed')
    log.error({ err: new TypeError('a defect') }, 'failed')
  })
  const [first, second, third, ...rest] = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.equal(rest.length, 0)
  assert.deepEqual([first.level, first.pod, first.code, first.hint, first.msg], ['warn', 'default/web', 'X', 'do', 'pod waiting'])
  assert(!Number.isNaN(Date.parse(first.time)))
  assert.deepEqual(second.err, { code: 'PLUGIN_FAILED', message: 'istio: no', hint: 'correct it' })
  assert.match(third.err.stack, /cli-log\.test/)
})

test('lines to read for a terminal, where nothing steers it', () => {
  const text = logged({ level: 'info', format: 'pretty' }, false, (log) => {
    log.info({ pod: 'a\u001b[2Jb' }, 'pod \u009benrolled')
    log.error({ err: error }, 'failed')
  })
  assert.match(text, /INFO.*: pod \\x9benrolled/)
  assert.match(text, /a.*x1b\[2Jb/)
  assert.match(text, /PLUGIN_FAILED/)
  assert.doesNotMatch(text, /^\s+at /m)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there
  assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
})

test('auto looks at the terminal; level and format change at run time', () => {
  assert.match(
    logged({ level: 'info', format: 'auto' }, true, (log) => log.info('hello')),
    /INFO.*hello/,
  )
  const text = logged({ level: 'error', format: 'json' }, true, (log) => {
    log.info('one')
    log.configure({ level: 'debug', format: 'json' })
    log.debug('two')
    log.configure({ level: 'info', format: 'pretty' })
    log.debug('three')
    log.info('four')
  })
  const lines = text.trim().split('\n')
  assert.equal(lines.length, 2)
  assert.equal(JSON.parse(lines[0] ?? '').msg, 'two')
  assert.match(lines[1] ?? '', /four/)
})
