/** Which executables are taken for ones that splice; what a pod may give the agent to read does no harm. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { bounds, examine, type Findings, Unreadable } from '../../core/acceleration/elf.ts'
import { executableMappings, isSameProcess, startTicks } from '../../core/acceleration/process.ts'
import { ProgramJudge, verdictOf } from '../../core/acceleration/programs.ts'
import { Asks, programCodec, programKeyCodec, Splices } from '../../core/contract.ts'
import type { BpfMap } from '../../core/native/api.ts'

const reader = (bytes: Buffer) => async (offset: number, length: number) =>
  bytes.subarray(Math.min(offset, bytes.length), Math.min(offset + length, bytes.length))
const judged = async (path: string) => verdictOf([await examine(reader(readFileSync(path)), true)]).splices

describe('executables', { timeout: 120_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'executables-'))
  after(() => rmSync(directory, { recursive: true, force: true }))

  const compiled = (name: string, body: string, ...flags: string[]): string => {
    const path = join(directory, name)
    writeFileSync(
      `${path}.c`,
      `#define _GNU_SOURCE\n#include <fcntl.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n#include <sys/ioctl.h>\nint main(int n, char **v) { ${body} return 0; }\n`,
    )
    execFileSync('cc', ['-O1', ...flags, '-o', path, `${path}.c`])
    return path
  }
  const uses = 'if (n > 5) splice(0, 0, 1, 0, 1, 0); pause();'

  test('linked to libc, or static, with and without splice', async () => {
    assert.equal(await judged(compiled('imports', uses)), Splices.DOES)
    assert.equal(await judged(compiled('innocent', 'pause();')), Splices.NEVER)
    assert.equal(await judged(compiled('static', uses, '-static')), Splices.DOES)
    assert.equal(await judged(compiled('static-pie', uses, '-static-pie')), Splices.DOES)
    assert.equal(await judged(compiled('static-innocent', 'pause();', '-static')), Splices.NEVER)
    assert.equal(await judged(compiled('number', 'if (n > 5) syscall(SYS_splice, 0, 0, 1, 0, 1, 0);')), Splices.MAYBE)
    assert.equal(await judged(compiled('vmsplices', 'if (n > 5) vmsplice(1, 0, 0, 0);')), Splices.DOES)
  })

  test('what asks how many bytes wait', async () => {
    const asks = async (path: string) => verdictOf([await examine(reader(readFileSync(path)), true)]).asks
    const body = 'int m; if (n > 5) ioctl(0, FIONREAD, &m);'
    assert.equal(await asks(compiled('asks', body)), Asks.DOES)
    assert.equal(await asks(compiled('asks-static', body, '-static')), Asks.DOES)
    assert.equal(await asks(compiled('asks-not', 'ioctl(0, TIOCNOTTY);')), Asks.NEVER)
    if (existsSync('/usr/sbin/nginx')) assert.equal(await asks('/usr/sbin/nginx'), Asks.DOES)
  })

  test('what runs scripts, or other programs', async () => {
    for (const path of ['/usr/bin/python3', '/usr/bin/perl', '/lib64/ld-linux-x86-64.so.2'].filter((each) => existsSync(each)))
      assert.equal(await judged(path), Splices.MAYBE, path)
  })

  test('real programs of this machine', async (t) => {
    const known = {
      '/usr/sbin/haproxy': Splices.DOES,
      '/usr/local/go/bin/go': Splices.DOES,
      '/usr/sbin/nginx': Splices.NEVER,
      '/usr/bin/curl': Splices.NEVER,
    }
    for (const [path, splices] of Object.entries(known)) {
      if (existsSync(path)) assert.equal(await judged(path), splices, path)
      else t.diagnostic(`${path} is not installed`)
    }
  })

  test('what is not understood is not judged', async () => {
    const innocent = readFileSync(compiled('cut', 'pause();'))
    const attempt = (bytes: Buffer) => examine(reader(bytes), true)
    for (const bytes of [Buffer.alloc(0), Buffer.from('#!/bin/sh\n'), innocent.subarray(0, innocent.length - 200)])
      await assert.rejects(attempt(bytes), Unreadable)
    const changed = (offset: number, ...values: number[]) => {
      const copy = Buffer.from(innocent)
      for (const [index, value] of values.entries()) copy[offset + index] = value
      return copy
    }
    await assert.rejects(attempt(changed(4, 1)), /64 bits/)
    await assert.rejects(attempt(changed(18, 0xff)), /this machine/)
    await assert.rejects(attempt(changed(60, 0, 0)), /no sections/)
    await assert.rejects(attempt(changed(40, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), /beyond every file/)
  })

  test('any bytes in the place of some end in a verdict or in Unreadable', async () => {
    const good = readFileSync(compiled('victim', uses))
    const header = Number(good.readBigUInt64LE(40))
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.oneof(fc.nat(63), fc.integer({ min: header, max: good.length - 1 }), fc.nat(good.length - 1)), fc.nat(255)), {
          minLength: 1,
          maxLength: 40,
        }),
        async (changes) => {
          const bytes = Buffer.from(good)
          for (const [at, value] of changes) bytes[at] = value
          await examine(reader(bytes), true).catch((error: unknown) => assert.ok(error instanceof Unreadable, String(error)))
        },
      ),
      { numRuns: 300 },
    )
  })

  test('tables made to take long do not hold up the agent', async () => {
    const size = 64
    const symbols = Buffer.alloc(bounds.symbols, 0xff)
    for (let at = 0; at + 24 <= symbols.length; at += 24) symbols.writeUInt32LE(4, at)
    const strings = Buffer.alloc(bounds.strings, 'sp')
    const bytes = Buffer.alloc(64 + 3 * size)
    readFileSync(process.execPath).copy(bytes, 0, 0, 64)
    bytes.writeBigUInt64LE(64n, 40)
    bytes.writeUInt16LE(size, 58)
    bytes.writeUInt16LE(3, 60)
    bytes.writeUInt16LE(0, 62)
    const section = (index: number, type: number, offset: number, length: number) => {
      bytes.writeUInt32LE(type, 64 + index * size + 4)
      bytes.writeBigUInt64LE(BigInt(offset), 64 + index * size + 24)
      bytes.writeBigUInt64LE(BigInt(length), 64 + index * size + 32)
      bytes.writeUInt32LE(2, 64 + index * size + 40)
    }
    section(0, 3, 0, 0)
    section(1, 11, bytes.length, symbols.length)
    section(2, 3, bytes.length + symbols.length, strings.length)
    const file = Buffer.concat([bytes, symbols, strings])
    let turns = 0
    const timer = setInterval(() => turns++, 0)
    await examine(reader(file), false)
    clearInterval(timer)
    assert.ok(turns >= 5, `the rest of the agent had its turn ${turns} times meanwhile`)
  })

  test('the worst of all files counts', () => {
    const good: Findings = { splices: false, runsScripts: false, mayCall: false, asks: false }
    assert.equal(verdictOf([]).splices, Splices.NEVER)
    assert.equal(verdictOf([good, { ...good, mayCall: true }]).splices, Splices.MAYBE)
    assert.equal(
      verdictOf([
        { ...good, runsScripts: true },
        { ...good, splices: true },
      ]).splices,
      Splices.DOES,
    )
    assert.equal(verdictOf([good, { ...good, asks: true }]).asks, Asks.DOES)
    assert.equal(
      verdictOf([
        { ...good, runsScripts: true },
        { ...good, asks: true },
      ]).asks,
      Asks.MAYBE,
    )
  })
})

describe('processes', { timeout: 60_000 }, () => {
  let judge: ProgramJudge
  before(() => {
    judge = new ProgramJudge({} as BpfMap, () => {})
  })

  test('mapped files with executable pages, once each', () => {
    const maps = [
      '00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon',
      '00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus-daemon',
      '7f00-7f01 r-xp 00000000 103:0a 9 /a name\\012with everything (deleted)',
      '7f10-7f11 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon',
      '7fff-8000 r-xp 00000000 00:00 0           [vdso]',
      'nonsense',
    ]
    assert.deepEqual(executableMappings(maps.join('\n')), [
      { inode: 173521n, device: 8 * 0x100000 + 2, range: '400000-452000' },
      { inode: 9n, device: 0x103 * 0x100000 + 10, range: '7f00-7f01' },
    ])
  })

  test('a name cannot hide the start of a process', () => {
    const rest = `S ${'1 '.repeat(18)}4711 0 0`
    assert.equal(startTicks(`12 (a) R 1 (b) ${rest}`), 4711)
    assert.equal(startTicks(''), undefined)
  })

  test('a process is judged by what it has mapped; one that is gone, or another, is not', async () => {
    const child = spawn('/bin/sleep', ['30'], { stdio: 'ignore' })
    try {
      await sleep(200)
      const pid = child.pid ?? 0
      const started = BigInt(startTicks(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? 0) * 10_000_000n
      const { ino } = statSync(`/proc/${pid}/exe`, { bigint: true })
      const own = executableMappings(readFileSync(`/proc/${pid}/maps`, 'latin1')).find(({ inode }) => inode === ino)
      assert.ok(own)
      const program = { inode: own.inode, device: own.device }
      assert.equal((await judge.judge(program, pid, started))?.splices, Splices.NEVER)
      assert.equal(await judge.judge({ ...program, inode: 1n }, pid, started), undefined, 'another program')
      assert.equal(await judge.judge(program, pid, started + 50_000_000n), undefined, 'another process')
      assert.equal(await isSameProcess(pid, started + 5_000_000n), true)
      child.kill('SIGKILL')
      await sleep(200)
      assert.equal(await judge.judge(program, pid, started), undefined, 'gone')
    } finally {
      child.kill('SIGKILL')
    }
  })

  const unjudged = (pid: number) => ({
    key: programKeyCodec.encode({ inode: BigInt(pid), device: pid }),
    value: programCodec.encode({ splices: Splices.UNKNOWN, asks: Asks.UNKNOWN, pid, started: 0n }),
  })
  const mapOf = (verdicts: Map<string, Buffer>) =>
    ({
      entries: async () => [...verdicts].map(([key, value]) => ({ key: Buffer.from(key, 'hex'), value })),
      lookup: (key: Buffer) => verdicts.get(key.toString('hex')),
      update: (key: Buffer, value: Buffer) => verdicts.set(key.toString('hex'), value),
    }) as unknown as BpfMap

  test('a program that comes while another one is looked at is next', async () => {
    const verdicts = new Map([unjudged(1)].map(({ key, value }) => [key.toString('hex'), value]))
    const seen: number[] = []
    class Busy extends ProgramJudge {
      override async judge(_: unknown, pid: number) {
        seen.push(pid)
        if (pid === 1) {
          const { key, value } = unjudged(2)
          verdicts.set(key.toString('hex'), value)
          this.look()
        }
        return { splices: Splices.NEVER, asks: Asks.NEVER, why: '' }
      }
    }
    await using busy = new Busy(mapOf(verdicts), () => {})
    busy.look()
    for (let turn = 0; turn < 100 && seen.length < 2; turn++) await sleep(20)
    assert.deepEqual(seen, [1, 2])
  })

  test('readings that do not end hold up nobody else for long', async () => {
    const entries = [1, 2, 3, 4].map(unjudged)
    const verdicts = new Map(entries.map(({ key, value }) => [key.toString('hex'), value]))
    const map = mapOf(verdicts)
    const ends: (() => void)[] = []
    const good = { splices: Splices.NEVER, asks: Asks.NEVER, why: '' }
    class Slow extends ProgramJudge {
      override judge(_: unknown, pid: number): Promise<typeof good> {
        return pid % 2 === 0 ? Promise.resolve(good) : new Promise((resolve) => ends.push(() => resolve(good)))
      }
    }
    let judgedOnes = 0
    await using slow = new Slow(
      map,
      () => {},
      () => judgedOnes++,
      50,
    )
    const found = () => [...verdicts.values()].map((value) => programCodec.decode(value).splices)
    slow.look()
    for (let turn = 0; turn < 200 && judgedOnes < 4; turn++) await sleep(20)
    // The fourth is not read while two readings go on.
    assert.deepEqual(found(), [Splices.MAYBE, Splices.NEVER, Splices.MAYBE, Splices.MAYBE])
    for (const end of ends) end()
    await sleep(20)
    const [, , , fourth] = entries
    assert.ok(fourth)
    verdicts.set(fourth.key.toString('hex'), fourth.value)
    for (let turn = 0; turn < 200 && judgedOnes < 5; turn++) {
      slow.look()
      await sleep(20)
    }
    assert.deepEqual(found()[3], Splices.NEVER, 'they have ended')
  })
})
