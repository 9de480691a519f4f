/**
 * Text from a file or a pod's name may hold characters that move a terminal's cursor, change its colours or reverse the direction of writing.
 * They are shown as escapes.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const unsafe = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g

function escaped(character: string): string {
  const code = character.charCodeAt(0)
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
}

/** One line of text that is safe to print; line breaks and tabs are escaped as well. */
export const printable = (text: string): string => text.replace(unsafe, escaped)
