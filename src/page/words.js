// Faults in plain language. Every sentence says what happened and, where there is one, what to do.

/// What a close code means to the person in front of the page, and whether coming back by itself makes sense.
export function closeReason(code, reason, wasOpen) {
  const said = reason ? ` The server said: “${reason}”.` : '';
  switch (code) {
    case 1000:
      return { text: 'You left the room.', retry: false };
    case 1001:
      return { text: 'The server is shutting down or restarting and asks everyone to come back in a moment.', retry: true };
    case 1002:
    case 1003:
    case 1007:
      return { text: `The server did not understand what this page sent (code ${code}).${said}`, retry: false };
    case 1008:
      return { text: `The server does not allow this connection: the token may have expired, or this place was taken by a newer connection.${said}`, retry: false };
    case 1009:
      return { text: 'A message was too big for the server.', retry: false };
    case 1011:
      return { text: `Something went wrong on the server.${said}`, retry: true };
    case 1012:
      return { text: 'The server is restarting.', retry: true };
    case 1013:
      return { text: 'The server is overloaded, or this connection was too slow to keep up. It asks to try again later.', retry: true };
    default:
      if (wasOpen) return { text: 'The connection was lost.', retry: true };
      return { text: 'The server cannot be reached, or it refused the connection. Is it running, and is this the right address?', retry: false };
  }
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
