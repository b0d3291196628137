// MessagePack, as much of it as JSON can say, and bytes. Whole numbers keep their value up to 2^53.

// A server may be told to take what is nested 512 deep (`limits.json_depth_max`), and tells it inside an event of its own.
const DEPTH_MAX = 640;
const TWO_32 = 2 ** 32;

/// The bytes of a value. What JSON leaves out (`undefined`, functions) is left out of maps, and what it has no number for is
/// null, as there.
export function encode(value) {
  const writer = new Writer();
  writer.value(value, 0);
  return writer.bytes.slice(0, writer.at);
}

class Writer {
  bytes = new Uint8Array(256);
  view = new DataView(this.bytes.buffer);
  at = 0;

  room(count) {
    if (this.at + count <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.at + count));
    larger.set(this.bytes);
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }

  /// A marker and a number of `size` bytes.
  head(marker, size, number) {
    this.room(1 + size);
    this.bytes[this.at] = marker;
    if (size === 1) this.view.setUint8(this.at + 1, number);
    else if (size === 2) this.view.setUint16(this.at + 1, number);
    else if (size === 4) this.view.setUint32(this.at + 1, number);
    this.at += 1 + size;
  }

  value(value, depth) {
    if (depth > DEPTH_MAX) throw new RangeError('a value is nested too deeply for MessagePack');
    if (value === null || isNothing(value)) this.head(0xc0, 0);
    else if (typeof value === 'boolean') this.head(value ? 0xc3 : 0xc2, 0);
    else if (typeof value === 'number') this.number(value);
    else if (typeof value === 'string') this.text(value);
    else if (value instanceof Uint8Array) this.binary(value);
    else if (Array.isArray(value)) this.array(value, depth);
    else if (typeof value === 'object') this.map(value, depth);
    else throw new TypeError(`MessagePack has no form for a ${typeof value}`);
  }

  number(value) {
    if (!Number.isFinite(value)) this.head(0xc0, 0);
    else if (!Number.isSafeInteger(value) || Object.is(value, -0)) this.float(value);
    else if (value >= 0) this.positive(value);
    else this.negative(value);
  }

  float(value) {
    this.head(0xcb, 0);
    this.room(8);
    this.view.setFloat64(this.at, value);
    this.at += 8;
  }

  positive(value) {
    if (value < 0x80) this.head(value, 0);
    else if (value < 0x100) this.head(0xcc, 1, value);
    else if (value < 0x10000) this.head(0xcd, 2, value);
    else if (value < TWO_32) this.head(0xce, 4, value);
    else this.wide(0xcf, value);
  }

  negative(value) {
    if (value >= -0x20) this.head(value & 0xff, 0);
    else if (value >= -0x80) this.head(0xd0, 1, value);
    else if (value >= -0x8000) this.head(0xd1, 2, value);
    else if (value >= -0x80000000) this.head(0xd2, 4, value);
    else this.wide(0xd3, value);
  }

  wide(marker, value) {
    this.head(marker, 4, Math.floor(value / TWO_32));
    this.room(4);
    this.view.setUint32(this.at, value >>> 0);
    this.at += 4;
  }

  text(value) {
    const bytes = new TextEncoder().encode(value);
    const { length } = bytes;
    if (length < 0x20) this.head(0xa0 | length, 0);
    else if (length < 0x100) this.head(0xd9, 1, length);
    else if (length < 0x10000) this.head(0xda, 2, length);
    else this.head(0xdb, 4, length);
    this.raw(bytes);
  }

  binary(bytes) {
    const { length } = bytes;
    if (length < 0x100) this.head(0xc4, 1, length);
    else if (length < 0x10000) this.head(0xc5, 2, length);
    else this.head(0xc6, 4, length);
    this.raw(bytes);
  }

  raw(bytes) {
    this.room(bytes.length);
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  array(values, depth) {
    this.count(values.length, 0x90, 0xdc);
    for (const value of values) this.value(value, depth + 1);
  }

  map(object, depth) {
    const plain = typeof object.toJSON === 'function' ? object.toJSON() : object;
    if (plain === null || typeof plain !== 'object' || Array.isArray(plain)) {
      this.value(plain, depth + 1);
      return;
    }
    const entries = Object.entries(plain).filter(([, value]) => !isNothing(value));
    this.count(entries.length, 0x80, 0xde);
    for (const [key, value] of entries) {
      this.text(key);
      this.value(value, depth + 1);
    }
  }

  count(length, short, long) {
    if (length < 0x10) this.head(short | length, 0);
    else if (length < 0x10000) this.head(long, 2, length);
    else this.head(long + 1, 4, length);
  }
}

