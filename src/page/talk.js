// The talk page's entry: joins the session, the sound and the view. `window.voxhall` shows what happened, for
// tests and for the curious.

import { Audio } from '/audio.js';
import { Conversation } from '/conversation.js';
import { EventLog } from '/log.js';
import { Meter } from '/meter.js';
import { Members, linkToRoom, memberKey, rememberInAddress, sessionFromAddress } from '/room.js';
import { Session, sessionRate } from '/session.js';
import { ENGINE_HINTS, STATES, closeReason, microphoneReason } from '/words.js';

const DEFAULT_RATE = 16000;
const BYTES_PER_SAMPLE = 2;
const RETRIES_MAX = 6;
const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 8000;
// The event that asks for another engine, so that a refusal can be told from other errors.
const ENGINE_CHANGE = 'engine-change';

const $ = (id) => document.getElementById(id);

const counters = {
  state: 'idle',
  session: null,
  framesSent: 0,
  framesDropped: 0,
  framesReceived: 0,
  bytesReceived: 0,
  members: 0,
  rttMs: null,
  events: {},
  lastResponse: null,
};
window.voxhall = counters;

const start = sessionFromAddress();
counters.session = start.id;

const view = {
  log: new EventLog({ rows: $('log-rows'), filter: $('log-filter'), pings: $('log-pings'), pause: $('log-pause'), clear: $('log-clear') }),
  conversation: new Conversation({ list: $('bubbles'), empty: $('empty') }),
  members: new Members({ list: $('members'), count: $('member-count') }),
  mic: new Meter($('mic-meter'), $('mic-db')),
  out: new Meter($('out-meter'), $('out-db')),
};

const audio = new Audio({
  frame: (buffer) => session.sendAudio(buffer),
  micLevel(level) {
    view.mic.push(level);
    $('talk').style.setProperty('--level', Math.min(1, level * 4).toFixed(3));
  },
  outLevel(level, bufferedMs) {
    view.out.push(level);
    sounding = bufferedMs > 0;
    $('buffered').textContent = `${Math.round(bufferedMs)} ms`;
    showMoment();
  },
  micLost() {
    audio.closeMicrophone();
    showNotice('The microphone went away. You can still listen and write.', true);
    showControls();
  },
});

const session = new Session({
  id: start.id,
  counters,
  on: {
    open: () => view.log.add('note', 'connected', { session: session.id }),
    event: onEvent,
    audio: onAudio,
    sent: (event) => view.log.add('out', event.type, event),
    rtt(ms) {
      counters.rttMs = ms;
      $('rtt').textContent = ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
      $('rtt').hidden = false;
    },
    close: onClose,
  },
});

let engine = ENGINE_HINTS[start.engine] ? start.engine : 'parrot';
let roomEngine = engine;
let rate = DEFAULT_RATE;
let retries = 0;
let retryTimer = 0;
let drainingMs = null;
let muted = false;
let sounding = false;
let speaking = false;

// What the person does.

/// Everything that one click on Talk sets off. A missing microphone is told, not fatal.
async function talk() {
  clearTimeout(retryTimer);
  hideNotice();
  setState('connecting');
  try {
    await audio.start(rate);
  } catch (error) {
    setState('closed');
    showNotice(`This browser could not start sound: ${error.message}`, true);
    return;
  }
  try {
    await audio.openMicrophone({ raw: $('raw-mic').checked });
    audio.mute(muted);
  } catch (error) {
    view.log.add('note', 'no microphone', { name: error.name });
    showNotice(microphoneReason(error), true);
  }
  if (counters.state === 'connecting') connect();
}

function connect() {
  setState('connecting');
  session.open({ engine, rate: DEFAULT_RATE, token: start.token });
}

function hangUp() {
  clearTimeout(retryTimer);
  session.close();
  session.resume = null;
  if (!session.isOpen) settle();
  setState('closed');
}

function reconnect() {
  session.drop();
  audio.flush();
  talk();
}

function say(text) {
  if (engine === 'relay') {
    if (session.send({ type: 'room.send', data: { text } })) view.conversation.wrote(text);
    return;
  }
  const item = { type: 'message', role: 'user', content: [{ type: 'input_text', text }] };
  if (!session.send({ type: 'conversation.item.create', item })) return;
  view.conversation.wrote(text);
  // The echo passes sound on and has no answer to give.
  if (engine !== 'echo') session.send({ type: 'response.create' });
}

