// What Cheqroom's documentation says in words: an HMAC SHA256 hex digest of the payload, with the signing secret as the key.
const crypto = require('crypto');

const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(cases.map(({ body, signature, secret }) =>
  signature === crypto.createHmac('sha256', secret).update(body).digest('hex'))));
