// The talk page's entry: joins the session, the sound and the view. `window.voxhall` shows what happened, for
// tests and for the curious.

import { Sound, Voxhall, sessionRate } from '/client.js';
import { Conversation } from '/conversation.js';
import { EventLog } from '/log.js';
import { Meter } from '/meter.js';
import { Members, linkToRoom, memberKey, rememberInAddress, sessionFromAddress } from '/room.js';
import { ENGINE_HINTS, STATES, closeReason, microphoneReason, tryingAgain } from '/words.js';

const DEFAULT_RATE = 16000;
const BYTES_PER_SAMPLE = 2;
const PING_MS = 2000;
// The event that asks for another engine, so that a refusal can be told from other errors.
const ENGINE_CHANGE = 'engine-change';

const $ = (id) => document.getElementById(id);

const start = sessionFromAddress();
const client = new Voxhall({ session: start.id, format: 'pcm16', rate: DEFAULT_RATE, token: start.token });
const sound = new Sound(client);

const counters = {
  state: 'idle',
  session: start.id,
  get transport() {
    return client.transport;
  },
  get framesSent() {
    return client.counts.framesSent;
  },
  get framesReceived() {
    return client.counts.framesReceived;
  },
  get bytesReceived() {
    return client.counts.bytesReceived;
  },
  members: 0,
  rttMs: null,
  events: {},
  roomState: null,
  lastResponse: null,
};
// Not part of what is counted.
Object.defineProperty(counters, 'client', { value: client });
window.voxhall = counters;

const view = {
  log: new EventLog({ rows: $('log-rows'), filter: $('log-filter'), pings: $('log-pings'), pause: $('log-pause'), clear: $('log-clear') }),
  conversation: new Conversation({ list: $('bubbles'), empty: $('empty') }),
  members: new Members({ list: $('members'), count: $('member-count') }),
  mic: new Meter($('mic-meter'), $('mic-db')),
  out: new Meter($('out-meter'), $('out-db')),
};

sound.on('microphone', ({ level }) => {
  view.mic.push(level);
  $('talk').style.setProperty('--level', Math.min(1, level * 4).toFixed(3));
});
sound.on('speaker', ({ level, bufferedMs }) => {
  view.out.push(level);
  sounding = bufferedMs > 0;
  $('buffered').textContent = `${Math.round(bufferedMs)} ms`;
  showMoment();
});
sound.on('lost', () => {
  sound.closeMicrophone();
  showNotice('The microphone went away. You can still listen and write.', true);
  showControls();
});

client.on('*', onEvent);
client.on('audio', onAudio);
client.on('sent', (event) => view.log.add('out', event.type, event));
client.on('state', onState);
client.on('rtt', (ms) => {
  counters.rttMs = ms;
  $('rtt').textContent = ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
  $('rtt').hidden = false;
});

let engine = ENGINE_HINTS[start.engine] ? start.engine : 'parrot';
let roomEngine = engine;
let rate = DEFAULT_RATE;
// Whether the room has been shown since the last click on Talk: then a new connection goes on with it.
let shown = false;
let muted = false;
let sounding = false;
let speaking = false;

// What the person does.

/// Everything that one click on Talk sets off. A missing microphone is told, not fatal.
async function talk() {
  hideNotice();
  setState('connecting');
  try {
    await sound.start();
  } catch (error) {
    setState('closed');
    showNotice(`This browser could not start sound: ${error.message}`, true);
    return;
  }
  try {
    await sound.openMicrophone({ raw: $('raw-mic').checked });
    sound.mute(muted);
  } catch (error) {
    // Whoever has hung up meanwhile wants none.
    if (counters.state !== 'connecting') return;
    view.log.add('note', 'no microphone', { name: error.name });
    showNotice(microphoneReason(error), true);
  }
  if (counters.state !== 'connecting') return;
  shown = false;
  client.connect({ engine, rate: DEFAULT_RATE });
}

function hangUp() {
  client.close();
  if (client.state === 'idle') setState('closed');
}

function reconnect() {
  client.close();
  talk();
}

function say(text) {
  try {
    if (engine === 'relay') client.sendToRoom({ text });
    // The echo passes sound on and has no answer to give.
    else client.sendText(text, { respond: engine !== 'echo' });
  } catch (error) {
    showNotice(`That was not sent: ${error.message}.`, false);
    return false;
  }
  view.conversation.wrote(text);
  return true;
}

function interrupt() {
  client.interrupt();
  sound.flush();
}

function chooseEngine(chosen) {
  engine = chosen;
  rememberInAddress('engine', engine);
  showEngine();
  if (client.isOpen) client.send({ type: 'session.update', event_id: ENGINE_CHANGE, session: { engine } });
}

// What the server says.

