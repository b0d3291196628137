// Spoken conversations with the parrot through `@openai/agents-realtime`.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { tool } from '@openai/agents-realtime';
import { z } from 'zod';
import { Talk, silence, tone } from './talk.mjs';

const SERVER_VAD = { type: 'server_vad', silenceDurationMs: 300, interruptResponse: true, createResponse: true };
const weather = tool({
  name: 'weather',
  description: 'What it is like outside',
  parameters: z.object({ place: z.string() }),
  execute: async ({ place }) => `it rains in ${place}`,
});

/// Holds a conversation that ends with its test, and in which nothing went wrong that was not to be.
async function talk(options, hold) {
  const talk = await new Talk(options).connect();
  try {
    await hold(talk);
    assert.deepEqual(talk.errors, []);
  } finally {
    talk.close();
  }
}

describe('a session', () => {
  it('takes instructions, tools and a voice', async () => {
    await talk({ agent: { instructions: 'be kind', tools: [weather], voice: 'verse' } }, async (talk) => {
      // It says some of it at once and the rest when it is connected.
      const whole = (event) => event.type === 'session.updated' && event.session.instructions === 'be kind';
      const { session } = await talk.until((events) => events.find(whole), 'a session with instructions');
      assert.equal(session.tools[0].name, 'weather');
      assert.equal(session.audio.output.voice, 'verse');
      assert.equal(session.audio.input.turn_detection.type, 'semantic_vad');
    });
  });

  it('notices speech and answers it with itself', async () => {
    await talk({ config: { audio: { input: { turnDetection: SERVER_VAD } } } }, async (talk) => {
      const said = Buffer.concat([silence(400), tone(1000), silence(800)]);
      talk.speak(said);
      await talk.next('input_audio_buffer.speech_started');
      const { item_id: item } = await talk.next('input_audio_buffer.committed');
      const heard = await talk.next('conversation.item.input_audio_transcription.completed');
      assert.equal(heard.item_id, item);
      await talk.next('conversation.item.retrieved');
      const { response } = await talk.next('response.done');
      assert.equal(response.status, 'completed');
      const answer = talk.heard();
      assert.ok(answer.includes(tone(1000)), 'the utterance comes back whole');
      assert.ok(said.includes(answer), 'and nothing else does');
      const words = talk.session.history.map((item) => item.content?.[0]?.transcript);
      assert.deepEqual(words, [heard.transcript, heard.transcript], 'the SDK has made a history of it');
    });
  });

  it('ends a turn by hand', async () => {
    await talk({ config: { audio: { input: { turnDetection: null } } } }, async (talk) => {
      const said = tone(730);
      talk.speak(said);
      talk.session.transport.sendEvent({ type: 'input_audio_buffer.commit' });
      talk.session.transport.sendEvent({ type: 'response.create' });
      const { response } = await talk.next('response.done');
      assert.equal(response.output[0].content[0].transcript, 'heard 0.73 s');
      assert.deepEqual(talk.heard(), said);
    });
  });

  it('answers a text aloud', async () => {
    await talk({}, async (talk) => {
      talk.session.sendMessage('good morning');
      const { response } = await talk.next('response.done');
      assert.equal(response.output[0].content[0].transcript, 'good morning');
      assert.ok(talk.heard().length > 0);
    });
  });

  it('is interrupted by speech', async () => {
    await talk({ config: { audio: { input: { turnDetection: SERVER_VAD } } } }, async (talk) => {
      talk.speak(Buffer.concat([tone(3000), silence(800)]));
      const first = await talk.next('response.output_audio.delta');
      talk.speak(tone(600));
      await talk.next('input_audio_buffer.speech_started');
      const { response } = await talk.next('response.done');
      assert.equal(response.status, 'cancelled');
      assert.equal(response.status_details.reason, 'turn_detected');
      // The SDK says by itself how much was heard.
      const cut = await talk.next('conversation.item.truncated');
      assert.equal(cut.item_id, first.item_id);
      talk.audio.length = 0;
      talk.speak(silence(800));
      assert.equal((await talk.next('response.done')).response.status, 'completed');
      assert.ok(talk.heard().includes(tone(600)));
    });
  });

  it('is interrupted by its client', async () => {
    await talk({}, async (talk) => {
      talk.session.sendMessage('one two three four five six seven eight nine ten');
      await talk.next('response.output_audio.delta');
      talk.session.interrupt();
      const { response } = await talk.next('response.done');
      assert.equal(response.status, 'cancelled');
      await talk.next('conversation.item.truncated');
    });
  });

  it('has its tools called and speaks what came of them', async () => {
    await talk({ agent: { tools: [weather] }, config: { toolChoice: 'required' } }, async (talk) => {
      talk.session.sendMessage('Bergen');
      const { response: call } = await talk.next('response.done');
      assert.equal(call.output[0].name, 'weather');
      // The SDK has called it by itself.
      const { response } = await talk.next('response.done');
      assert.equal(response.output[0].content[0].transcript, 'it rains in Bergen');
    });
  });

  it('is told of its mistakes', async () => {
    const talk = await new Talk({}).connect();
    talk.session.transport.sendEvent({ type: 'conversation.item.delete', item_id: 'nobody' });
    const { error } = await talk.next('error');
    assert.equal(error.code, 'item_delete_invalid_item_id');
    assert.equal(talk.errors.length, 1);
    talk.close();
  });
});
