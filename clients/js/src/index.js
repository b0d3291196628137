// The Voxhall client. Licensed under MIT or Apache-2.0, at your choice.

export { BACKOFF, Backoff } from './backoff.js';
export { Voxhall } from './client.js';
export { decode, encode } from './msgpack.js';
export { roomSeq } from './position.js';
export { VoxhallError } from './reasons.js';
export { Sound, sessionRate } from './sound.js';
export { Timers } from './timers.js';
import './worklet.js';