const HANDLERS = {
  'session.created': ({ session: created }) => welcome(created),
  'session.restored': restored,
  'session.updated': ({ session: updated }) => adopt(updated),
  'session.draining': () => showNotice('The server is about to restart. This page will come back by itself.', false, 'connection'),
  'client.unconfirmed': ({ events }) => view.conversation.note(`Nobody knows whether ${events.length === 1 ? 'what you did last' : `the last ${events.length} things you did`} arrived`),
  'room.member_joined'({ member, members }) {
    if (!view.members.isSelf(member)) {
      view.members.join(member);
      view.conversation.note(`${view.members.name(member)} joined`);
    }
    view.members.total(members);
    countMembers();
  },
  'room.member_left'({ member, members }) {
    view.conversation.note(`${view.members.name(member)} left`);
    view.members.leave(member);
    view.members.total(members);
    countMembers();
  },
  'room.message'({ data, from }) {
    const text = typeof data === 'string' ? data : (data?.text ?? JSON.stringify(data));
    if (from !== 0) view.members.join(from);
    countMembers();
    view.conversation.message(from === 0 ? 'Server' : view.members.name(from), text);
  },
  'input_audio_buffer.speech_started'(event) {
    speaking = true;
    view.conversation.speechStarted(event);
    showMoment();
  },
  'input_audio_buffer.speech_stopped'(event) {
    speaking = false;
    view.conversation.speechStopped(event);
    showMoment();
  },
  'input_audio_buffer.committed': (event) => view.conversation.committed(event),
  'response.created'({ response }) {
    counters.lastResponse = {
      id: response.id,
      status: 'in_progress',
      transcript: '',
      audioFrames: 0,
      audioBytes: 0,
      audioSeconds: 0,
      firstAudioMs: null,
      createdAt: performance.now(),
    };
    view.conversation.answerCreated(response.id, engineName());
    showMoment();
  },
  'response.output_audio_transcript.delta': answerDelta,
  'response.output_text.delta': answerDelta,
  'response.done'({ response }) {
    const last = counters.lastResponse;
    if (last?.id !== response.id) return;
    last.status = response.status;
    view.conversation.answerDone(response.id, last);
    showMoment();
  },
  'outbox.dropped'({ class: kind, count }) {
    if (kind === 'audio') view.conversation.note(`${count} pieces of sound were too late to be played`);
  },
  error({ error }) {
    if (error?.event_id === ENGINE_CHANGE) adopt({ engine: roomEngine });
    showNotice(`The server answered: ${error?.message ?? 'something it did not explain'}`, false);
  },
};

function onEvent(event) {
  view.log.add('in', event.type, event);
  counters.events[event.type] = (counters.events[event.type] ?? 0) + 1;
  counters.roomState = client.roomState;
  if (Object.hasOwn(HANDLERS, event.type)) HANDLERS[event.type](event);
}

function answerDelta({ response_id: id, delta }) {
  const last = counters.lastResponse;
  if (last && (id === undefined || id === last.id)) last.transcript += delta;
  view.conversation.answerDelta(id ?? last?.id, delta);
}

function onAudio(frame) {
  const last = counters.lastResponse;
  if (frame.track === 0 && last) {
    last.audioFrames += 1;
    last.audioBytes += frame.payload.byteLength;
    last.audioSeconds = last.audioBytes / BYTES_PER_SAMPLE / rate;
    last.firstAudioMs ??= performance.now() - last.createdAt;
  }
  if (engine === 'relay' && frame.track !== 0) {
    // Whoever is heard is here, also when they came before this page did.
    view.members.join(frame.track);
    countMembers();
    view.conversation.heard(frame, view.members.name(frame.track), rate);
  }
}

function welcome(created) {
  adopt(created);
  if (shown) return;
  shown = true;
  showMembers(created);
}

function showMembers(created) {
  const others = created?.members ?? created?.room?.members ?? [];
  view.members.welcome(created?.member, others.filter((member) => memberKey(member) !== memberKey(created?.member)));
  countMembers();
}

/// Back after a cut, or what had been dropped on the way comes after all.
function restored({ recovered }) {
  if (recovered) {
    if (!client.isOpen) view.conversation.note('Back, with nothing missed');
    return;
  }
  view.conversation.note('What was said meanwhile is lost');
  if (client.isOpen) return;
  showMembers(client.session);
  endAnswer();
}

/// The room may already run another engine, or another rate, than this page asked for: the room is right.
function adopt(given) {
  rate = sessionRate(given, rate);
  if (ENGINE_HINTS[given?.engine] && given.engine !== engine) {
    view.conversation.note(`This room is in ${given.engine} mode`);
    engine = given.engine;
    rememberInAddress('engine', engine);
    showEngine();
  }
  roomEngine = engine;
}

