/** Questions to the kernel: what it takes and what it refuses. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { call, program, set } from '../../core/features/instructions.ts'
import { native } from '../../core/native/index.ts'
import { must } from '../lab/net.ts'
import { leavesNoDescriptors, nativeError } from './fixtures.ts'

const SOCK_ADDR = 18
const CONNECT4 = 10

describe('probes', () => {
  leavesNoDescriptors()

  test('a whole program is taken; one that the verifier refuses, a helper and a type that do not exist are not', () => {
    assert.equal(native.takesProgram(SOCK_ADDR, CONNECT4, program()), true)
    assert.equal(native.takesProgram(SOCK_ADDR, CONNECT4, program(call(122))), true, 'the netns cookie')
    assert.equal(native.takesProgram(SOCK_ADDR, CONNECT4, program(call(4000))), false, 'no such helper')
    assert.equal(native.takesProgram(SOCK_ADDR, CONNECT4, program(call(58))), false, 'one of another program type')
    assert.equal(native.takesProgram(SOCK_ADDR, 3, program()), false, 'the attach type of another')
    assert.equal(native.takesProgram(900, 0, program()), false, 'no such program type')
    assert.equal(native.takesProgram(SOCK_ADDR, CONNECT4, set(0, 1)), false, 'no end')
  })

  test('half an instruction is an error of the caller', () => {
    assert.throws(() => native.takesProgram(SOCK_ADDR, CONNECT4, Buffer.alloc(7)), nativeError('EINVAL'))
    assert.throws(() => native.takesProgram(SOCK_ADDR, CONNECT4, Buffer.alloc(0)), nativeError('EINVAL'))
  })

  test('map types, links', () => {
    assert.equal(native.hasMapType(27), true, 'ring buffers')
    assert.throws(() => native.hasMapType(900), nativeError('EOPNOTSUPP'), 'libbpf does not know it')
    assert.equal(native.hasLinks(), true)
  })

  test('without the rights the answer is an error, not "no"', async () => {
    const script = `
      import { native } from '${new URL('../../core/native/index.ts', import.meta.url).href}'
      import { program } from '${new URL('../../core/features/instructions.ts', import.meta.url).href}'
      try { console.log(native.takesProgram(${SOCK_ADDR}, ${CONNECT4}, program())) } catch (error) { console.log(error.code) }`
    const dropped = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', process.execPath, '--input-type=module', '-e', script]
    assert.equal((await must(dropped)).trim(), 'EPERM')
  })
})
