/** What boots: the kernel and the modules that the guest loads, taken out of Debian's packages or given as files. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, globSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import type { Apt } from './apt.ts'
import { type Architecture, cacheDirectory, Failure, madeDirectory, must } from './place.ts'
import { compareReleases, type Kernel } from './versions.ts'

/** What the labs of the tests, iptables in both variants and the serial port for results need. Built in where there is no file. */
const wantedModules = [
  ...['virtio_pci', 'virtio_mmio', 'virtio_console', 'veth', 'bridge', 'dummy', 'unix_diag', 'inet_diag', 'tcp_diag', 'sch_ingress', 'cls_bpf'],
  ...[
    'crc32c_generic',
    'nf_conntrack',
    'nf_nat',
    'nf_tables',
    'nft_compat',
    'nft_chain_nat',
    'nft_redir',
    'nft_nat',
    'nft_ct',
    'nft_counter', // part of nf_tables since Linux 5.18
    'nfnetlink',
    'nf_conntrack_netlink',
  ],
  ...[
    'x_tables',
    'ip_tables',
    'iptable_nat',
    'iptable_raw',
    'ip6_tables',
    'ip6table_nat',
    'ip6table_raw',
    'xt_nat',
    'xt_REDIRECT',
    'xt_owner',
    'xt_multiport',
    'xt_conntrack',
    'xt_tcpudp',
    'xt_comment',
    'xt_mark',
    'xt_CT',
  ],
  ...['sch_ingress', 'cls_bpf', 'act_bpf'],
] as const

/** A directory with `vmlinuz`, `modules/*.ko` and `modules/order`, the order in which they can be loaded. */
export interface Bootable {
  readonly architecture: Architecture
  readonly directory: string
  /** For people: the packages with their versions, or the file that was given. */
  readonly origin: string
}

/** The value of a field of the module's .modinfo section; they are strings "name=value" between zero bytes. */
function moduleField(image: Buffer, name: string): string {
  const start = image.indexOf(`\0${name}=`)
  return start < 0 ? '' : image.toString('latin1', start + name.length + 2, image.indexOf(0, start + 1))
}

function decompressed(path: string): Buffer {
  if (path.endsWith('.xz')) return execFileSync('xz', ['-dc', path], { maxBuffer: 64 << 20 })
  const raw = readFileSync(path)
  return path.endsWith('.zst') ? zstdDecompressSync(raw) : path.endsWith('.gz') ? gunzipSync(raw) : raw
}

const moduleName = (path: string) =>
  basename(path)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_')

/** Copies the wanted modules below `tree` with everything that they depend on, and writes the order. */
function collectModules(tree: string, to: string): void {
  const files = new Map(globSync(`${tree}/**/*.ko{,.xz,.zst,.gz}`).map((path) => [moduleName(path), path]))
  mkdirSync(to)
  const order: string[] = []
  const visit = (name: string): void => {
    const file = files.get(name)
    if (file === undefined) return // built in, or from another version
    files.delete(name)
    const image = decompressed(file)
    for (const needed of moduleField(image, 'depends').split(',')) visit(needed.replaceAll('-', '_'))
    writeFileSync(join(to, `${name}.ko`), image)
    order.push(`${name}.ko`)
  }
  for (const name of wantedModules) visit(name)
  writeFileSync(join(to, 'order'), `${order.join('\n')}\n`)
}

/** arm64 kernels may be packed into an EFI program, which only firmware can start: QEMU gets what is in it. */
function withoutEfiWrapper(path: string): void {
  const image = readFileSync(path)
  if (image.toString('latin1', 4, 8) !== 'zimg') return
  const packed = image.subarray(image.readUInt32LE(8), image.readUInt32LE(8) + image.readUInt32LE(12))
  const how = image.toString('latin1', 24, 56).replace(/\0.*$/s, '')
  if (how !== 'gzip' && how !== 'zstd') throw new Failure(`${path}: packed with ${how}, which is not known here`)
  writeFileSync(path, how === 'gzip' ? gunzipSync(packed) : zstdDecompressSync(packed))
}

async function unpack(packages: readonly string[], directory: string): Promise<void> {
  const tree = join(directory, 'tree')
  for (const file of packages) await must(['dpkg-deb', '-x', file, tree])
  const [image, ...more] = globSync(`${tree}/{boot/vmlinu[xz]-*,lib/modules/*/vmlinuz,usr/lib/modules/*/vmlinuz}`)
  if (image === undefined || more.length > 0) throw new Failure(`not exactly one kernel in ${packages.map((path) => basename(path)).join(', ')}`)
  copyFileSync(image, join(directory, 'vmlinuz'))
  withoutEfiWrapper(join(directory, 'vmlinuz'))
  collectModules(tree, join(directory, 'modules'))
  rmSync(tree, { recursive: true })
}

/** Kept under the version of the package: fetched once. */
export async function fetchKernel(kernel: Kernel, apt: Apt): Promise<Bootable> {
  const { architecture, release, flavour, packages } = kernel
  const origin = packages.map(({ name, version }) => `${name} ${version}`).join(', ')
  const key = `${origin}\n${wantedModules.join(' ')}`
  const directory = await madeDirectory(join(cacheDirectory, 'kernels', `${release}-${flavour}`), key, async (made) => {
    const debs = join(made, 'debs')
    await unpack(await apt.download(packages, debs), made)
    rmSync(debs, { recursive: true })
  })
  return { architecture, directory, origin: packages.length === 1 ? origin : `${packages[0]?.name} ${packages[0]?.version}` }
}

/** A kernel that is not in Debian: a .deb, or a kernel image with the directory that holds its modules. */
export async function givenKernel(path: string, modules: string | undefined, architecture: Architecture): Promise<Bootable> {
  const { mtimeMs, size } = statSync(path)
  const key = `${path} ${mtimeMs} ${size} ${modules ?? ''}\n${wantedModules.join(' ')}`
  const directory = await madeDirectory(join(cacheDirectory, 'kernels', `given-${basename(path)}`), key, async (made) => {
    if (path.endsWith('.deb')) return unpack([path], made)
    copyFileSync(path, join(made, 'vmlinuz'))
    withoutEfiWrapper(join(made, 'vmlinuz'))
    collectModules(modules ?? made, join(made, 'modules'))
  })
  return { architecture, directory, origin: path }
}

/** Kernels of earlier runs beyond the newest few would fill the disk: each is replaced by its successor. */
export function forgetOldKernels(): void {
  const directories = globSync(join(cacheDirectory, 'kernels', '*'))
  for (const path of directories.toSorted(compareReleases).slice(0, -20)) rmSync(path, { recursive: true, force: true })
}