/// What JSON does not have at all.
function isNothing(value) {
  return value === undefined || typeof value === 'function' || typeof value === 'symbol';
}

/// Every value that lies in these bytes, one after the other. Throws when the last one is not whole.
export function decodeAll(bytes) {
  const reader = new Reader(bytes);
  const values = [];
  while (reader.at < bytes.length) values.push(reader.value(0));
  return values;
}

/// The one value of these bytes.
export function decode(bytes) {
  const values = decodeAll(bytes);
  if (values.length !== 1) throw new RangeError(`${values.length} values where one was to be`);
  return values[0];
}

class Reader {
  at = 0;

  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /// Where the next `count` bytes begin.
  skip(count) {
    const from = this.at;
    if (from + count > this.bytes.length) throw new RangeError('a MessagePack value ends too early');
    this.at += count;
    return from;
  }

  size(bytes) {
    const from = this.skip(bytes);
    if (bytes === 1) return this.view.getUint8(from);
    return bytes === 2 ? this.view.getUint16(from) : this.view.getUint32(from);
  }

  value(depth) {
    if (depth > DEPTH_MAX) throw new RangeError('a MessagePack value is nested too deeply');
    const marker = this.size(1);
    if (marker < 0x80) return marker;
    if (marker < 0x90) return this.map(marker & 0x0f, depth);
    if (marker < 0xa0) return this.array(marker & 0x0f, depth);
    if (marker < 0xc0) return this.text(marker & 0x1f);
    if (marker >= 0xe0) return marker - 0x100;
    return this.marked(marker, depth);
  }

  marked(marker, depth) {
    switch (marker) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.binary(this.size(1 << (marker - 0xc4)));
      case 0xca:
        return this.view.getFloat32(this.skip(4));
      case 0xcb:
        return this.view.getFloat64(this.skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.size(1 << (marker - 0xcc));
      case 0xcf:
        return this.size(4) * TWO_32 + this.size(4);
      case 0xd0:
        return this.view.getInt8(this.skip(1));
      case 0xd1:
        return this.view.getInt16(this.skip(2));
      case 0xd2:
        return this.view.getInt32(this.skip(4));
      case 0xd3:
        return this.view.getInt32(this.skip(4)) * TWO_32 + this.size(4);
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.text(this.size(1 << (marker - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.array(this.size(2 << (marker - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return this.map(this.size(2 << (marker - 0xde)), depth);
      default:
        throw new RangeError(`0x${marker.toString(16)} begins no value that JSON could have`);
    }
  }

  binary(length) {
    const from = this.skip(length);
    return Uint8Array.from(this.bytes.subarray(from, from + length));
  }

  text(length) {
    const from = this.skip(length);
    return new TextDecoder('utf-8', { fatal: true }).decode(this.bytes.subarray(from, from + length));
  }

  array(length, depth) {
    const values = [];
    for (let i = 0; i < length; i += 1) values.push(this.value(depth + 1));
    return values;
  }

  map(length, depth) {
    const object = {};
    for (let i = 0; i < length; i += 1) {
      const key = this.value(depth + 1);
      // A plain assignment to `__proto__` would change the object instead of filling it.
      Object.defineProperty(object, String(key), { value: this.value(depth + 1), enumerable: true, configurable: true, writable: true });
    }
    return object;
  }
}
