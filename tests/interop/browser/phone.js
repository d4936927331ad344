// What both kinds of browser phone share.

export const MEDIA = { audio: true, video: false };
const PATIENCE_MS = 10_000;

// Received MESSAGEs, for those who wait for them.
export class Inbox {
  #received = [];
  #told = () => {};

  add(from, text) {
    this.#received.push({ from, text });
    this.#told();
  }

  next() {
    const arrived = new Promise((resolve) => {
      this.#told = () => this.#received.length && resolve(this.#received.shift());
      this.#told();
    });
    return within(arrived, "MESSAGE");
  }
}

export function within(promise, what) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`no ${what} in ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]);
}

// Audio packets both ways, as the browser's WebRTC counts them.
export async function countPackets(connection) {
  const count = { sent: 0, received: 0, candidates: connection.iceConnectionState };
  for (const report of (await connection.getStats()).values()) {
    if (report.type === "outbound-rtp") count.sent += report.packetsSent;
    if (report.type === "inbound-rtp") count.received += report.packetsReceived;
  }
  return count;
}
