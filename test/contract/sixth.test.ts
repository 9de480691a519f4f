/** What docs/plugins.md tells is enough for a mesh that has a bit of everything, and the page names everything that there is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Connection } from '../../core/testing/decide.ts'
import { decisionOf, rulesOf, testContainer, testPlugin, testPod } from '../../core/testing.ts'
import { textOf } from '../repo/files.ts'
import borealis from './sixth.ts'

const proxy = testContainer('sidecar', {
  image: 'registry.example/borealis:1',
  gid: 701,
  args: ['--outbound=7101'],
  env: { BOREALIS_INBOUND: '7106' },
})
const pod = testPod({ containers: [proxy], addresses: ['10.0.0.2', 'fd00::2'] })
const annotated = (annotations: Record<string, string>) => testPod({ ...pod, annotations })

testPlugin(borealis, {
  pods: [
    pod,
    annotated({ 'borealis.example/ipv6': 'false' }),
    annotated({ 'borealis.example/ports': '8000-8099', 'borealis.example/external': '192.0.2.0/24' }),
  ],
  options: [{ exempt: [0] }],
})

const then = (connection: Partial<Connection>, on = pod) => {
  const { then, refused } = decisionOf(borealis, on, { to: '203.0.113.1', port: 80, uid: 1000, ...connection })
  return refused ? 'refused' : then
}

test('the plugin of the sixth mesh has less than 60 lines', () => {
  assert.ok(textOf('test/contract/sixth.ts').trimEnd().split('\n').length < 60)
})

test('the rules of the sixth mesh decide as the mesh wants it', () => {
  const { targets } = rulesOf(borealis, pod)
  assert.deepEqual([targets?.outbound?.port, targets?.inbound?.port], [7101, 7106])
  const expected: readonly (readonly [Partial<Connection>, string])[] = [
    [{}, 'outbound'],
    [{ to: '2001:db8::1' }, 'outbound'],
    [{ gid: 701 }, 'pass'],
    [{ gid: 700 }, 'outbound'],
    [{ mark: 0x1700 }, 'pass'],
    [{ mark: 0x600 }, 'outbound'],
    [{ uid: 5999 }, 'pass'],
    [{ uid: 6000 }, 'outbound'],
    [{ proto: 'udp', port: 53 }, 'DNS'],
    [{ proto: 'udp' }, 'pass'],
    [{ interface: 'san1' }, 'pass'],
    [{ to: '198.51.100.7' }, 'gateway'],
    [{ to: '198.51.100.7', port: 22 }, 'outbound'],
    [{ to: '2001:db8:100::7' }, 'refused'],
    [{ to: '::7' }, 'pass'],
    [{ direction: 'inbound', to: '10.0.0.2', from: '10.100.3.4' }, 'pass'],
    [{ direction: 'inbound', to: '10.0.0.2', from: '10.101.3.4' }, 'inbound'],
    [{ direction: 'inbound', to: '10.0.0.2', port: 22, interface: 'san0' }, 'pass'],
    [{ direction: 'inbound', to: '10.0.0.2', interface: 'san0' }, 'inbound'],
  ]
  assert.deepEqual(
    expected.map(([connection]) => [connection, then(connection)]),
    expected,
  )
  assert.equal(then({ to: '2001:db8::1' }, annotated({ 'borealis.example/ipv6': 'off' })), 'outbound', "'off' is no boolean: a warning")
  assert.equal(then({ to: '2001:db8::1' }, annotated({ 'borealis.example/ipv6': 'false' })), 'pass')
})

/** Names of the fields of an interface in core/plugin.ts. */
function fieldsOf(name: string, file = 'core/plugin.ts'): string[] {
  const body = new RegExp(`export interface ${name}(?:<[^>]*>)? \\{\\n(.*?)\\n\\}`, 's').exec(textOf(file))?.[1]
  assert.ok(body, `no interface ${name} in ${file}`)
  return [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??[:<(]/gm)].map(([, field = '']) => field)
}

test('the page names everything that a plugin sees, may say, and gets to help it', () => {
  const page = textOf('docs/plugins.md')
  const interfaces = ['Container', 'Pod', 'SetSpec', 'Match', 'Rule', 'TargetSpec', 'Interception', 'Kit']
  const fields = [...interfaces.flatMap((name) => fieldsOf(name)), ...fieldsOf('Connection', 'core/testing/decide.ts')]
  assert.ok(fields.length > 55, fields.join())
  const missing = fields.filter((field) => !new RegExp(`\`[^\`\n]*\\b${field}\\b[^\`\n]*\``).test(page))
  assert.deepEqual([...new Set(missing)], [])
})
