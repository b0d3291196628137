// Plays one conversation of conversations.json. The steps:
//
//   join NAME                     another member enters; "a" is there from the start
//   send EVENT, text RAW          a client event as JSON, or raw text. "$b" stands for the number of member b
//   frames [SIZES] (seed)         binary frames of these sizes
//   speak MS, silence MS, by HOW  a voice-like tone, then silence, as 20 ms frames: binary, base64 or samples
//   expect TYPE                   the next event of this type; `with` compares, `has` wants a value, `member` a member
//   expectAll [TYPES]             all of them, in any order
//   last TYPE                     the latest event of this type that came
//   never TYPE, count TYPE is N   among everything that came
//   transcript REGEX              the deltas of the latest response, joined, and its done event
//   hears WHAT                    frames (those last sent by others, or by oneself), utterance (the tone last spoken,
//                                 by `from`), something, or less than the utterance
//   heardOnly NAME                every frame heard came from that member
//   leave, admin PATH             says goodbye; asks the admin address
//
// `as` names the member who acts; without it "a" does.

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { ADMIN, Member, RATE, memberKey } from './client.mjs';
import { FRAME_MS, frames, noise, silence, tone } from './sound.mjs';

// Twice as fast as speech: quick, and still below the message rate that the server allows.
const PACE_MS = FRAME_MS / 2;
// Silence before the tone, as any microphone gives, so that there is a noise floor to rise above.
const LEAD_MS = 200;
// What may come back around the tone: the lead, and the silence that ended the turn.
const PADDING_MS_MAX = 1300;

export async function play({ engine, steps }, subprotocol, room) {
  const scene = { room, engine, subprotocol, members: {}, numbers: {}, lastSent: null };
  await join(scene, 'a');
  try {
    for (const [index, step] of steps.entries()) {
      try {
        await act(scene, step);
      } catch (error) {
        error.message = `step ${index + 1} ${JSON.stringify(step)}: ${error.message}`;
        throw error;
      }
    }
  } finally {
    await Promise.all(Object.values(scene.members).map((member) => member.leave()));
  }
}

async function join(scene, name) {
  scene.members[name] = Object.assign(await Member.join(scene), { name, heardFrom: 0 });
  scene.numbers[name] = scene.members[name].number;
}

const ACTS = {
  join: (scene, _me, { join: name }) => join(scene, name),
  send: (scene, me, { send }) => me.send(filled(scene, send)),
  text: (_scene, me, { text }) => me.sendText(text),
  frames: sendFrames,
  speak,
  expect,
  expectAll: (_scene, me, { expectAll: types }) => me.all(types),
  last: (_scene, me, { last: type, ...wanted }) => check(me.events.findLast((event) => event.type === type), wanted),
  never: (_scene, me, { never: type }) => assert.deepEqual(me.events.filter((event) => event.type === type), []),
  count: (_scene, me, { count: type, is }) => assert.equal(me.events.filter((event) => event.type === type).length, is),
  transcript: (_scene, me, { transcript }) => assert.match(transcriptOf(me), new RegExp(transcript)),
  hears,
  heardOnly: (scene, me, { heardOnly: name }) => heardOnly(scene, me, name),
  leave: (scene, me) => me.leave().then(() => delete scene.members[me.name]),
  admin,
};

async function act(scene, step) {
  const verb = Object.keys(step).find((key) => Object.hasOwn(ACTS, key));
  assert.ok(verb, 'a step has a verb');
  await ACTS[verb](scene, scene.members[step.as ?? 'a'], step);
}

function filled(scene, event) {
  return event.to?.startsWith?.('$') ? { ...event, to: Number(scene.numbers[event.to.slice(1)]) } : event;
}

function sendFrames(scene, me, { frames: sizes, seed = 7 }) {
  const payloads = sizes.map((size, index) => noise(size, seed + index));
  for (const payload of payloads) me.sendFrame(payload);
  scene.lastSent = payloads;
}

