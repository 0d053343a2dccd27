// What the official TypeScript clients see: `v1` (@modelcontextprotocol/sdk) speaks the handshake
// era, `v2` (@modelcontextprotocol/client) either. Their packages are in .npm-clients/.
//
//   node with_typescript.mjs URL MARKS v1|v2 [legacy|auto]

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

// Packages are looked up beside the importing file; theirs are elsewhere.
const require = createRequire(fileURLToPath(new URL('../../.npm-clients/', import.meta.url)));
// Longer than the server's own patience, so that its answer is what counts.
const PATIENCE_MS = 20_000;

const [url, server, generation, mode] = process.argv.slice(2);
const cacheStatus = [];

async function ask(method, path) {
  const answer = await fetch(server + path, { method, signal: AbortSignal.timeout(PATIENCE_MS) });
  return answer.json();
}

/** Note what is said of the cache where the read-only tool is called. */
async function noting(target, init) {
  const answer = await fetch(target, init);
  const message = typeof init?.body === 'string' ? JSON.parse(init.body) : {};
  if (message.method === 'tools/call' && message.params.name === 'look') {
    cacheStatus.push(answer.headers.get('cache-status'));
  }
  return answer;
}

function within(promise, what) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${what}: not in time`)), PATIENCE_MS);
    promise.then(resolve, reject).finally(() => clearTimeout(late));
  });
}

const who = { name: 'typescript', version: '1' };
const capabilities = { elicitation: {}, sampling: {} };

/** The same few calls for both generations, which spell them differently. */
function first() {
  const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const types = require('@modelcontextprotocol/sdk/types.js');
  const client = new Client(who, { capabilities });
  const transport = new StreamableHTTPClientTransport(new URL(url), { fetch: noting });
  return {
    client,
    transport,
    on: {
      elicit: act => client.setRequestHandler(types.ElicitRequestSchema, act),
      sample: act => client.setRequestHandler(types.CreateMessageRequestSchema, act),
      changed: act => client.setNotificationHandler(types.ToolListChangedNotificationSchema, act)
    },
    protocol: () => transport.protocolVersion,
    call: (name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
    list: () => client.listTools(),
    listen: async () => {}
  };
}

function second() {
  const { Client, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');
  const client = new Client(who, { capabilities, versionNegotiation: { mode } });
  const transport = new StreamableHTTPClientTransport(new URL(url), { fetch: noting });
  const modern = () => client.getNegotiatedProtocolVersion() >= '2026';
  return {
    client,
    transport,
    on: {
      elicit: act => client.setRequestHandler('elicitation/create', act),
      sample: act => client.setRequestHandler('sampling/createMessage', act),
      changed: act => client.setNotificationHandler('notifications/tools/list_changed', act)
    },
    protocol: () => client.getNegotiatedProtocolVersion(),
    call: (name, args, options) => client.callTool({ name, arguments: args }, options),
    // Its own cache would hide the sidecar's.
    list: () => client.listTools({}, { cacheMode: 'bypass' }),
    listen: async () => {
      if (modern()) await client.listen({ toolsListChanged: true });
    }
  };
}

async function calls(peer, asked) {
  const steps = [];
  const text = async (name, args) => (await peer.call(name, args)).content[0].text;
  const failed = await peer.call('fail', {});
  const climbed = await peer.call('climb', {}, {
    onprogress: step => {
      steps.push([step.progress, step.total, step.message]);
      if (step.progress === 1) ask('POST', '/marks/climb.seen');
    }
  });
  return {
    reads: [await text('look', { what: 'it' }), await text('look', { what: 'it' })],
    writes: [await text('note', { text: 'one' }), await text('note', { text: 'two' })],
    failed: [failed.isError, failed.content[0].text],
    climbed: climbed.content[0].text,
    steps,
    painted: await text('paint', { thing: 'door' }),
    thought: await text('think', { topic: 'all' }),
    asked
  };
}

async function cancel(peer) {
  const leave = new AbortController();
  const running = peer.call('stay', {}, { signal: leave.signal }).then(() => false, () => true);
  const begun = await ask('GET', '/marks/stay.begun');
  leave.abort('enough');
  return [begun, await ask('GET', '/marks/stay.cancelled'), await within(running, 'cancelled')];
}

async function listed(peer) {
  const { tools } = await peer.list();
  const names = tools.map(tool => tool.name).sort();
  return [names, tools.find(tool => tool.name === 'look').description];
}

/** Whether two lists in a row are one and the same. */
async function kept(peer) {
  return (await listed(peer))[1] === (await listed(peer))[1];
}

async function changes(peer) {
  const told = new Promise(resolve => peer.on.changed(resolve));
  const before = [await listed(peer), await listed(peer)];
  await peer.listen();
  const heard = await ask('POST', '/grow');
  await within(told, 'list_changed');
  const after = await listed(peer);
  return {
    lists: [before[0][0], before[1][0], after[0]],
    kept: before[0][1] === before[1][1],
    told: heard
  };
}

async function main() {
  const peer = generation === 'v1' ? first() : second();
  const asked = [];
  peer.on.elicit(async request => {
    asked.push(request.params.message);
    return { action: 'accept', content: { colour: 'blue' } };
  });
  peer.on.sample(async request => {
    const [message] = request.params.messages;
    asked.push([message.content].flat()[0].text);
    return { role: 'assistant', model: 'none', content: { type: 'text', text: 'forty-two' } };
  });
  const { client } = peer;
  await client.connect(peer.transport);
  const seen = {
    protocol: peer.protocol(),
    server: client.getServerVersion().name,
    ...(await changes(peer)),
    ...(await calls(peer, asked)),
    resources: (await client.listResources()).resources.map(resource => resource.uri),
    resource: (await client.readResource({ uri: 'clients://leaf' })).contents[0].text,
    prompts: (await client.listPrompts()).prompts.map(prompt => prompt.name),
    prompt: (await client.getPrompt({ name: 'greet', arguments: { name: 'Ada' } })).messages[0].content.text,
    kept_later: await kept(peer),
    // Last: after a call of unknown fate nothing is kept for a while.
    cancelled: await cancel(peer),
    cache_status: cacheStatus
  };
  await client.close();
  return seen;
}

console.log(JSON.stringify(await main()));
