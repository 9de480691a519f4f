import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { kit } from '../../core/kit.ts'

const { ports, cidrs, ids, boolean, yaml } = kit

describe('the parsers for annotations', () => {
  it('split at commas, drop empty elements and trim', () => {
    assert.deepEqual(ports(' 8080, 15090-15099 ,,* ,0,65535'), [8080, '15090-15099', '*', 0, 65535])
    assert.deepEqual(ids('1337,1000-1999,4294967295'), [1337, '1000-1999', 4294967295])
    assert.deepEqual(cidrs('10.0.0.0/8, fd00::/8,192.0.2.1,*,0.0.0.0/0,::/0,::ffff:10.0.0.0/104'), [
      ...['10.0.0.0/8', 'fd00::/8', '192.0.2.1', '*', '0.0.0.0/0', '::/0', '::ffff:10.0.0.0/104'],
    ])
    assert.deepEqual([ports(''), ids(' , '), cidrs('')], [[], [], []])
  })

  const refused: readonly (readonly [(text: string) => unknown, string, string])[] = [
    [ports, '65536', "expected a port from 0 to 65535, a range like 15090-15099, or '*', got '65536'"],
    [ports, '80,http', "expected a port from 0 to 65535, a range like 15090-15099, or '*', got 'http'"],
    [ports, '99-10', "expected a port from 0 to 65535, a range like 15090-15099, or '*', got '99-10'"],
    [ports, '1-2-3', "expected a port from 0 to 65535, a range like 15090-15099, or '*', got '1-2-3'"],
    [ports, '-5', "expected a port from 0 to 65535, a range like 15090-15099, or '*', got '-5'"],
    [ids, '4294967296', "expected an id from 0 to 4294967295 or a range like 1000-1999, got '4294967296'"],
    [ids, '*', "expected an id from 0 to 4294967295 or a range like 1000-1999, got '*'"],
    [cidrs, '10.0.0.1/8', "'10.0.0.1/8' has host bits set; the network is 10.0.0.0/8"],
    [cidrs, 'fd00::1/64', "'fd00::1/64' has host bits set; the network is fd00::/64"],
    [cidrs, '10.0.0.0/33', "expected a prefix length of at most 32, got '10.0.0.0/33'"],
    [cidrs, '10.0.0/8', "expected an IP address or a network like 10.0.0.0/8 or fd00::/8, got '10.0.0/8'"],
    [cidrs, 'fe80::1%eth0', "expected an IP address or a network like 10.0.0.0/8 or fd00::/8, got 'fe80::1%eth0'"],
    [cidrs, '10.0.0.0/', "expected an IP address or a network like 10.0.0.0/8 or fd00::/8, got '10.0.0.0/'"],
    [yaml, 'a: [', 'expected YAML: Flow sequence in block collection must be sufficiently indented and end with a ]'],
    [yaml, 'a: 1\n---\nb: 2', 'expected one document of YAML, got several'],
    [yaml, 'a: &x [1]\nb: *x', 'expected YAML without aliases (*name)'],
    [yaml, 'a: 1\na: 2', 'expected YAML: Map keys must be unique'],
    [yaml, '- '.repeat(100), 'expected YAML of at most 64 levels'],
    [yaml, 'a: !!binary aGk=', 'expected YAML without tags (!name): Unresolved tag: tag:yaml.org,2002:binary'],
    [yaml, `a: ${'x'.repeat(16_384)}`, 'expected at most 16384 characters of YAML, got 16387'],
    [boolean, 'yes', "expected true or false, got 'yes'"],
    [boolean, 'constructor', "expected true or false, got 'constructor'"],
  ]
  for (const [parse, text, message] of refused) {
    it(`say what they expected instead of ${text}`, () => assert.throws(() => parse(text), { message }))
  }

  it("read booleans as Go's ParseBool", () => {
    assert.deepEqual(['1', 't', 'T', 'TRUE', 'true', 'True'].map(boolean), Array(6).fill(true))
    assert.deepEqual(['0', 'f', 'F', 'FALSE', 'false', 'False'].map(boolean), Array(6).fill(false))
  })
})

describe('YAML of annotations', () => {
  it('is plain data, of JSON too', () => {
    assert.deepEqual(yaml('a:\n  b: [1, "2", yes, "yes", off, true, null]\n'), { a: { b: [1, '2', true, 'yes', false, true, null] } })
    assert.deepEqual([yaml('{"a":1}'), yaml(''), yaml('7')], [{ a: 1 }, null, 7])
    assert.deepEqual(Object.getOwnPropertyNames(yaml('__proto__: {x: 1}')), ['__proto__'])
  })

  it('ends soon and without harm, however it is nested', () => {
    for (const text of ['[', '{a: ', '- ', '? ', '&a ']) {
      const started = performance.now()
      assert.throws(() => yaml(text.repeat(16_384 / text.length)), /^(?:Limit)?Error: expected /)
      assert.ok(performance.now() - started < 5000, text)
    }
  })
})

describe('the schemas for options', () => {
  it('say at which element what was expected', () => {
    const schema = kit.z.strictObject({ ports: kit.portList, networks: kit.cidrList, ids: kit.idList })
    assert.ok(schema.safeParse({ ports: [80, '81', '82-83', '*'], networks: ['*'], ids: [1337, '1-2'] }).success)
    const { error } = schema.safeParse({ ports: [80, 70000], networks: ['10.0.0.1/8'], ids: [true] })
    assert.deepEqual(
      error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`),
      [
        "ports.1: expected a port from 0 to 65535, a range like 15090-15099, or '*', got '70000'",
        "networks.0: '10.0.0.1/8' has host bits set; the network is 10.0.0.0/8",
        'ids.0: expected a number or a text',
      ],
    )
  })
})