async function speak(scene, me, { speak: ms, silence: after, by = 'binary' }) {
  me.utterance = tone(ms, RATE);
  for (const member of Object.values(scene.members)) member.heardFrom = member.frames.length;
  const pcm = Buffer.concat([silence(after > 0 ? LEAD_MS : 0, RATE), me.utterance, silence(after, RATE)]);
  for (const frame of frames(pcm, RATE)) {
    if (by === 'binary') me.sendFrame(frame);
    else if (by === 'base64') me.send({ type: 'input_audio_buffer.append', audio: frame.toString('base64') });
    else me.send({ type: 'input_audio_buffer.append', samples: [...new Int16Array(frame.buffer, frame.byteOffset, frame.length / 2)] });
    await pause(PACE_MS);
  }
}

async function expect(scene, me, { expect: type, member, ...wanted }) {
  const event = await me.next(type);
  check(event, wanted);
  if (member) assert.equal(memberKey(event.from ?? event.member), scene.numbers[member], 'it names the member');
}

function check(event, { with: values = {}, has = [] }) {
  assert.ok(event, 'the event came');
  for (const [path, value] of Object.entries(values)) assert.deepEqual(at(event, path), value, `${path} in ${JSON.stringify(event)}`);
  for (const path of has) assert.ok(at(event, path), `${path} is missing in ${JSON.stringify(event)}`);
}

function at(event, path) {
  return path.split('.').reduce((value, key) => value?.[key], event);
}

function transcriptOf(me) {
  const begin = me.events.findLastIndex((event) => event.type === 'response.created');
  const since = me.events.slice(begin);
  const deltas = since.filter((event) => event.type === 'response.output_audio_transcript.delta').map((event) => event.delta).join('');
  const done = since.find((event) => event.type === 'response.output_audio_transcript.done');
  assert.equal(done?.transcript, deltas, 'the deltas add up to the transcript');
  return deltas;
}

async function hears(scene, me, { hears: what, track, from }) {
  if (what === 'frames') return hearsFrames(scene, me, track);
  const speaker = from ? scene.members[from] : me;
  if (what === 'something') return me.until(() => me.frames.length > me.heardFrom, 'a frame of sound');
  const heard = Buffer.concat(me.frames.slice(me.heardFrom).map((frame) => frame.payload));
  if (what === 'less than the utterance') return assert.ok(heard.length < speaker.utterance.length, `${heard.length} bytes came`);
  assert.equal(what, 'utterance');
  const padding = (PADDING_MS_MAX / 1000) * RATE * 2;
  assert.ok(heard.includes(speaker.utterance), `all ${speaker.utterance.length} bytes of the tone are within the ${heard.length} that came`);
  assert.ok(heard.length <= speaker.utterance.length + padding, `${heard.length} bytes came, too many for the tone and its padding`);
  if (scene.subprotocol === 'voxhall.v1') checkHeaders(me.frames.slice(me.heardFrom), '0');
}

async function hearsFrames(scene, me, track) {
  const sent = scene.lastSent;
  const from = me.heardFrom;
  await me.until(() => me.frames.length >= from + sent.length, `${sent.length} frames`);
  const got = me.frames.slice(from);
  assert.deepEqual(got.map((frame) => frame.payload), sent);
  if (scene.subprotocol === 'voxhall.v1') checkHeaders(got, track && scene.numbers[track]);
  me.heardFrom = me.frames.length;
}

/// The eight bytes before each frame. On a busy machine a spurt may break in two; each begins at 0 ms.
function checkHeaders(frames, track) {
  const headers = frames.map((frame) => frame.header);
  assert.ok(headers.every((header) => header.kind === 1), 'every frame is sound');
  if (track !== undefined) assert.ok(headers.every((header) => String(header.track) === track), `track ${track}: ${JSON.stringify(headers)}`);
  assert.equal(headers[0].flags & 1, 1, 'the first frame of a spurt says so');
  headers.reduce((before, { flags, timestampMs }) => {
    if (flags & 1) assert.equal(timestampMs, 0, 'a spurt begins at 0 ms');
    else assert.ok(timestampMs >= before, 'time does not run backwards');
    return timestampMs;
  }, 0);
}

function heardOnly(scene, me, name) {
  assert.deepEqual(me.frames.map((frame) => frame.payload), scene.lastSent, 'nothing but what the other sent');
  if (scene.subprotocol !== 'voxhall.v1') return;
  assert.ok(me.frames.every((frame) => String(frame.header.track) === scene.numbers[name]));
}

async function admin(scene, _me, { admin: path, status }) {
  const answer = await fetch(ADMIN + path.replace('$room', scene.room));
  assert.equal(answer.status, status, await answer.text());
}
