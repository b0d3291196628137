// What goes over the wire and how: batches of JSON lines, MessagePack, and the header before binary payloads.

import { decode, decodeAll, encode } from './msgpack.js';

export const HEADER_BYTES = 8;
export const KIND_AUDIO = 1;
export const KIND_EVENTS = 2;
const FLAG_FIRST = 1;
const FLAG_LAST = 2;
// Far below what a server takes in one message.
const BATCH_CHARS_MAX = 65_536;

export const SUBPROTOCOL = 'voxhall.v1';
export const SUBPROTOCOL_MSGPACK = 'voxhall.v1.msgpack';

/// `{kind, first, last, track, timestampMs, payload}` of a binary message; nothing of one that is too short.
export function readBinary(buffer) {
  if (buffer.byteLength < HEADER_BYTES) return null;
  const head = new DataView(buffer, 0, HEADER_BYTES);
  const flags = head.getUint8(1);
  return {
    kind: head.getUint8(0),
    first: (flags & FLAG_FIRST) !== 0,
    last: (flags & FLAG_LAST) !== 0,
    track: head.getUint16(2, true),
    timestampMs: head.getUint32(4, true),
    payload: buffer.slice(HEADER_BYTES),
  };
}

/// A payload behind its header.
export function writeBinary(kind, payload, { timestampMs = 0 } = {}) {
  const message = new Uint8Array(HEADER_BYTES + payload.byteLength);
  message[0] = kind;
  new DataView(message.buffer).setUint32(4, timestampMs >>> 0, true);
  message.set(payload, HEADER_BYTES);
  return message;
}

/// Stands for what came and is no event.
export const UNREADABLE = Symbol('unreadable');
const isEvent = (event) => typeof event === 'object' && event !== null && typeof event.type === 'string';

/// The events of a text message. What is none becomes `UNREADABLE`.
export function readLines(text) {
  return text
    .split('\n')
    .filter((line) => line.trim())
    .map((line) => {
      try {
        const event = JSON.parse(line);
        return isEvent(event) ? event : UNREADABLE;
      } catch {
        return UNREADABLE;
      }
    });
}

/// Events as text messages of lines, none of them much longer than it has to be.
export function writeLines(events) {
  const batches = [];
  let lines = [];
  let chars = 0;
  for (const event of events) {
    const line = JSON.stringify(event);
    if (lines.length > 0 && chars + line.length > BATCH_CHARS_MAX) {
      batches.push(lines.join('\n'));
      lines = [];
      chars = 0;
    }
    lines.push(line);
    chars += line.length + 1;
  }
  if (lines.length > 0) batches.push(lines.join('\n'));
  return batches;
}

export function readPacked(payload) {
  try {
    return decodeAll(new Uint8Array(payload)).map((event) => (isEvent(event) ? event : UNREADABLE));
  } catch {
    return [UNREADABLE];
  }
}

export function writePacked(event) {
  return writeBinary(KIND_EVENTS, encode(event));
}

/// The event as it is now, in what every form of the wire can say; what its maker does to it later is no part of it. Throws
/// where it can't be said, so that nothing is kept that could not be sent.
export function snapshot(event) {
  return decode(encode(event));
}

export function toBase64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