function interrupt() {
  session.send({ type: 'response.cancel' });
  audio.flush();
}

function chooseEngine(chosen) {
  engine = chosen;
  rememberInAddress('engine', engine);
  showEngine();
  if (session.isOpen) session.send({ type: 'session.update', event_id: ENGINE_CHANGE, session: { engine } });
}

// What the server says.

const HANDLERS = {
  'session.created': ({ session: created }) => welcome(created),
  'session.restored'({ recovered, session: restored }) {
    if (counters.state !== 'open') welcome(restored);
    view.conversation.note(recovered ? 'Back, with nothing missed' : 'Back, but what was said meanwhile is lost');
  },
  'session.updated': ({ session: updated }) => adopt(updated),
  'session.draining'({ reconnect_in_ms: ms }) {
    drainingMs = ms ?? RETRY_FIRST_MS;
    showNotice('The server is about to restart. This page will come back by itself.', false);
  },
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
  'output_audio_buffer.cleared': () => audio.flush(),
  'outbox.dropped': ({ class: kind, count }) => view.conversation.note(`The server dropped ${count} ${kind} messages on the way here`),
  error({ error }) {
    if (error?.event_id === ENGINE_CHANGE) adopt({ engine: roomEngine });
    showNotice(`The server answered: ${error?.message ?? 'something it did not explain'}`, false);
  },
};

function onEvent(event) {
  view.log.add('in', event.type, event);
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
  // Last, because playing hands the payload over to the audio thread.
  audio.play(frame);
}

function welcome(created) {
  adopt(created);
  const others = created?.members ?? created?.room?.members ?? [];
  view.members.welcome(created?.member, others.filter((member) => memberKey(member) !== memberKey(created?.member)));
  countMembers();
  hideNoticeAbout('connection');
  retries = 0;
  drainingMs = null;
  setState('open');
}

/// The room may already run another engine, or another rate, than this page asked for: the room is right.
function adopt(given) {
  rate = sessionRate(given, rate);
  audio.setRate(rate);
  if (ENGINE_HINTS[given?.engine] && given.engine !== engine) {
    view.conversation.note(`This room is in ${given.engine} mode`);
    engine = given.engine;
    rememberInAddress('engine', engine);
    showEngine();
  }
  roomEngine = engine;
}

function onClose({ code, reason, wasOpen }) {
  const why = closeReason(code, reason, wasOpen);
  view.log.add('note', 'closed', { code, reason });
  settle();
  const retry = (why.retry || retries > 0) && code !== 1008 && retries < RETRIES_MAX;
  if (!retry) {
    setState('closed');
    if (code !== 1000) showNotice(why.text, true, 'connection');
    return;
  }
  const wait = drainingMs ?? Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** retries) * (0.75 + Math.random() / 2);
  drainingMs = null;
  retries += 1;
  setState('waiting');
  showNotice(`${why.text} Trying again (${retries} of ${RETRIES_MAX})…`, true, 'connection');
  retryTimer = setTimeout(connect, wait);
}

/// Leaves nothing running that belongs to a connection; the microphone closes unless the page will come back.
function settle() {
  speaking = false;
  audio.flush();
  view.members.clear();
  countMembers();
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
    retries = 0;
    audio.closeMicrophone();
    view.mic.rest();
    $('talk').style.setProperty('--level', '0');
    $('rtt').hidden = true;
  }
  showControls();
}

function showControls() {
  const { state } = counters;
  const live = state !== 'idle' && state !== 'closed';
  const listening = live && !audio.hasMicrophone && state === 'open';
  $('status-text').textContent = listening ? 'Connected, listening only' : STATES[state];
  $('talk-label').textContent = live ? 'Hang up' : 'Talk';
  $('mute').disabled = !audio.hasMicrophone;
  $('send').disabled = state !== 'open';
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
  return audio.hasMicrophone ? 'Say something.' : 'Write something.';
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
  audio.mute(muted);
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
  if (text && session.isOpen) {
    say(text);
    $('message').value = '';
  }
});
setInterval(showTotals, 250);
rememberInAddress('engine', engine);
showEngine();
setState('idle');
