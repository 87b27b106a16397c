// BullMQ's side: `node bullmq.cjs worker PORT CONCURRENCY`, or a client that measures: `node bullmq.cjs client PORT
// CALLS LONE`, which answers each line of its standard input ("calls", "lone") with one of JSON.
"use strict";
const { Queue, QueueEvents, Worker } = require("bullmq");

const [mode, port, first, second] = process.argv.slice(2);
const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };
const NAME = "peers";
const BULK = 1000;

function expect(found, wanted, what) {
  if (found !== wanted) throw new Error(`${what}: ${found}, and ${wanted} was due`);
}

async function worker() {
  const worker = new Worker(NAME, async (job) => job.data, { connection, concurrency: Number(first) });
  worker.on("error", (error) => console.error(error));
  await worker.waitUntilReady();
  console.log("ready");
}

async function client() {
  // Room for the events of all calls: by default the stream forgets what is older than 10,000.
  const queue = new Queue(NAME, { connection, streams: { events: { maxLen: 10 * Number(first) } } });
  const events = new QueueEvents(NAME, { connection });
  events.setMaxListeners(0);
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
  const commands = { warm: () => calls(queue, events, 200), calls: () => calls(queue, events, Number(first)), lone: () => lone(queue, events) };
  console.log(JSON.stringify({ ready: true }));
  for await (const line of require("readline").createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await commands[line]()));
  }
  await Promise.all([queue.close(), events.close()]);
}

// All are added in bulk, and each value comes with the event of its job's end.
async function calls(queue, events, many) {
  const values = [];
  let all;
  const done = new Promise((resolve) => (all = resolve));
  const listener = ({ returnvalue }) => {
    values.push(Number(returnvalue));
    if (values.length === many) all();
  };
  events.on("completed", listener);
  const start = process.hrtime.bigint();
  for (let from = 0; from < many; from += BULK) {
    const length = Math.min(BULK, many - from);
    await queue.addBulk(Array.from({ length }, (_, n) => ({ name: "same", data: from + n })));
  }
  await done;
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  events.off("completed", listener);
  values.sort((a, b) => a - b).forEach((value, n) => expect(value, n, "value"));
  return { seconds };
}

async function lone(queue, events) {
  const us = [];
  for (let n = 0; n < Number(second); n++) {
    const start = process.hrtime.bigint();
    const job = await queue.add("same", n);
    const value = await job.waitUntilFinished(events, 30000);
    us.push(Number(process.hrtime.bigint() - start) / 1e3);
    expect(value, n, "value");
  }
  return { us };
}

(mode === "worker" ? worker() : client()).catch((error) => {
  console.error(error);
  process.exit(1);
});
