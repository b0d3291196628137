// Faults in plain language. Every sentence says what happened and, where there is one, what to do.

/// What a close code or status means to the person in front of the page; `words` are the server's.
export function closeReason(code, words) {
  const said = words ? ` The server said: “${words}”.` : '';
  switch (code) {
    case 1000:
      return 'The server ended the session.';
    case 1001:
      return 'The server is shutting down or restarting.';
    case 1002:
    case 1003:
    case 1007:
      return `The server did not understand what this page sent (code ${code}).${said}`;
    case 1008:
    case 401:
    case 403:
      return `The server does not allow this connection: the token may have expired, or this place was taken by a newer connection.${said}`;
    case 1009:
      return 'A message was too big for the server.';
    case 1011:
      return `Something went wrong on the server.${said}`;
    case 1012:
      return 'The server is restarting.';
    case 429:
    case 503:
    case 1013:
      return 'The server is overloaded, or this connection was too slow to keep up.';
    default:
      return 'The connection was lost, or the server cannot be reached.';
  }
}

/// When the page comes back by itself; `inMs` is not known at first.
export function tryingAgain(attempt, inMs) {
  if (inMs === null || inMs < 1000) return 'Trying again…';
  return `Trying again in ${Math.ceil(inMs / 1000)} s${attempt > 2 ? ` (attempt ${attempt})` : ''}…`;
}

/// Why there is no microphone. The page goes on without one: it can still listen and write.
export function microphoneReason(error) {
  const onwards = 'You can still listen and write.';
  if (!window.isSecureContext) {
    return `Browsers give the microphone only to pages on https or on localhost. Open this page through one of them. ${onwards}`;
  }
  switch (error?.name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return `The microphone was refused. Allow it in the address bar of the browser, then reconnect. ${onwards}`;
    case 'NotFoundError':
    case 'OverconstrainedError':
      return `No microphone was found. Plug one in, then reconnect. ${onwards}`;
    case 'NotReadableError':
    case 'AbortError':
      return `The microphone is there but another program holds it. ${onwards}`;
    default:
      return `The microphone could not be opened (${error?.message ?? error}). ${onwards}`;
  }
}

export const ENGINE_HINTS = {
  parrot: 'Waits until you pause, then says it back.',
  relay: 'Passes your voice to the others in the room. Open a second tab to hear it.',
  echo: 'Returns every 20 ms at once, for measuring. Wear headphones.',
};

export const STATES = {
  idle: 'Not connected',
  connecting: 'Connecting…',
  open: 'Connected',
  waiting: 'Reconnecting…',
  closed: 'Disconnected',
};

export function seconds(value) {
  return `${value.toFixed(value < 10 ? 2 : 1)} s`;
}
