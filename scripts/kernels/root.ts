/**
 * The guest's file system as cpio archives for the kernel to unpack: a base (Debian packages and Node, kept by content) and what is of this
 * checkout (the package as it is shipped, and the tests, compiled). Archives may follow each other in one initramfs.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Apt } from './apt.ts'
import { type Architecture, cacheDirectory, checkout, contentHash, execute, madeDirectory, must } from './place.ts'

/** As Node calls them. */
export const nodeArchitecture = { amd64: 'x64', arm64: 'arm64' } as const

const guestPackages = [
  ...['busybox-static', 'dash', 'libc6', 'libstdc++6', 'libbpf1', 'libelf1', 'zlib1g', 'iproute2', 'iptables', 'util-linux', 'util-linux-extra'],
  ...['bpftool', 'python3-minimal', 'libpython3.11-stdlib', 'procps'],
] as const

/** Dependencies that only package scripts, or programs that nobody runs here, have use for. */
const needless = /^(perl|libperl|dpkg_|debconf|usrmerge|tar_|libfile-find|libnumber|libtext|init-system|readline-common|media-types|libpam0g)/

const prunedPaths = [
  ...['usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/bash-completion', 'usr/share/perl5', 'usr/share/lintian', 'usr/share/bug'],
  ...['usr/share/info', 'usr/share/zsh', 'usr/include', 'usr/lib/*/gconv', 'usr/lib/*/perl*', 'usr/lib/tmpfiles.d', 'usr/lib/systemd', 'etc/init.d'],
  ...['usr/lib/python3*/{idlelib,tkinter,lib2to3,ensurepip,pydoc_data,test,unittest,distutils,asyncio,xml,wsgiref,turtledemo,config-*}'],
]

/** cpio of a directory; owners are root, so that it needs none to be made. */
export function archive(directory: string, to: string): void {
  const names = execFileSync('find', ['.', '-mindepth', '1', '-print0'], { cwd: directory, maxBuffer: 64 << 20 })
  execFileSync('cpio', ['--null', '-o', '-H', 'newc', '-R', '0:0', '--quiet', '--reproducible', '-F', to], { cwd: directory, input: names })
}

function nodeBinary(architecture: Architecture): string {
  const arch = nodeArchitecture[architecture]
  return process.arch === arch ? join(checkout, '.cache/node/bin/node') : join(cacheDirectory, `node-${arch}/bin/node`)
}

function skeleton(root: string): void {
  for (const name of ['proc', 'sys', 'dev', 'tmp', 'run', 'etc', 'var', 'root', 'opt']) mkdirSync(join(root, name), { recursive: true })
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n')
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n')
}

/** Python would compile its library at every start, which takes seconds under emulation. Only the same version can do it beforehand. */
async function compilePython(root: string): Promise<void> {
  const library = globSync(join(root, 'usr/lib/python3.*'))[0] ?? ''
  await execute(['/usr/bin/python3', '-m', 'compileall', '-q', '-j', '0', '--invalidation-mode', 'unchecked-hash', library])
}

/** The path of the archive with everything that is the same for every run. */
export async function baseArchive(apt: Apt): Promise<string> {
  const node = nodeBinary(apt.architecture)
  const files = (await apt.tree(guestPackages)).filter((file) => !needless.test(file))
  const key = contentHash([...files, readFileSync(import.meta.filename), readFileSync(join(checkout, 'scripts/node.sh'))])
  const directory = await madeDirectory(join(cacheDirectory, `base-${apt.architecture}`), key, async (made) => {
    const [debs, root] = [join(made, 'debs'), join(made, 'root')]
    skeleton(root)
    for (const deb of await apt.downloadTree(guestPackages, debs)) {
      if (!needless.test(deb.slice(debs.length + 1))) await must(['dpkg-deb', '-x', deb, root])
    }
    for (const path of globSync(prunedPaths.map((each) => join(root, each)))) rmSync(path, { recursive: true })
    await compilePython(root)
    cpSync(node, join(root, 'usr/bin/node'))
    await must(['llvm-strip-19', join(root, 'usr/bin/node')])
    archive(root, join(made, 'base.cpio'))
    for (const each of [debs, root]) rmSync(each, { recursive: true })
  })
  return join(directory, 'base.cpio')
}
