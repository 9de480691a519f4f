/** The few BPF instructions (linux/bpf.h, linux/bpf_common.h) of which probes are made. Registers: 1 is the context at the start, 10 the stack. */

function instruction(code: number, target: number, source: number, offset: number, immediate: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt8(code, 0)
  bytes.writeUInt8((source << 4) | target, 1)
  bytes.writeInt16LE(offset, 2)
  bytes.writeInt32LE(immediate, 4)
  return bytes
}

export const set = (register: number, value: number): Buffer => instruction(0xb7, register, 0, 0, value)
export const copy = (register: number, from: number): Buffer => instruction(0xbf, register, from, 0, 0)
export const add = (register: number, value: number): Buffer => instruction(0x07, register, 0, 0, value)
/** A pointer or __u64 field of what the register points to. */
export const load = (register: number, from: number, offset: number): Buffer => instruction(0x79, register, from, offset, 0)
/** A __u32 field of what the register points to. */
export const loadWord = (register: number, from: number, offset: number): Buffer => instruction(0x61, register, from, offset, 0)
/** __u64 on the stack, at a negative offset. */
export const storeOnStack = (offset: number, value: number): Buffer => instruction(0x7a, 10, 0, offset, value)
export const skipIfNull = (register: number, instructions: number): Buffer => instruction(0x15, register, 0, instructions, 0)
export const call = (helper: number): Buffer => instruction(0x85, 0, 0, 0, helper)
/** Takes the room of two instructions. */
export const loadMap = (register: number, descriptor: number): Buffer =>
  Buffer.concat([instruction(0x18, register, 1, 0, descriptor), instruction(0, 0, 0, 0, 0)])

/** Ends with 1: a cgroup hook lets things pass, a verdict program as well. */
export const program = (...body: readonly Buffer[]): Buffer => Buffer.concat([...body, set(0, 1), instruction(0x95, 0, 0, 0, 0)])
