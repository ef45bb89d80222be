// Finds the author's file and line for a place in the bundle. `build.js` makes the table from the bundler's source map.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/**
 * The sources, and for each line of the bundle, from 1 on, the index of its source and the line there, 0 where no source is the
 * author's: `[sources, [0, [2, 12], …]]`.
 *
 * Source: <https://tc39.es/ecma426/>, mappings.
 */
export function table(map, isOwn) {
  let [source, line] = [0, 0];
  const lines = map.mappings.split(";").map((segments) => {
    let first;
    for (const segment of segments.split(",").filter(Boolean)) {
      const numbers = decode(segment);
      source += numbers[1] ?? 0;
      line += numbers[2] ?? 0;
      first ??= [source, line + 1];
    }
    return first && isOwn(map.sources[first[0]]) ? first : 0;
  });
  return [map.sources, lines];
}

/** The innermost of a stack's frames in a file of the author's, as ` at src/plugin.js:12`; empty where there is none. */
export function place(stack, [sources, lines]) {
  for (const [, line] of String(stack ?? "").matchAll(/:(\d+):\d+\)?$/gm)) {
    const found = lines[line - 1];
    if (found) {
      return ` at ${sources[found[0]]}:${found[1]}`;
    }
  }
  return "";
}

/** The numbers of a segment: base 64, six bits a digit, the lowest of the first the sign. */
function decode(segment) {
  const numbers = [];
  let [value, shift] = [0, 0];
  for (const character of segment) {
    const digit = DIGITS.indexOf(character);
    value |= (digit & 31) << shift;
    shift += 5;
    if (digit < 32) {
      numbers.push(value & 1 ? -(value >> 1) : value >> 1);
      [value, shift] = [0, 0];
    }
  }
  return numbers;
}
