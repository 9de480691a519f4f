import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { cidrKeyCodec, metaCodec, ownerKeyCodec, policyCodec, portKeyCodec, targetCodec, tupleCodec, Verdict } from '../../core/contract.ts'

const word = fc.integer({ min: 0, max: 0xffffffff })
const words = fc.array(word, { minLength: 4, maxLength: 4 })
const port = fc.integer({ min: 0, max: 0xffff })
const long = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn })

describe('the contract in TypeScript', () => {
  it('is what bpf/contract.h says', () => {
    const script = join(import.meta.dirname, '../../scripts/contract.ts')
    assert.doesNotThrow(() => execFileSync(process.execPath, [script, '--check'], { stdio: 'pipe' }))
  })

  it('writes network order where the kernel has it, host order elsewhere, and zero between', () => {
    assert.equal(
      targetCodec.encode({ addr4: 0x7f000001, port: 15001, families: 3, addr6: [0, 0, 0, 1] }).toString('hex'),
      `7f0000013a990300${'00'.repeat(15)}01`,
    )
    assert.equal(
      portKeyCodec.encode({ prefixlen: 112, policy: 0x0102030405060708n, port: 80 }).toString('hex'),
      '7000000000000000080706050403020100500000' + '00000000',
    )
    assert.equal(
      ownerKeyCodec.encode({ prefixlen: 128, kind: 1, policy: 1n, id: [1337] }).toString('hex'),
      '8000000001000000' + '0100000000000000' + '0000053900000000',
    )
  })

  it('reads what it wrote', () => {
    const tuple = fc.record({ netns: long, source: words, dest: words, sport: port, dport: port, family: fc.constantFrom(4 as const, 6 as const) })
    fc.assert(fc.property(tuple, (value) => assert.deepEqual(tupleCodec.decode(tupleCodec.encode(value)), { ...value })))
    const key = fc.record({ prefixlen: word, kind: fc.constantFrom(1 as const, 4 as const), policy: long, addr: words })
    fc.assert(fc.property(key, (value) => assert.deepEqual(cidrKeyCodec.decode(cidrKeyCodec.encode(value)), { ...value })))
    const meta = { generation: 7n, programs: Buffer.alloc(32, 1), config: Buffer.alloc(32, 2) }
    assert.deepEqual(metaCodec.decode(metaCodec.encode(meta)), meta)
  })

  it('pads arrays with zero and refuses what does not fit, by name', () => {
    const rule = { mask: 1n, value: 1n, verdict: Verdict.TARGET, target: 2 }
    const policy = {
      outboundRules: 1,
      inboundRules: 0,
      targetsUsed: 0,
      marksUsed: 0,
      lookups: 0,
      outbound: [rule],
      inbound: [],
      targets: [],
      marks: [],
    }
    const decoded = policyCodec.decode(policyCodec.encode(policy))
    assert.deepEqual(decoded.outbound.slice(0, 2), [rule, { mask: 0n, value: 0n, verdict: 0, target: 0 }])
    assert.equal(decoded.outbound.length, 64)
    const refused = (change: object, message: RegExp) =>
      assert.throws(
        () => policyCodec.encode({ ...policy, ...change }),
        (error) => error instanceof RangeError && message.test(error.message),
      )
    refused({ outbound: Array(65).fill(rule) }, /^policy\.outbound: expected at most 64 elements, got 65$/)
    refused({ outbound: [{ ...rule, mask: 1n << 64n }] }, /^rule\.mask: expected a bigint of 64 bits/)
    refused({ outbound: [{ ...rule, target: -1 }] }, /^rule\.target: expected an integer from 0 to 4294967295, got -1$/)
    refused({ lookups: 1.5 }, /^policy\.lookups/)
    refused({ marksUsed: 65536 }, /^policy\.marksUsed: expected an integer from 0 to 65535/)
    assert.throws(() => targetCodec.encode({ addr4: 0, port: 65536, families: 0, addr6: [] }), /^RangeError: target\.port/)
    assert.throws(
      () => metaCodec.encode({ generation: 0n, programs: Buffer.alloc(31), config: Buffer.alloc(32) }),
      /meta\.programs: expected 32 bytes, got 31 bytes/,
    )
    assert.throws(() => targetCodec.decode(Buffer.alloc(23)), /target: expected 24 bytes, got 23 bytes/)
  })
})
