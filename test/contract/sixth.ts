/** A mesh that does not exist, Borealis: a bit of everything that rules can say, written from docs/plugins.md. sixth.test.ts has it pass the contract. */
import type { Kit, Pod } from '../../core/plugin.ts'

const gateway = { ipv4: '10.0.0.100', ipv6: false, port: 15443 } as const
const proxyOf = ({ containers }: Pod) => containers.find(({ image = '' }) => /(^|\/)borealis:/.test(image))

/** The port in `--NAME=PORT` of the proxy's arguments, else in its environment. */
function portOf(pod: Pod, name: string, fallback: number): number {
  const { args = [], env = {} } = proxyOf(pod) ?? {}
  const given = args.find((arg) => arg.startsWith(`--${name}=`))?.split('=')[1] ?? env[`BOREALIS_${name.toUpperCase()}`]
  if (given === undefined || /^[1-9]\d{0,3}$/.test(given)) return Number(given ?? fallback)
  pod.warn(`the port ${name} is ignored: expected a number from 1 to 9999, got '${given}'`)
  return fallback
}

export default ({ definePlugin, z, ports, cidrs, boolean, idList }: Kit) =>
  definePlugin({
    api: 1,
    name: 'borealis',
    options: z.strictObject({ exempt: idList.default(['5000-5999']).describe('users whose connections are left alone') }),
    selects: (pod) => proxyOf(pod) !== undefined && pod.labels['borealis.example/inject'] !== 'off',
    describe: (pod, options) => {
      const ipv6 = pod.read('borealis.example/ipv6', boolean, true)
      const alone = ipv6 ? [] : [{ name: 'IPv6 is off', when: { family: 'ipv6' }, then: 'pass' } as const]
      const gid = proxyOf(pod)?.gid ?? 700
      return {
        proxy: { gid, mark: 0x700 },
        loopbackAddresses: ['::7'],
        sets: {
          proxy: { gid: [gid], mark: [{ value: 0x700, mask: 0xf00 }] },
          exempt: { uid: options.exempt },
          DNS: { ports: [53] },
          external: { cidrs: pod.read('borealis.example/external', cidrs, ['198.51.100.0/24', '2001:db8:100::/48']) },
          web: { ports: [80, 443, '8000-8999'] },
          captured: { ports: pod.read('borealis.example/ports', ports, ['*']) },
          storage: { interfaces: ['san+'] },
          scrapers: { cidrs: ['10.100.0.0/16', 'fd00:100::/64'] },
        },
        targets: { outbound: { port: portOf(pod, 'outbound', 7001) }, inbound: { port: portOf(pod, 'inbound', 7006) }, DNS: { port: 7053 }, gateway },
        outbound: [
          ...alone,
          { name: 'the proxy itself', when: { from: 'proxy' }, then: 'pass' },
          { name: 'DNS', when: { proto: 'udp', port: 'DNS' }, then: 'DNS' },
          { name: 'stays in the pod', when: { to: 'pod' }, then: 'pass' },
          { name: 'exempt user', when: { from: 'exempt' }, then: 'pass' },
          { name: 'storage network', when: { to: 'storage' }, then: 'pass' },
          { name: 'external web', when: { proto: 'tcp', to: 'external', port: ['web', 'captured'] }, then: 'gateway' },
          { name: 'captured port', when: { proto: 'tcp', port: 'captured' }, then: 'outbound' },
        ],
        inbound: [
          ...alone,
          { name: 'scraper', when: { from: 'scrapers' }, then: 'pass' },
          { name: 'storage network', when: { from: 'storage' }, unless: { port: 'web' }, then: 'pass' },
          { name: 'captured port', when: { port: 'captured' }, then: 'inbound' },
        ],
      }
    },
  })
