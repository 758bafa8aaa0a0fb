// Emits numbered events with @fluent-org/logger over the socket that is named, some at a time, and
// says of each one when it is acknowledged. Usage: node forward_client_kills.js SOCKET TAG COUNT
const { FluentClient, EventTime } = require("@fluent-org/logger");
const exitAfter = require("./exit_after.js");

const [path, tag, count] = process.argv.slice(2);
const AT_A_TIME = 100;

async function main() {
  const client = new FluentClient(null, {
    eventMode: "PackedForward",
    ack: { ackTimeout: 2000 },
    eventRetry: { attempts: 1e9, delay: 20, maxDelay: 200 },
    flushInterval: 5,
    socket: { path, reconnect: { delay: 20, maxDelay: 200 } },
  });
  const underWay = new Set();
  for (let n = 0; n < Number(count); n++) {
    const record = { log: `${n} ${"ü".repeat(n % 300)}` };
    const emitted = client.emit(tag, record, new EventTime(n, 7)).then(() => {
      console.log(n);
      underWay.delete(emitted);
    });
    underWay.add(emitted);
    if (underWay.size >= AT_A_TIME) {
      await Promise.race(underWay);
    }
  }
  await Promise.all(underWay);
  await client.disconnect();
}

exitAfter(main);