function onState({ state, code, close, words, attempt, inMs }) {
  if (state === 'open') {
    view.log.add('note', 'connected', { session: start.id, transport: client.transport });
    hideNoticeAbout('connection');
  }
  if (state === 'reconnecting') {
    if (inMs !== null) view.log.add('note', 'reconnecting', { code, attempt, in_ms: Math.round(inMs) });
    showNotice(`${closeReason(close, words)} ${tryingAgain(attempt, inMs)}`, true, 'connection');
    speaking = false;
  }
  if (state === 'closed') {
    view.log.add('note', 'closed', { code, close });
    settle();
    if (code !== 'left') showNotice(closeReason(close, words), true, 'connection');
  }
  setState(state === 'reconnecting' ? 'waiting' : state);
}

/// Leaves nothing running that belongs to a conversation.
function settle() {
  speaking = false;
  view.members.clear();
  countMembers();
  endAnswer();
}

function endAnswer() {
  const last = counters.lastResponse;
  if (last?.status !== 'in_progress') return;
  last.status = 'incomplete';
  view.conversation.answerDone(last.id, last);
}

// What the page shows.

function setState(state) {
  counters.state = state;
  $('status').dataset.state = state;
  document.body.dataset.state = state;
  if (state === 'closed') {
    sound.closeMicrophone();
    view.mic.rest();
    $('talk').style.setProperty('--level', '0');
    $('rtt').hidden = true;
  }
  showControls();
}

function showControls() {
  const { state } = counters;
  const live = state !== 'idle' && state !== 'closed';
  const listening = live && !sound.hasMicrophone && state === 'open';
  $('status-text').textContent = listening ? 'Connected, listening only' : STATES[state];
  $('talk-label').textContent = live ? 'Hang up' : 'Talk';
  $('mute').disabled = !sound.hasMicrophone;
  // What is written while the connection is away goes when it is back.
  $('send').disabled = !live;
  $('raw-mic').disabled = live;
  showMoment();
}

/// What is going on right now: who speaks, and whether there is something to interrupt.
function showMoment() {
  const { state } = counters;
  const answering = state === 'open' && (counters.lastResponse?.status === 'in_progress' || sounding);
  $('interrupt').disabled = !answering;
  $('hint').textContent = hint(state, answering);
}

function hint(state, answering) {
  if (state === 'connecting' || state === 'waiting') return 'One moment…';
  if (state !== 'open') return 'One click, then say something.';
  if (speaking) return 'Listening…';
  if (answering) return `${engine === 'parrot' ? 'The parrot answers' : 'Playing what came'}…`;
  return sound.hasMicrophone ? 'Say something.' : 'Write something.';
}

function showEngine() {
  document.querySelector(`input[name="engine"][value="${engine}"]`).checked = true;
  $('engine-hint').textContent = ENGINE_HINTS[engine];
  $('second-tab').href = linkToRoom();
  showControls();
}

function engineName() {
  return engine[0].toUpperCase() + engine.slice(1);
}

function countMembers() {
  counters.members = view.members.size;
}

function showNotice(text, offerReconnect, about = '') {
  $('notice-text').textContent = text;
  $('notice').dataset.about = about;
  $('reconnect').hidden = !offerReconnect;
  $('notice').hidden = false;
}

function hideNotice() {
  $('notice').hidden = true;
}

function hideNoticeAbout(about) {
  if ($('notice').dataset.about === about) hideNotice();
}

function showTotals() {
  $('frames-sent').textContent = counters.framesSent.toLocaleString('en');
  $('frames-received').textContent = counters.framesReceived.toLocaleString('en');
  $('bytes-received').textContent = `${Math.round(counters.bytesReceived / 1000).toLocaleString('en')} kB`;
}

async function copyLink() {
  const button = $('copy');
  try {
    await navigator.clipboard.writeText(linkToRoom());
    button.textContent = 'Copied';
  } catch {
    showNotice(`Copying was refused. The link is ${linkToRoom()}`, false);
  }
  setTimeout(() => {
    button.textContent = 'Copy link';
  }, 1500);
}

function toggleMute() {
  muted = !muted;
  sound.mute(muted);
  $('mute').setAttribute('aria-pressed', String(muted));
  $('mute').textContent = muted ? 'Unmute' : 'Mute';
}

$('room-name').textContent = start.id;
$('raw-mic').checked = start.rawMicrophone;
$('talk').addEventListener('click', () => (counters.state === 'idle' || counters.state === 'closed' ? talk() : hangUp()));
$('reconnect').addEventListener('click', reconnect);
$('dismiss').addEventListener('click', hideNotice);
$('mute').addEventListener('click', toggleMute);
$('interrupt').addEventListener('click', interrupt);
$('copy').addEventListener('click', copyLink);
$('raw-mic').addEventListener('change', ({ target }) => rememberInAddress('mic', target.checked ? 'raw' : null));
for (const radio of document.querySelectorAll('input[name="engine"]')) {
  radio.addEventListener('change', () => chooseEngine(radio.value));
}
$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('message').value.trim();
  if (text && say(text)) $('message').value = '';
});
setInterval(showTotals, 250);
setInterval(() => client.ping(), PING_MS);
rememberInAddress('engine', engine);
showEngine();
setState('idle');
