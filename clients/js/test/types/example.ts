// What an application in TypeScript writes. It is checked, and never run.

import { Backoff, Sound, Voxhall, VoxhallError, decode, encode } from 'voxhall';
import type { ChannelMessage, ServerEvent, Session, State } from 'voxhall';

const client = new Voxhall({
  url: 'https://voice.example',
  session: 'lesson-7',
  getToken: async () => (await fetch('/token')).text(),
  engine: 'parrot',
  format: 'pcm16',
  rate: 16000,
  transport: 'auto',
  messagepack: true,
  queueEvents: 100,
  backoff: { capMs: 10_000 },
});

const off: () => void = client.on('response.done', ({ response }) => {
  const status: 'in_progress' | 'completed' | 'cancelled' | 'failed' | 'incomplete' = response.status;
  console.log(response.id, status);
});
client.on('state', ({ state, inMs, code }) => {
  const now: State = state;
  console.log(now, inMs === null ? code : inMs.toFixed());
});
client.on('*', (event: ServerEvent) => console.log(event.type, event.seq));
client.on('something.new', (event) => console.log(event['field']));
client.on('audio', ({ payload, track }) => console.log(payload.byteLength, track));
client.once('gap', ({ channel, after, reason }) => console.log(channel, after, reason));
client.on('session.restored', ({ recovered, state }) => console.log(recovered, state));

async function run(): Promise<void> {
  const session: Session = await client.connect({ engine: 'relay' });
  console.log(session.member, client.roomState?.['page'], client.seq);
  const number: number = client.sendToRoom({ text: 'hello' }, { to: 2 });
  client.updateState({ page: number });
  client.sendText('hello', { respond: false });
  if (!client.sendAudio(new Int16Array(320))) console.log(client.counts.framesDropped);
  const end = client.subscribe('user:7:*', { after: 'id' }, (message: ChannelMessage) => console.log(message.data));
  client.publish('user:7:operation:1', { done: 0.5 }, { ttl_s: 60, dedupe: 'half' });
  end();
  for await (const { delta } of client.events('response.output_text.delta')) console.log(delta);
  const sound = new Sound(client, { frameMs: 32 });
  sound.on('microphone', ({ level }) => console.log(level));
  await sound.start();
  await sound.openMicrophone({ raw: true }).catch((error: DOMException) => console.log(error.name));
  off();
  console.log(client.close().length);
}

run().catch((error) => {
  if (error instanceof VoxhallError) console.log(error.code, error.close);
});

console.log(new Backoff({ random: () => 1 }).next(), decode(encode({ a: 1 })));

// What must not compile.
// @ts-expect-error a session is needed
new Voxhall({ url: 'https://voice.example' });
// @ts-expect-error no such transport
new Voxhall({ session: 'x', transport: 'pigeon' });
// @ts-expect-error a response has no such field of this type
client.on('response.done', ({ response }) => response.status === 'finished');
// @ts-expect-error the state can't be set
client.state = 'open';
