// What the reference library says of each delivery: null is no objection.
const { Webhook } = require('standardwebhooks');

const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(cases.map(({ body, headers, secret }) => {
  try {
    new Webhook(secret).verify(body, Object.fromEntries(headers));
    return null;
  } catch (error) {
    return String(error);
  }
})));
