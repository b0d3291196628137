// Types of the Voxhall client.

/** An event of the server. Those kept in the room's history have a `seq`. */
export interface ServerEvent {
  type: string;
  event_id?: string;
  seq?: number;
  [field: string]: unknown;
}

export interface Resume {
  token: string;
  epoch: number;
  seq: number;
}

export interface Session {
  id: string;
  room: string;
  engine: string;
  member: number;
  format?: string;
  rate?: number;
  state?: RoomState;
  resume?: Resume;
  [field: string]: unknown;
}

/** What a room keeps for its members, such as a reading position. */
export type RoomState = Record<string, unknown>;

export interface ResponseInfo {
  id: string;
  status: 'in_progress' | 'completed' | 'cancelled' | 'failed' | 'incomplete';
  output?: unknown[];
  usage?: unknown;
  [field: string]: unknown;
}

interface Of<T extends string> extends ServerEvent {
  type: T;
}

export interface SessionRestored extends Of<'session.restored'> {
  /** Whether every event that was missed follows. */
  recovered: boolean;
  state?: RoomState | null;
  missed?: number;
  /** Why not; `unanswered` and `overflow` are the client's own words. */
  reason?: string;
  epoch?: number;
  /** The number of the last event so far. */
  last_seq?: number;
  /** The last event of this member that the room has taken. */
  client_seq?: number;
  /** Whether the room was brought back from its store. */
  restarted?: boolean;
}

export interface OutboxDropped extends Of<'outbox.dropped'> {
  class: 'control' | 'audio' | 'droppable';
  count: number;
  first_seq: number | null;
  last_seq: number | null;
}

export interface ServerError extends Of<'error'> {
  error: { type: string; code: string | null; message: string; param?: string | null; event_id?: string | null; retryable?: boolean };
}

/** Delivered by the client itself: these are not sent again. */
export interface Unconfirmed extends Of<'client.unconfirmed'> {
  /** `unknown`: they may or may not have arrived. `too_big`: the server does not take anything so long. */
  reason: 'unknown' | 'too_big';
  events: ClientEvent[];
}

export interface ChannelMessage extends Of<'channel.message'> {
  channel: string;
  id: string;
  data: unknown;
}

/** The server's events by name. Names that are not here are `ServerEvent`. */
export interface ServerEvents {
  '*': ServerEvent;
  'session.created': Of<'session.created'> & { session: Session };
  'session.updated': Of<'session.updated'> & { session: Session };
  'session.restored': SessionRestored;
  'session.draining': Of<'session.draining'> & { reconnect_in_ms: number };
  'input_audio_buffer.speech_started': Of<'input_audio_buffer.speech_started'> & { audio_start_ms: number; item_id: string };
  'input_audio_buffer.speech_stopped': Of<'input_audio_buffer.speech_stopped'> & { audio_end_ms: number; item_id: string };
  'input_audio_buffer.committed': Of<'input_audio_buffer.committed'> & { item_id: string; previous_item_id: string | null };
  'response.created': Of<'response.created'> & { response: ResponseInfo };
  'response.done': Of<'response.done'> & { response: ResponseInfo };
  'response.output_audio_transcript.delta': Of<'response.output_audio_transcript.delta'> & { response_id: string; item_id: string; delta: string };
  'response.output_audio_transcript.done': Of<'response.output_audio_transcript.done'> & { response_id: string; item_id: string; transcript: string };
  'response.output_text.delta': Of<'response.output_text.delta'> & { response_id: string; item_id: string; delta: string };
  'response.output_text.done': Of<'response.output_text.done'> & { response_id: string; item_id: string; text: string };
  'output_audio_buffer.cleared': Of<'output_audio_buffer.cleared'> & { response_id?: string };
  'room.member_joined': Of<'room.member_joined'> & { member: number; members: number };
  'room.member_left': Of<'room.member_left'> & { member: number; members: number };
  'room.message': Of<'room.message'> & { from: number; data: unknown };
  'channel.message': ChannelMessage;
  'outbox.dropped': OutboxDropped;
  'client.unconfirmed': Unconfirmed;
  error: ServerError;
}

