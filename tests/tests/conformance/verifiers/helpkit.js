// The verifier as HelpKit's documentation prints it, and a loop around it that parses bodies as a receiver does.
const crypto = require('crypto');

function verifyWebhook(payload, signature, secret) { const expected = crypto
.createHmac('sha256', secret)
.update(JSON.stringify(payload))
.digest('hex'); return expected === signature; }

const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(cases.map(({ body, signature, secret }) => verifyWebhook(JSON.parse(body), signature, secret))));
