// Judges bodies: is each one what JSON.stringify(JSON.parse(text)) gives, and is one missing only where a number overflows?
const crypto = require('crypto');

const overflows = (value) =>
  typeof value === 'number' ? !Number.isFinite(value)
  : value !== null && typeof value === 'object' ? Object.values(value).some(overflows)
  : false;

const { secret, cases } = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const wrong = [];
for (const { text, body, signature } of cases) {
  const value = JSON.parse(text);
  const expected = JSON.stringify(value);
  const fits = body === null
    // A repeated name may hide the number that overflowed.
    ? overflows(value) || (text.match(/\d+(\.\d+)?(e[+-]?\d+)?/gi) ?? []).some((number) => !Number.isFinite(Number(number)))
    : !overflows(value) && body === expected
      && signature === crypto.createHmac('sha256', secret).update(JSON.stringify(JSON.parse(body))).digest('hex');
  if (!fits && wrong.length < 5) wrong.push({ text, body, expected });
}
console.log(JSON.stringify({ judged: cases.length, wrong }));
