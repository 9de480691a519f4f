/** What the kernel's answer says of rules that nft wrote itself; those of iptables-nft are read from a real kernel in test/native. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { natRedirects } from '../../core/native/nftables.ts'

const INET = 1

function attribute(type: number, ...content: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(content.map((part) => (typeof part === 'string' ? Buffer.from(`${part}\0`) : part)))
  const header = Buffer.alloc(4)
  header.writeUInt16LE(4 + body.length, 0)
  header.writeUInt16LE(type, 2)
  return Buffer.concat([header, body, Buffer.alloc(-body.length & 3)])
}

function message(...content: readonly Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from([INET, 0, 0, 0]), ...content])
  const header = Buffer.alloc(16)
  header.writeUInt32LE(16 + body.length, 0)
  return Buffer.concat([header, body])
}

const be = (value: number, size: 2 | 4): Buffer => {
  const bytes = Buffer.alloc(size)
  bytes.writeUIntBE(value, 0, size)
  return bytes
}
const expression = (name: string, ...data: readonly Buffer[]) => attribute(1, attribute(1, name), attribute(2, ...data))
const immediate = (value: Buffer) => expression('immediate', attribute(1, be(8, 4)), attribute(2, attribute(1, value)))
const jump = (chain: string) =>
  expression('immediate', attribute(1, be(0, 4)), attribute(2, attribute(2, attribute(1, be(1, 4)), attribute(2, chain))))
const rule = (chain: string, ...expressions: readonly Buffer[]) => message(attribute(1, 'own'), attribute(2, chain), attribute(4, ...expressions))
const chains = Buffer.concat([
  message(attribute(1, 'own'), attribute(3, 'pre'), attribute(7, 'nat')),
  message(attribute(1, 'own'), attribute(3, 'out'), attribute(7, 'filter')),
  message(attribute(1, 'own'), attribute(3, 'mesh')),
])
const hooked = rule('pre', jump('mesh'))

test('redir names the port that was loaded before it, or none', () => {
  const mesh = rule('mesh', immediate(be(15006, 2)), expression('redir', attribute(1, be(8, 4))))
  assert.deepEqual(natRedirects(chains, Buffer.concat([hooked, mesh])), [15006])
  assert.deepEqual(natRedirects(chains, Buffer.concat([hooked, rule('mesh', expression('redir'))])), [0])
  assert.deepEqual(natRedirects(chains, mesh), [], 'no hooked chain has a rule')
  assert.deepEqual(natRedirects(chains, Buffer.concat([rule('out', jump('mesh')), mesh])), [], 'a chain of another type')
})

test('dnat redirects, snat and names of chains do not', () => {
  assert.deepEqual(natRedirects(chains, Buffer.concat([hooked, rule('mesh', expression('nat', attribute(1, be(1, 4))))])), [0])
  assert.deepEqual(natRedirects(chains, Buffer.concat([hooked, rule('mesh', expression('nat', attribute(1, be(0, 4))))])), [])
  assert.deepEqual(natRedirects(chains, Buffer.concat([hooked, rule('mesh', jump('ISTIO_REDIRECT'))])), [])
})

test('an answer that is cut off is no error', () => {
  const all = Buffer.concat([hooked, rule('mesh', immediate(be(15006, 2)), expression('redir'))])
  for (let length = 0; length < all.length; length++) natRedirects(chains, all.subarray(0, length))
})