/** Audio as it came: raw bytes of the session's format. */
export interface AudioFrame {
  /** Of a spurt. */
  first: boolean;
  last: boolean;
  /** 0 is the engine, otherwise the speaking member. */
  track: number;
  /** Since the spurt began. */
  timestampMs: number;
  payload: ArrayBuffer;
}

export type State = 'idle' | 'connecting' | 'open' | 'reconnecting' | 'closed';

export interface StateChange {
  state: State;
  previous: State;
  /** Why, for programs: `connection_lost`, `draining`, `restarting`, `overloaded`, `policy`, `replaced`, `token_expired`, `unauthorized`, `forbidden`, `left`, … */
  code: string | null;
  /** Why, for people. */
  message: string;
  /** The close code or HTTP status, where there was one. */
  close: number | null;
  /** The server's own words. */
  words: string;
  /** Which attempt to come back is next. */
  attempt: number;
  /** When; null until that is known. */
  inMs: number | null;
}

/** What the client says of itself. */
export interface ClientSignals {
  state: StateChange;
  audio: AudioFrame;
  /** The answer to a ping came after so many milliseconds. */
  rtt: number;
  /** An event went over the wire. */
  sent: ClientEvent;
  /**
   * Something is lost to this client: the room's events after the number `after`, or messages of a channel after the one of this `id`.
   * `unreadable`: one message could not be read however often it came, whatever it was. `several_streams`: a pattern over several has no position.
   */
  gap: { channel: string | null; after: number | string | null; reason: string };
}

type Events = ServerEvents & ClientSignals;

export type EventOf<T extends string> = T extends keyof Events ? Events[T] : ServerEvent;

export interface ClientEvent {
  type: string;
  event_id?: string;
  [field: string]: unknown;
}

/** The parts of a WebSocket that the client needs. */
export interface WebSocketLike {
  binaryType: string;
  readonly protocol: string;
  readonly bufferedAmount: number;
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  send(data: any): void;
  close(code?: number, reason?: string): void;
}

export interface Options {
  /** The server, such as `https://voice.example` (or `wss://…`); a page's own origin if it is not given. */
  url?: string;
  /** The name of the session: whoever brings the same name is in the same room. */
  session: string;
  /** A JSON Web Token that lasts as long as the client. */
  token?: string;
  /** Gives a fresh token; asked before every connection, and before the one in use ends. */
  getToken?: () => string | Promise<string>;
  engine?: string;
  format?: 'pcm16' | 'g711_ulaw' | 'g711_alaw' | 'opus';
  rate?: number;
  /** `auto`: WebSocket, and server-sent events where that does not get through. */
  transport?: 'auto' | 'websocket' | 'sse';
  /** Events as MessagePack instead of JSON. */
  messagepack?: boolean;
  /** Another subprotocol than these two ask for, such as `voxhall.v1.plain`. */
  subprotocol?: string;
  /** Events that may wait to be taken by the server (256). */
  queueEvents?: number;
  /** Characters of JSON that they may have (1 MiB). */
  queueBytes?: number;
  backoff?: { baseMs?: number; factor?: number; capMs?: number };
  /** A handshake that takes longer has failed (10 s). */
  connectMs?: number;
  /** A connection that stood for so long is good: the next wait is a short one again (10 s). */
  stableMs?: number;
  /** Nothing came for so long: the server is asked for a sign of life (20 s). */
  pingMs?: number;
  /** … and if none comes within this, the connection is given up (10 s). */
  silenceMs?: number;
  /** So long after something was sent the server is asked whether it has arrived (2 s). */
  confirmMs?: number;
  /** Instead of the platform's. */
  WebSocket?: new (url: string, protocols: string[]) => WebSocketLike;
  fetch?: typeof fetch;
  timers?: Pick<Timers, 'set' | 'has' | 'clear'>;
  random?: () => number;
  /** Milliseconds of a clock that only goes forward. */
  now?: () => number;
}

export declare class Emitter<Known> {
  /** Returns what takes the handler back. */
  on<T extends string>(type: T, handler: (event: T extends keyof Known ? Known[T] : ServerEvent, type: T) => void): () => void;
  once<T extends string>(type: T, handler: (event: T extends keyof Known ? Known[T] : ServerEvent, type: T) => void): () => void;
  off(type: string, handler: (...args: any[]) => void): void;
}

