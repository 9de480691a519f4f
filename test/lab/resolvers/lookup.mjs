// Looks all names up at once: lines "NAME ADDRESS" or "NAME !ERROR". The first argument is `getaddrinfo`, or the servers that c-ares shall ask.
import { promises as dns } from 'node:dns'

const [servers = '', ...names] = process.argv.slice(2)

async function withCares(name) {
  const resolver = new dns.Resolver({ timeout: 1000, tries: 4 })
  if (servers !== 'resolv.conf') resolver.setServers(servers.split(','))
  return (await Promise.all([resolver.resolve4(name), resolver.resolve6(name)])).flat()
}

async function withLibc(name) {
  return (await dns.lookup(name, { all: true })).map(({ address }) => address)
}

const lookup = servers === 'getaddrinfo' ? withLibc : withCares
const lines = names.map(async (name) => {
  const found = await lookup(name).catch((error) => [`!${error.code}`])
  return found.map((address) => `${name} ${address}\n`).join('')
})
process.stdout.write((await Promise.all(lines)).join(''))
