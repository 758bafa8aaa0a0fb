// Emits 300 events in each mode with @fluent-org/logger, over the socket that is named, and ends
// when all of them are acknowledged. Usage: node forward_client.js SOCKET KEY USER PASSWORD
const { FluentClient, EventTime } = require("@fluent-org/logger");
const exitAfter = require("./exit_after.js");

const [path, sharedKey, username, password] = process.argv.slice(2);

async function main() {
  for (const eventMode of ["Message", "Forward", "PackedForward", "CompressedPackedForward"]) {
    const client = new FluentClient("app", {
      eventMode,
      ack: { ackTimeout: 30000 },
      flushInterval: 20,
      socket: { path },
      security: { clientHostname: "peer", sharedKey, username, password },
    });
    const acknowledged = [];
    for (let n = 0; n < 300; n++) {
      acknowledged.push(client.emit(eventMode, { n, text: "grün\n" }, new EventTime(n, 7)));
    }
    await Promise.all(acknowledged);
    await client.disconnect();
  }
}

exitAfter(main);