export declare class Voxhall extends Emitter<Events> {
  constructor(options: Options);
  readonly state: State;
  readonly isOpen: boolean;
  readonly transport: 'websocket' | 'sse';
  /** As the server told it last. */
  readonly session: Session | null;
  readonly roomState: RoomState | null;
  /** The number of the latest event of the room that was delivered. */
  readonly seq: number;
  readonly counts: { framesSent: number; framesDropped: number; framesReceived: number; bytesReceived: number };
  /** Begins; resolves once the server has welcomed the client. Options that are given count from now on. */
  connect(changes?: Partial<Omit<Options, 'url' | 'session' | 'timers'>>): Promise<Session>;
  /** Leaves the room; returns the events that the server is not known to have taken. */
  close(): ClientEvent[];
  /** Sends an event as it is now, at once or as soon as there is a connection, once. Throws `queue_full`, and a RangeError or TypeError for what can't be sent at all. */
  send(event: ClientEvent): number;
  /** Whether it was sent. Audio never waits for a connection. */
  sendAudio(audio: ArrayBuffer | ArrayBufferView): boolean;
  /** `respond`: whether an answer is asked for, too (true). */
  sendText(text: string, options?: { respond?: boolean }): void;
  interrupt(): void;
  /** To the other members, or to one. */
  sendToRoom(data: unknown, options?: { to?: number }): number;
  updateSession(session: Record<string, unknown>): number;
  /** Merges into the room's state; `null` takes a key out. */
  updateState(state: RoomState): number;
  /** Returns what ends it for this handler; when nobody is left who listens, the subscription ends. */
  subscribe(channel: string, options?: { after?: string | number }, handler?: (message: ChannelMessage) => void): () => void;
  /** Without a handler: for all of them. */
  unsubscribe(channel: string, handler?: (message: ChannelMessage) => void): void;
  publish(channel: string, data: unknown, options?: { ttl_s?: number; dedupe?: string }): number;
  /** Asks for a sign of life; `rtt` follows. */
  ping(patienceMs?: number): void;
  /** Brings a fresh token of `getToken` to the server. */
  refreshToken(): Promise<string | null>;
  /** The events from now on, until the client closes. */
  events<T extends string = '*'>(type?: T): AsyncIterableIterator<EventOf<T>>;
}

export interface SoundEvents {
  microphone: { level: number };
  speaker: { level: number; bufferedMs: number; targetMs: number };
  /** The microphone went away. */
  lost: null;
}

/** Microphone and loudspeaker of a page, for pcm16. */
export declare class Sound extends Emitter<SoundEvents> {
  constructor(client: Voxhall, options?: { worklet?: string | URL; frameMs?: number; rate?: number });
  readonly hasMicrophone: boolean;
  rate: number;
  /** Has to be called from a click; again after it failed. */
  start(): Promise<void>;
  /** After `start()`. */
  openMicrophone(options?: { raw?: boolean }): Promise<void>;
  closeMicrophone(): void;
  mute(muted: boolean): void;
  setRate(rate: number): void;
  play(frame: AudioFrame): void;
  flush(): void;
  stop(): Promise<void>;
}

export declare class VoxhallError extends Error {
  code: string;
  close: number | null;
  constructor(code: string, message: string, close?: number | null);
}

export declare class Timers {
  set(name: string, ms: number, run: () => void): void;
  has(name: string): boolean;
  clear(...names: string[]): void;
}

export declare const BACKOFF: { baseMs: number; factor: number; capMs: number };

export declare class Backoff {
  constructor(options?: { baseMs?: number; factor?: number; capMs?: number; random?: () => number });
  readonly attempts: number;
  readonly ceilingMs: number;
  next(): number;
  reset(): void;
}

/** MessagePack, as much of it as JSON can say, and bytes. */
export declare function encode(value: unknown): Uint8Array;
export declare function decode(bytes: Uint8Array): unknown;

/** The number of an event in its room's history; null if it has none. */
export declare function roomSeq(event: ServerEvent): number | null;

/** The sample rate that a session speaks. */
export declare function sessionRate(session: unknown, fallback?: number): number;
