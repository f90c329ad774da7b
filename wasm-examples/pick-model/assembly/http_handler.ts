// What an http-wasm host gives to its guests, as far as pick-model needs it; https://http-wasm.io/http-handler-abi/ has
// the rest. The host reads and writes this module's memory: a buffer travels as its address and length.

@external("http_handler", "enable_features")
declare function enable_features(features: u32): u32;
@external("http_handler", "get_config")
declare function get_config(buffer: usize, limit: u32): u32;
@external("http_handler", "log")
declare function host_log(level: i32, text: usize, length: u32): void;
@external("http_handler", "set_header_value")
declare function set_header_value(kind: u32, name: usize, nameLength: u32, value: usize, valueLength: u32): void;
@external("http_handler", "read_body")
declare function read_body(kind: u32, buffer: usize, limit: u32): u64;
@external("http_handler", "write_body")
declare function write_body(kind: u32, content: usize, length: u32): void;

const request: u32 = 0;
const response: u32 = 1;
const bufferRequest: u32 = 1;
const piece: i32 = 65536;

export const debug: i32 = -1;
export const info: i32 = 0;
export const error: i32 = 2;

export function log(level: i32, message: string): void {
  const text = String.UTF8.encode("pick-model: " + message);
  host_log(level, changetype<usize>(text), text.byteLength);
}

// refuse ends the instance, and with it the request that it may be busy with.
export function refuse(message: string): void {
  log(error, message);
  unreachable();
}

// keepBodies asks the host to pass on what is read of a request's body.
export function keepBodies(): void {
  if ((enable_features(bufferRequest) & bufferRequest) == 0) refuse("the host does not buffer requests");
}

export function configuration(): Uint8Array {
  const text = new Uint8Array(get_config(0, 0)); // with no room the host tells the length alone
  get_config(text.dataStart, text.length);
  return text;
}

let body = new Uint8Array(piece); // used again for each request, and as large as the largest so far

// readBody returns the whole body of the request. It is good until the next call.
export function readBody(): Uint8Array {
  let length = 0;
  let result: u64 = 0;
  while (result >> 32 == 0) { // until the host says that this was the end
    if (body.length - length < piece) {
      const larger = new Uint8Array(body.length * 2);
      memory.copy(larger.dataStart, body.dataStart, length);
      body = larger;
    }
    result = read_body(request, body.dataStart + length, piece);
    length += <i32>result;
  }
  return body.subarray(0, length);
}

// writeBody replaces the request's body at the first call, and appends to it at the next.
export function writeBody(text: Uint8Array, start: i32, end: i32): void {
  write_body(request, text.dataStart + start, end - start);
}

export function setResponseHeader(name: string, value: string): void {
  const n = String.UTF8.encode(name);
  const v = String.UTF8.encode(value);
  set_header_value(response, changetype<usize>(n), n.byteLength, changetype<usize>(v), v.byteLength);
}
