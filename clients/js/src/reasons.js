// Why a connection ended, and whether it makes sense to come back.

// Codes of a client that leaves of its own accord: between 4000 and 4999.
export const LEAVING_DRAINED = 4001;
export const LEAVING_UNREADABLE = 4002;
export const LEAVING_SILENT = 4003;
export const LEAVING_TOO_FAST = 4004;

export class VoxhallError extends Error {
  /// `code` is for programs, the message for people; `close` is the close code or HTTP status where there was one.
  constructor(code, message, close = null) {
    super(message);
    this.name = 'VoxhallError';
    this.code = code;
    this.close = close;
  }
}

// Whether to come back, what to call it, what it means.
const CLOSE_CODES = {
  1000: [false, 'closed', 'the server ended the session'],
  1001: [true, 'draining', 'the server is going away and asks to come back'],
  1002: [false, 'protocol_error', 'the server did not understand what was sent'],
  1003: [false, 'unsupported_data', 'the server does not take this kind of message'],
  1007: [false, 'bad_data', 'the server could not read what was sent'],
  1008: [false, 'policy', 'the server does not allow this connection'],
  1009: [false, 'too_big', 'a message was too big for the server'],
  1011: [true, 'server_fault', 'something went wrong on the server'],
  1012: [true, 'restarting', 'the server restarts'],
  1013: [true, 'overloaded', 'the server is overloaded, or this connection was too slow'],
};
const LOST = [true, 'connection_lost', 'the connection was lost'];

/// Which kind of policy it was, as the server's words tell.
const POLICIES = [
  [/replaced/i, 'replaced'],
  [/expired/i, 'token_expired'],
];

/// `{again, code, message, close, words}` of a close code and the server's words. Who can get a fresh token
/// (`canRefresh`) comes back after the old one has expired.
export function afterClose(close, words = '', canRefresh = false) {
  const [again, code, meaning] = CLOSE_CODES[close] ?? LOST;
  const message = words ? `${meaning}: ${words}` : meaning;
  const policy = close === 1008 ? POLICIES.find(([pattern]) => pattern.test(words)) : undefined;
  if (!policy) return { again, code, message, close, words };
  return { again: policy[1] === 'token_expired' && canRefresh, code: policy[1], message, close, words };
}

const STATUSES = {
  400: 'bad_request',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_served',
  405: 'not_served',
  429: 'too_many',
  503: 'unavailable',
};

/// The same of an HTTP status.
export function afterStatus(status, words, canRefresh = false) {
  const code = STATUSES[status] ?? (status >= 500 ? 'unavailable' : 'refused');
  const again = status === 408 || status === 429 || status >= 500 || (status === 401 && canRefresh);
  return { again, code, message: `the server refused the connection with ${status}${words ? `: ${words}` : ''}`, close: status, words };
}
